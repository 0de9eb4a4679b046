"""`mopl draw`: weights to serve, with what must be logged."""

from pathlib import Path

from mopl_jax.cli import show
from mopl_jax.cli.options import DOCUMENT, FORCE, argument, check_output, float64, option, takes

CONTEXT = "Of a policy by context: the request that the draws are for, country=DE,platform=app."
OUT = "Parquet or CSV file for the draws; without it they are printed as CSV."


@takes(
    policy=argument(Path, "POLICY", "Policy (JSON), for instance one that mopl learn wrote."),
    n=option(int, "How many draws.", 1),
    context=option(str, CONTEXT, metavar="COLUMN=VALUE,…"),
    seed=option(int, "The same seed gives the same draws; without one they are new."),
    out=option(Path, OUT),
    force=FORCE,
    as_json=DOCUMENT,
)
def draw(policy, n, context, seed, out, force, as_json):
    """Draw weights from a policy, with the log densities that a server must log.

    One row a draw: the weights by their names, and log_propensity, the log
    density under the policy. Serve the weights, log both, and mopl check and
    mopl evaluate read the log as it is. Of weights that depend on the context
    the draws are for one request; its columns are in the table as well, and
    to be logged. A value left empty is missing; what the policy does not know
    is drawn what it has for all others.
    """
    float64()
    check_output(out, [policy], force)
    from mopl_jax.io import draws

    table = draws.draw(policy, n, seed, _request(context))
    if out is not None:
        draws.write(out, table)
    if as_json:
        show.print_json({"policy": str(policy), "draws": table.to_pylist()})
    elif out is None:
        print(draws.as_csv(table), end="")


def _request(text):
    """The values of columns by their names; None for None."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise ValueError(f"--context: expected COLUMN=VALUE, …, as country=DE; got {text!r}")
    return {name.strip(): value for name, _, value in pairs}

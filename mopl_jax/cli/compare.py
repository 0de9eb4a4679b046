"""`mopl compare`: how much more several policies would have earned, all intervals at once."""

from pathlib import Path
from typing import Annotated

import typer

from mopl_jax.cli import options, show
from mopl_jax.cli.evaluate import REFUSED


def compare(
    log: options.Log,
    policies: Annotated[
        list[Path],
        typer.Argument(
            metavar="POLICY…",
            help="Policies (JSON); the first is what the others are compared to.",
        ),
    ],
    bandwidth: Annotated[
        float | None, typer.Option(help="Smoothing of deterministic policies.")
    ] = None,
    reward: options.Reward = None,
    action: options.Action = None,
    propensity: options.Propensity = None,
    log_propensity: options.LogPropensity = None,
    logging: options.Logging = None,
    cluster: options.Cluster = None,
    estimator: options.Estimator = "snips",
    alpha: options.Alpha = 0.05,
    interval: Annotated[
        str | None, typer.Option(help="One made of sums over rows.", show_default="ess_skew")
    ] = None,
    in_memory: options.InMemory = 1_000_000,
    as_json: options.Json = False,
) -> None:
    """Which policy would have earned more? Differences to the first policy, with simultaneous intervals.

    The policy named logging is the one that was logging: mopl compare LOG logging NEW.json.
    Each difference is estimated on the same rows, so that what the policies share cancels.
    All intervals hold at once with probability 1 − alpha (max-t over the candidates).

    Exit code 0: done, perhaps with warnings. 3: a verdict is refuse.
    """  # noqa: E501
    from mopl_jax.evaluation.comparison import compare as verb

    options.float64()
    roles = {"reward": reward, "action": action, "propensity": propensity}
    reader = options.read(
        log, log_propensity=log_propensity, logging=logging, cluster=cluster, **roles
    )
    made = verb(
        reader,
        policies,
        bandwidth=bandwidth,
        estimator=estimator,
        alpha=alpha,
        interval=interval or "ess_skew",
        in_memory=in_memory,
        watch=options.watched(reader, as_json),
    )
    if as_json:
        options.print_json(made.to_dict())
    else:
        _show(made)
    if any(row.verdict == "refuse" for row in made.policies):
        raise typer.Exit(REFUSED)


def _show(made) -> None:
    console = show.console()
    about = f"{show.rows(made.n, made.units)}, values by {made.estimator}"
    console.print(f"{about}, intervals {made.interval}\n")
    console.print(_table(made))
    k = len(made.policies) - 1
    if k > 1:
        console.print(
            f"all {k} differences hold at once with {1 - made.alpha:.6g}: each is at "
            f"1 − {made.alpha_each:.4f} (max-t; Bonferroni would be 1 − {made.alpha / k:.4f})"
        )
    for row in made.policies:
        for text in row.reasons:
            console.print(f"{row.policy}: {row.verdict}: {text}", style="yellow")


def _table(made):
    """What a decision rests on first: the differences and the verdicts."""
    first, nominal = f"− {made.policies[0].policy}"[:14], f"{1 - made.alpha:.6g} interval"
    table = show.table("policy", first, "all at once", "verdict", "value", nominal, "ESS")
    table.columns[0].no_wrap, table.columns[0].max_width = False, 18
    for row in made.policies:
        change = row.difference
        cells = ("", "") if change is None else (f"{change.value:+.4g}", _ends(change))
        value, ess = show.number(row.value, "{:.5g}", "undefined"), show.count(row.ess)
        table.add_row(row.policy, *cells, row.verdict, value, _ends(row), ess)
    return table


def _ends(row) -> str:
    return f"[{row.lower:.4g}, {row.upper:.4g}]".replace("inf", "∞")

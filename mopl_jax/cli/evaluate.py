"""`mopl evaluate`: what another policy would have earned, and whether to believe it."""

import math
from pathlib import Path
from typing import Annotated

import typer

from mopl_jax.cli import options, show

REFUSED = 3  # exit code


def evaluate(
    log: options.Log,
    target: Annotated[
        Path | None, typer.Option(help="Target policy (JSON).", show_default=False)
    ] = None,
    bandwidth: Annotated[
        str | None,
        typer.Option(
            help="Smoothing of a deterministic target: a standard deviation, or auto (Lepski)."
        ),
    ] = None,
    reward: options.Reward = None,
    action: options.Action = None,
    propensity: options.Propensity = None,
    log_propensity: options.LogPropensity = None,
    target_propensity: Annotated[
        str | None,
        typer.Option(
            help="Column: density of the logged action under the target, ≥ 0; instead of --target."
        ),
    ] = None,
    log_densities: Annotated[
        bool, typer.Option("--log-densities", help="Both columns hold log densities.")
    ] = False,
    logging: options.Logging = None,
    cluster: options.Cluster = None,
    estimator: options.Estimator = "snips",
    alpha: options.Alpha = 0.05,
    interval: Annotated[
        list[str] | None,
        typer.Option(help="Interval name; repeat for several. Default: recommended and normal."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every interval that needs only rows, with its meaning.")
    ] = False,
    reward_range: options.Range = None,
    w_max: Annotated[
        float | None, typer.Option(help="Largest importance weight; known for two normal policies.")
    ] = None,
    d2: Annotated[
        float | None, typer.Option(help="Its second moment; known for two normal policies.")
    ] = None,
    in_memory: options.InMemory = 1_000_000,
    as_json: options.Json = False,
) -> None:
    """What would another policy have earned? Value, intervals, effective sample size, a verdict.

    The importance weights (target density over propensity) should have mean
    1; densities may be probabilities. With --cluster, the independent unit is
    the user. An infinite end of an interval claims nothing on that side.

    Exit code 0: done, perhaps with warnings. 3: the verdict is refuse; the
    numbers are printed, and should not be used.
    """
    from mopl_jax.evaluation.evaluation import FIRST
    from mopl_jax.evaluation.evaluation import evaluate as verb
    from mopl_jax.intervals.registry import WALD

    options.float64()
    names = [*FIRST[:1], *WALD] if every else []
    kind = "log_" if log_densities else ""
    densities = {f"{kind}propensity": propensity, f"{kind}target_propensity": target_propensity}
    roles = {"log_propensity": log_propensity, "logging": logging, "cluster": cluster}
    given = {name: column for name, column in densities.items() if column}
    reader = options.read(log, reward=reward, action=action, **(roles | given))
    made = verb(
        reader,
        target,
        bandwidth=bandwidth,
        estimator=estimator,
        alpha=alpha,
        interval=[*names, *(interval or [])] or None,
        reward_range=options.reward_range(reward_range),
        w_max=w_max,
        d2=d2,
        in_memory=in_memory,
        watch=options.watched(reader, as_json),
    )
    if as_json:
        options.print_json(made.to_dict())
    else:
        _show(made)
    if made.verdict == "refuse":
        raise typer.Exit(REFUSED)


def _show(made) -> None:
    """The value, its interval and the verdict with its reasons; then the details."""
    console = show.console()
    console.print(
        f"[bold]{number(made.value)}[/]  value of the target policy by {made.estimator}, "
        f"{show.rows(made.n, made.units)}\n"
    )
    if made.bandwidth:
        chosen = ", ".join(f"{h:.3g}" for h in made.bandwidth)
        console.print(f"smoothed by bandwidth {chosen} (Lepski; intervals hold for all at once)\n")
    console.print(interval_table(made.intervals, made.alpha))
    console.print(f"verdict: [bold {show.STYLES[made.verdict]}]{made.verdict}[/]")
    for text in made.reasons:
        console.print(f"  {text}", highlight=False)
    for text in made.warnings:
        console.print(f"warning: {text}", style="yellow")
    sizes = made.ess
    console.print(
        f"\neffective sample size {sizes.kish:,.1f} = {sizes.fraction:.1%} of {made.units:,} "
        f"(max_weight {sizes.max_weight:,.1f}, perplexity {sizes.perplexity:,.1f}, "
        f"reward_aware {sizes.reward_aware:,.1f})"
    )
    console.print(_mean_line(made.mean_weight))
    if not math.isnan(made.unseen):
        console.print(
            f"unseen {made.unseen:.2%}: of the target's actions, those that would outweigh every "
            "logged row"
        )


def _mean_line(check) -> str:
    """The verdict stands here if it is good; a bad one is among the warnings."""
    verdict = "; see above" if check.compatible is False else f": {check.verdict}"
    if math.isnan(check.standard_error):
        return f"mean weight {check.mean:.4g}{verdict}"
    return f"mean weight {check.mean:.4g} ± {check.standard_error:.2g} (z = {check.z:.1f}){verdict}"


def interval_table(intervals, alpha: float):
    """Name, ends and meaning of each interval."""
    nominal = f"nominal coverage {1 - alpha:.6g}; made of"
    table = show.table("interval", "lower", "upper")
    table.add_column(nominal, no_wrap=True)
    for x in intervals:
        table.add_row(x.name, number(x.lower), number(x.upper), _meaning(x.name))
    return table


def number(x: float) -> str:
    """Five digits; ∞ and undefined in words."""
    return show.number(x, "{:.5g}", "undefined")


def _meaning(name: str) -> str:
    """What an interval is made of, in a few words; all of them in docs/intervals.md."""
    import textwrap

    from mopl_jax.intervals.registry import METHODS

    text = METHODS[name].summary
    return textwrap.shorten(
        f"ℓ∞ ESS: {text}" if name.endswith("_max") else text, 56, placeholder=" …"
    )

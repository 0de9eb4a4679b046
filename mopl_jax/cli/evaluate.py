"""`mopl evaluate`: what another policy would have earned, and whether to believe it."""

from pathlib import Path
from typing import Annotated

import typer

from mopl_jax.cli import options


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
        bool,
        typer.Option("--all", help="Every interval that is a formula of sums, with its meaning."),
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
    from mopl_jax.report import evaluation_screen

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
    options.print_json(made.to_dict()) if as_json else evaluation_screen.show(made)
    raise typer.Exit(options.REFUSED if made.verdict == "refuse" else 0)

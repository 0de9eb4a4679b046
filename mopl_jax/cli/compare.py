"""`mopl compare`: how much more several policies would have earned, all intervals at once."""

from pathlib import Path
from typing import Annotated

import typer

from mopl_jax.cli import options


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
    from mopl_jax.report import comparison_screen

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
    options.print_json(made.to_dict()) if as_json else comparison_screen.show(made)
    refused = any(row.verdict == "refuse" for row in made.policies)
    raise typer.Exit(options.REFUSED if refused else 0)

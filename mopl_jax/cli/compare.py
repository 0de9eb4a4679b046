"""`mopl compare`: how much more several policies would have earned than a first one, all intervals
at once.
"""

from pathlib import Path
from typing import Annotated, Any

import jax
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from mopl_jax import intervals
from mopl_jax.cli import options
from mopl_jax.cli.evaluate import REFUSED, number
from mopl_jax.cli.options import check_alpha, choose
from mopl_jax.diagnostics import weight_diagnostics
from mopl_jax.evaluation import evaluation
from mopl_jax.evaluation.targets import read_target
from mopl_jax.intervals.registry import Facts


def compare(
    log: options.Log,
    policies: Annotated[
        list[Path],
        typer.Argument(
            metavar="POLICY…", help="Policies (JSON); the first is what the others are compared to."
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
    in_memory: options.InMemory = evaluation.IN_MEMORY,
    as_json: options.Json = False,
) -> None:
    """Which policy would have earned more? Differences to the first policy, with simultaneous
    intervals.

    The policy named logging is the one that was logging: mopl compare LOG logging NEW.json.
    Each difference is estimated on the same rows, so that what the policies share cancels.
    All intervals hold at once with probability 1 − alpha (max-t over the candidates).

    Exit code 0: done, perhaps with warnings. 3: a verdict is refuse.
    """
    jax.config.update("jax_enable_x64", True)
    roles = {
        "reward": reward,
        "action": action,
        "propensity": propensity,
        "log_propensity": log_propensity,
    }
    reader = options.read(log, logging=logging, cluster=cluster, **roles)
    report = comparison(
        reader, policies, bandwidth, estimator, alpha, interval or "ess_skew", in_memory, as_json
    )
    if as_json:
        options.print_json(report)
    else:
        _show(report, Console(width=100))
    if any(row["verdict"] == "refuse" for row in report["policies"]):
        raise typer.Exit(REFUSED)


def comparison(
    reader: Any,
    policies: Any,
    bandwidth: float | None = None,
    estimator: str = "snips",
    alpha: float = 0.05,
    interval: str = "ess_skew",
    in_memory: int = evaluation.IN_MEMORY,
    quiet: bool = True,
) -> dict[str, Any]:
    """What `mopl compare` says, as plain Python: a row for each policy, with its difference to
    the first.

    `policies` are policies, paths of them, or "logging". ValueError as for `evaluate_file`.
    """
    check_alpha(alpha)
    choose([interval], intervals.WALD, "interval for differences")
    targets = [_target(reader, policy, bandwidth) for policy in policies]
    if len(targets) < 2:
        raise ValueError(
            "expected at least two policies to compare; logging is the name of the one that was"
            " logging"
        )
    found, contrasts, correlation = evaluation.gather(
        reader, targets, estimator, in_memory=in_memory, watch=options.watched(reader, quiet)
    )
    level = evaluation.simultaneous_alpha(correlation, alpha)
    names = [policy.stem if isinstance(policy, Path) else str(policy) for policy in policies]
    rows = [_row(name, each, interval, alpha) for name, each in zip(names, found, strict=True)]
    for row, contrast in zip(rows[1:], contrasts, strict=True):
        alone, together = (
            evaluation.limits(contrast, [interval], a, Facts())[0] for a in (alpha, level)
        )
        row["difference"] = {
            "value": float(contrast.value),
            "lower": together.lower,
            "upper": together.upper,
            "alone": {"lower": alone.lower, "upper": alone.upper},
            "ess": float(contrast.diagnosis.kish),
        }
    about = {"estimator": estimator, "interval": interval, "alpha": alpha, "alpha_each": level}
    return about | {"n": found[0].n, "units": found[0].units, "policies": rows}


def _target(reader, policy, bandwidth):
    if str(policy) == evaluation.LOGGING:
        return evaluation.LOGGING
    return read_target(reader, policy, bandwidth, only_deterministic=False)


def _row(name, evidence, interval, alpha):
    (ends,) = evaluation.limits(evidence, [interval], alpha, Facts())
    d = evidence.diagnosis
    return {
        "policy": name,
        "value": float(evidence.value),
        "lower": ends.lower,
        "upper": ends.upper,
        "ess": float(d.kish),
        "mean_weight": float(d.mean_weight),
        "verdict": weight_diagnostics.VERDICTS[int(d.verdict)],
        "reasons": weight_diagnostics.reasons(d, evidence.units),
    }


def _show(report, console):
    units = "" if report["units"] == report["n"] else f", {report['units']:,} clusters"
    console.print(
        f"values by {report['estimator']}, intervals {report['interval']}, n ="
        f" {report['n']:,}{units}\n"
    )
    console.print(_table(report))
    k = len(report["policies"]) - 1
    if k > 1:
        console.print(
            f"all {k} differences hold at once with {1 - report['alpha']:.6g}: each is at 1 −"
            f" {report['alpha_each']:.4f} (max-t; Bonferroni would be 1 −"
            f" {report['alpha'] / k:.4f})"
        )
    for row in report["policies"]:
        for text in row["reasons"]:
            console.print(
                f"{row['policy']}: {row['verdict']}: {text}", style="yellow", highlight=False
            )


def _table(report):
    first = report["policies"][0]["policy"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("policy", overflow="fold", max_width=18)
    for header in (
        "value",
        f"{1 - report['alpha']:.6g} interval",
        "ESS",
        f"− {first}"[:14],
        "all at once",
        "verdict",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    for row in report["policies"]:
        change = row.get("difference")
        cells = ["", ""] if change is None else [f"{change['value']:+.4g}", _ends(change)]
        table.add_row(
            row["policy"],
            number(row["value"]),
            _ends(row),
            f"{row['ess']:,.0f}",
            *cells,
            row["verdict"],
        )
    return table


def _ends(row):
    return f"[{row['lower']:.4g}, {row['upper']:.4g}]".replace("inf", "∞")

"""`mopl evaluate`: what another policy would have earned, from a log with propensities; and whether
to believe it.
"""

import functools
import inspect
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from mopl_jax import intervals
from mopl_jax.cli import options
from mopl_jax.cli.options import check_alpha, choose
from mopl_jax.diagnostics import verdicts, weight_diagnostics
from mopl_jax.evaluation import evaluation
from mopl_jax.evaluation.targets import BANDWIDTHS, choose_target
from mopl_jax.intervals.registry import Facts, policy_facts
from mopl_jax.io import log_reader
from mopl_jax.io.policy_json import finite
from mopl_jax.policies.gaussian import Gaussian

__all__ = ["evaluate", "evaluate_file", "finite"]

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
        typer.Option(help="Interval name; repeat for several. Default: all that need only rows."),
    ] = None,
    reward_range: options.Range = None,
    w_max: Annotated[
        float | None, typer.Option(help="Largest importance weight; known for two normal policies.")
    ] = None,
    d2: Annotated[
        float | None, typer.Option(help="Its second moment; known for two normal policies.")
    ] = None,
    in_memory: options.InMemory = evaluation.IN_MEMORY,
    as_json: options.Json = False,
) -> None:
    """What would another policy have earned? Value, intervals, effective sample size, a verdict.

    The importance weights (target density over propensity) should have mean
    1; densities may be probabilities. With --cluster, the independent unit is
    the user. An infinite end of an interval claims nothing on that side.

    Exit code 0: done, perhaps with warnings. 3: the verdict is refuse; the
    numbers are printed, and should not be used.
    """
    jax.config.update("jax_enable_x64", True)
    report = evaluate_file(
        log,
        target=target,
        bandwidth=bandwidth,
        reward=reward,
        action=action,
        propensity=propensity,
        log_propensity=log_propensity,
        target_propensity=target_propensity,
        log_densities=log_densities,
        logging=logging,
        cluster=cluster,
        estimator=estimator,
        alpha=alpha,
        interval=interval,
        reward_range=options.reward_range(reward_range),
        w_max=w_max,
        d2=d2,
        in_memory=in_memory,
        quiet=as_json,
    )
    if as_json:
        options.print_json(report)
    else:
        _show(report, Console(width=100))
    if report["verdict"] == "refuse":
        raise typer.Exit(REFUSED)


def evaluate_file(
    log: Any,
    *,
    target: Any = None,
    bandwidth: str | float | None = None,
    propensity: str | None = None,
    target_propensity: str | None = None,
    log_densities: bool = False,
    estimator: str = "snips",
    alpha: float = 0.05,
    interval: Sequence[str] | None = None,
    reward_range: tuple[float, float] | None = None,
    w_max: float | None = None,
    d2: float | None = None,
    in_memory: int = evaluation.IN_MEMORY,
    quiet: bool = True,
    **roles: Any,
) -> dict[str, Any]:
    """What `mopl evaluate` says about a log, as plain Python; infinite ends are ±inf (`finite`
    makes them None).

    `log` as in `read.open_log`, `roles` its columns; `target` a policy or the path of one.
    ValueError for an unknown name, alpha outside (0, 1), or a log that cannot be read. Precision
    is the caller's: float64 under `jax_enable_x64`.
    """
    check_alpha(alpha)
    choose([estimator], evaluation.ESTIMATORS, "estimator")
    choose(interval or (), intervals.NAMED | intervals.INFORMED, "interval")
    if (target is None) == (target_propensity is None):
        raise ValueError(
            "expected a target: either --target POLICY.json or --target-propensity COLUMN"
        )
    kind = "log_" if log_densities else ""
    densities = {f"{kind}propensity": propensity, f"{kind}target_propensity": target_propensity}
    reader = options.read(
        log, **(roles | {name: column for name, column in densities.items() if column})
    )
    reader = reader._replace(reward_range=reward_range)
    policy, selected = (
        (None, None)
        if target is None
        else choose_target(reader, target, bandwidth, estimator, alpha)
    )
    level = alpha / len(BANDWIDTHS) if selected else alpha
    facts = _facts(reader, policy, reward_range, w_max, d2)
    names = _names(interval)
    evaluation.check_intervals(reader, names, facts, in_memory)
    found, _, _ = evaluation.gather(
        reader,
        [policy],
        estimator,
        reward_range or evaluation.WHOLE_LINE,
        in_memory,
        options.watched(reader, quiet),
    )
    report = _report(found[0], estimator, alpha, level, names, facts)
    extra = [_no_logs(reader)] if log_densities else []
    report["warnings"] += [text for text in extra if text]
    return report | ({"bandwidth": selected} if selected else {})


def _names(asked):
    first = [name for name in ("recommended",) if name in intervals.INFORMED]
    return list(dict.fromkeys(asked or [*first, *intervals.NAMED]))


def _facts(reader, policy, reward_range, w_max, d2):
    """Facts about the pair hold for rows, not for users."""
    if reader.columns.cluster is not None and (w_max is not None or d2 is not None):
        raise ValueError(
            "--w-max, --d2: expected a log without --cluster: they bound the weight of a row, not"
            " of a user"
        )
    known = Facts(reward_range)
    if (
        reader.columns.cluster is None
        and reader.logging is not None
        and isinstance(policy, Gaussian)
    ):
        known = policy_facts(reader.logging, policy, reward_range)
    given = {"w_max": w_max, "d2": d2}
    for name, value in given.items():
        if value is not None and not value >= 1:
            raise ValueError(
                f"--{name.replace('_', '-')}: expected a number of at least 1, got {value}"
            )
    chosen = {
        name: getattr(known, name) if value is None else jnp.asarray(value)
        for name, value in given.items()
    }
    return Facts(reward_range, **chosen)


# The report.


def _report(evidence, estimator, alpha, level, names, facts):
    evaluation.check_facts(evidence, names, facts)
    ends = evaluation.limits(evidence, names, level, facts)
    entries = [
        {"name": name, "lower": x.lower, "upper": x.upper}
        for name, x in zip(names, ends, strict=True)
    ]
    check, d = verdicts.mean_weight(evidence), evidence.diagnosis
    sizes = {
        name: float(getattr(d, name))
        for name in ("kish", "max_weight", "perplexity", "reward_aware")
    }
    return {
        "value": float(evidence.value),
        "estimator": estimator,
        "n": evidence.n,
        "units": evidence.units,
        "alpha": alpha,
        "ess": sizes | {"fraction": sizes["kish"] / evidence.units},
        "mean_weight": check,
        "pareto_k": float(d.pareto_k),
        "unseen": float(d.unseen),
        "intervals": entries,
        **_verdict(evidence, facts),
        "warnings": verdicts.warnings(evidence, entries, check),
    }


def _verdict(evidence, facts):
    """The diagnosis; and rewards that are all equal tell nothing, unless a range says what they
    could have been.
    """
    d = evidence.diagnosis
    verdict, reasons = int(d.verdict), weight_diagnostics.reasons(d, evidence.units)
    if evidence.unusual == 0:
        verdict = max(verdict, 2 if facts.reward_range is None else 1)
        reasons = [*reasons, "all rewards are equal: nothing is known of how they vary"]
    return {"verdict": weight_diagnostics.VERDICTS[verdict], "reasons": reasons}


def _no_logs(reader):
    """A guess from the first rows."""
    rows = next(log_reader.chunks(reader, 10_000))
    columns = [column for column in (rows.log_propensity, rows.log_target) if column is not None]
    inside = all(np.all((column >= 0) & (column <= 1)) for column in columns)
    return (
        "all log densities are between 0 and 1: if they are densities, drop --log-densities"
        if inside
        else None
    )


# Showing.


def _show(report, console):
    value, n, sizes = report["value"], report["n"], report["ess"]
    units = "" if report["units"] == n else f", {report['units']:,} clusters"
    console.print(
        f"[bold]{number(value)}[/]  value of the target policy by {report['estimator']}, n ="
        f" {n:,}{units}\n"
    )
    if "bandwidth" in report:
        chosen = ", ".join(f"{h:.3g}" for h in report["bandwidth"])
        console.print(
            f"smoothed by bandwidth {chosen} (Lepski; intervals hold for all {len(BANDWIDTHS)} at"
            " once)\n"
        )
    console.print(interval_table(report["intervals"], report["alpha"]))
    console.print(
        f"effective sample size {sizes['kish']:,.1f} = {sizes['fraction']:.1%} of"
        f" {report['units']:,} (max_weight {sizes['max_weight']:,.1f}, perplexity"
        f" {sizes['perplexity']:,.1f}, reward_aware {sizes['reward_aware']:,.1f})"
    )
    console.print(_mean_line(report["mean_weight"]))
    if not math.isnan(report["unseen"]):
        console.print(
            f"unseen {report['unseen']:.2%}: of the target's actions, those that would outweigh"
            " every logged row"
        )
    for text in report["warnings"]:
        console.print(f"warning: {text}", style="yellow")
    style = {"trust": "green", "caution": "yellow", "refuse": "red"}[report["verdict"]]
    console.print(f"verdict: [bold {style}]{report['verdict']}[/]")
    for text in report["reasons"]:
        console.print(f"  {text}", highlight=False)


def _mean_line(check):
    """The verdict stands here if it is good; a bad one is among the warnings."""
    verdict = "; see below" if check["compatible"] is False else f": {check['verdict']}"
    if math.isnan(check["standard_error"]):
        return f"mean weight {check['mean']:.4g}{verdict}"
    return (
        f"mean weight {check['mean']:.4g} ± {check['standard_error']:.2g} (z ="
        f" {check['z']:.1f}){verdict}"
    )


def interval_table(entries: Sequence[dict[str, Any]], alpha: float) -> Table:
    """Name, ends and meaning of each interval."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("interval", no_wrap=True)
    table.add_column("lower", justify="right", no_wrap=True)
    table.add_column("upper", justify="right", no_wrap=True)
    table.add_column(f"nominal coverage {1 - alpha:.6g}; made of", no_wrap=True)
    for entry in entries:
        table.add_row(
            entry["name"], number(entry["lower"]), number(entry["upper"]), _meaning(entry["name"])
        )
    return table


def number(x: float) -> str:
    """Five digits; ∞ and undefined in words."""
    if math.isnan(x):
        return "undefined"
    return f"{x:.5g}" if math.isfinite(x) else ("∞" if x > 0 else "-∞")


def _meaning(name):
    """First line of the docstring of the function behind the interval."""
    function: Callable = (
        intervals.NAMED[name] if name in intervals.NAMED else intervals.INFORMED[name].function
    )
    function = getattr(function, "formula", function)
    while isinstance(function, functools.partial):
        function = function.func
    text = (inspect.getdoc(function) or "").split("\n")[0]
    return textwrap.shorten(
        f"ℓ∞ ESS: {text}" if name.endswith("_max") else text, 56, placeholder=" …"
    )

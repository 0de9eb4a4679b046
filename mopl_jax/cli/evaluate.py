"""`mopl evaluate`: what another policy would have earned, from a log with propensities; and whether to believe it."""

import functools
import inspect
import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import typer
from jaxtyping import Array, Float
from rich import box
from rich.console import Console
from rich.table import Table

from mopl_jax import ess, estimators, intervals
from mopl_jax.cli.options import check_alpha, choose
from mopl_jax.estimators import Estimate
from mopl_jax.intervals.interval import IntervalFunction, Wald, together
from mopl_jax.tables import LogTable, read_log

FEW = 50  # effective rows; below it `normal` covers 0.92 or less where 0.95 is nominal (reference world, d = 10)
RARE = 10  # rewards that differ from the usual one: the rule of thumb for a nearly normal proportion
SUSPICIOUS = 3  # standard errors between the mean weight and 1
NOISY = 0.25  # standard error of the mean weight at which a factor of 1.7 in the densities would pass
TOLERANCE = 1e-3  # of the mean weight: less is rounding of the densities in the file, and of no consequence
EXACT = 1e-12  # of the mean weight: less is rounding of exp and log


def evaluate(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="One row per decision: .parquet or .csv.")],
    reward: Annotated[str, typer.Option(help="Column of the reward.", show_default=False)],
    propensity: Annotated[
        str,
        typer.Option(help="Column: density of the logged action under the logging policy, > 0.", show_default=False),
    ],
    target_propensity: Annotated[
        str, typer.Option(help="Column: density of the logged action under the target policy, ≥ 0.", show_default=False)
    ],
    log_densities: Annotated[bool, typer.Option("--log-densities", help="Both columns hold log densities.")] = False,
    estimator: Annotated[str, typer.Option(help="snips, ips, beta_ips.")] = "snips",
    alpha: Annotated[float, typer.Option(help="One minus the nominal coverage.")] = 0.05,
    interval: Annotated[list[str] | None, typer.Option(help="Interval name; repeat for several. Default: all.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, nothing else; infinite ends are null.")
    ] = False,
) -> None:
    """What would another policy have earned? Value, intervals, effective sample size, a check of the weights.

    Densities may be probabilities. The importance weights (target density
    over propensity) should have mean 1; the report says so if they do not.
    An infinite end of an interval claims nothing on that side; it is null in
    the JSON document, as is whatever else has no finite value.
    """
    jax.config.update("jax_enable_x64", True)
    report = evaluate_file(
        log, reward=reward, propensity=propensity, target_propensity=target_propensity,
        log_densities=log_densities, estimator=estimator, alpha=alpha, interval=interval,
    )  # fmt: skip
    if as_json:
        print(json.dumps(finite(report), allow_nan=False))
    else:
        _show(report, Console(width=100))


def evaluate_file(
    path: Path,
    *,
    reward: str,
    propensity: str,
    target_propensity: str,
    log_densities: bool = False,
    estimator: str = "snips",
    alpha: float = 0.05,
    interval: Sequence[str] | None = None,
) -> dict[str, Any]:
    """What `mopl evaluate` says about a log file, as plain Python; infinite ends are ±inf (`finite` makes them None).

    Keys: value, estimator, n, alpha, ess, mean_weight, intervals (a list of name, lower, upper), warnings. ValueError
    for an unknown name, alpha outside (0, 1), or a log that cannot be read. Precision is the caller's: float64 under
    `jax_enable_x64`.
    """
    check_alpha(alpha)
    choose([estimator], estimators.NAMED, "estimator")
    names = choose(list(dict.fromkeys(interval or intervals.NAMED)), intervals.NAMED, "interval")
    log = read_log(
        path, reward=reward, propensity=propensity, target_propensity=target_propensity, log_densities=log_densities
    )
    found = _measured(log, estimator, names, alpha)
    report = {"value": found["value"], "estimator": estimator, "n": len(log.reward), "alpha": alpha}
    report |= {key: found[key] for key in ("ess", "mean_weight", "intervals")}
    return report | {"warnings": warnings(log, report, log_densities)}


def finite(value: Any) -> Any:
    """`value` with None for every float that is not finite: JSON has no infinity."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# The numbers.


def _measured(log, estimator, names, alpha):
    limits = tuple(intervals.NAMED[name] for name in names)
    arrays = jnp.asarray(log.log_weight), jnp.asarray(log.reward)
    numbers = measure(*arrays, estimator=estimators.NAMED[estimator], limits=limits, alpha=alpha)
    numbers = jax.tree.map(float, jax.device_get(numbers))
    numbers["mean_weight"] |= judge(**numbers["mean_weight"])
    ends = zip(names, numbers["intervals"], strict=True)
    return numbers | {"intervals": [{"name": name, "lower": low, "upper": high} for name, (low, high) in ends]}


@functools.partial(jax.jit, static_argnames=("estimator", "limits", "alpha"))
def measure(
    log_weight: Float[Array, " n"],
    reward: Float[Array, " n"],
    *,
    estimator: Callable[..., Estimate],
    limits: tuple[IntervalFunction, ...],
    alpha: float,
) -> dict[str, Any]:
    """Value, effective sample sizes, mean weight and the ends of the intervals `limits`: one compiled function."""
    estimate = estimator(log_weight, reward)
    return {
        "value": estimate.value,
        "ess": effective_sizes(estimate),
        "mean_weight": mean_weight(log_weight),
        "intervals": [(end.lower, end.upper) for end in _ends(estimate, limits, alpha)],
    }


def _ends(estimate, limits, alpha):
    """Wald intervals share one Student quantile, which is most of the compile time; the others stand alone."""
    pivots = [limit.pivot(estimate) for limit in limits if isinstance(limit, Wald)]
    shared = iter(together(pivots, alpha) if pivots else ())
    return [next(shared) if isinstance(limit, Wald) else limit(estimate, alpha) for limit in limits]


def effective_sizes(estimate: Estimate) -> dict[str, Float[Array, ""]]:
    """The family of effective sample sizes, and Kish's as a fraction of n."""
    log_weight = estimate.log_weight
    return {
        "kish": ess.kish(log_weight),
        "max_weight": ess.max_weight(log_weight),
        "perplexity": ess.perplexity(log_weight),
        "reward_aware": ess.reward_aware(log_weight, estimate.residual),
        "fraction": ess.kish(log_weight) / log_weight.shape[0],
    }


def mean_weight(log_weight: Float[Array, " n"]) -> dict[str, Float[Array, ""]]:
    """Mean of w, its standard error, and z = (mean − 1) / standard error: E w = 1 where the logger covers the target.

    The first weight is subtracted before averaging: equal weights then have a standard error of exactly zero.
    """
    w = jnp.exp(log_weight)
    n = w.shape[0]
    shift = jnp.mean(w - w[0])
    mean = jnp.where(jnp.any(jnp.isinf(w)), jnp.inf, w[0] + shift)
    variance = jnp.sum(jnp.square(w - w[0] - shift)) / max(n - 1, 1)
    error = jnp.sqrt(variance / n) if n > 1 else jnp.full_like(mean, jnp.nan)
    gap = jnp.where(jnp.abs(mean - 1) <= EXACT, 0, mean - 1)
    return {"mean": mean, "standard_error": error, "z": jnp.where(gap == 0, 0, gap / error)}


# What they mean.


def judge(mean: float, standard_error: float, z: float) -> dict[str, Any]:
    """Whether the importance weights are `compatible` with mean 1 (None: cannot be told), and a sentence, `verdict`."""
    if not math.isfinite(mean):
        return _judgement(False, "the weights overflow: the densities are not normalised; only snips can be used")
    if math.isnan(standard_error):
        return _judgement(None, "one row: the mean of the weights cannot be checked")
    if abs(z) > SUSPICIOUS and abs(mean - 1) > TOLERANCE:
        cover = ", or the logger does not cover the target" if mean < 1 else ""
        return _judgement(False, f"should be 1 and is not: the propensities or the target densities are wrong{cover}")
    if standard_error > NOISY:
        return _judgement(True, "compatible with 1, but so noisy that wrong densities could go unnoticed")
    return _judgement(True, "compatible with 1, as it should be")


def _judgement(compatible, verdict):
    return {"compatible": compatible, "verdict": verdict}


def warnings(log: LogTable, report: Mapping[str, Any], log_densities: bool = False) -> list[str]:
    """Reasons to distrust the report, or why it claims nothing; one sentence each."""
    found = (
        _few_rows(report["ess"]["kish"]) or _nothing_claimed(log, report) or _rare_rewards(log),
        _wrong_mean(report["mean_weight"]),
        _no_logs(log) if log_densities else None,
    )
    return [text for text in found if text]


def _few_rows(size):
    if size == 0:
        return "no overlap: the target can play no logged action; the value means nothing, intervals are the whole line"
    if size <= 1 / (1 - ess.ONE_ROW):
        return "one row has all the weight (ESS = 1): no variance can be estimated, intervals are the whole line"
    if size < 2:
        return f"fewer than two effective rows (ESS = {size:.2f}): trust no interval, however narrow"
    if size < FEW:
        return (
            f"few effective rows (ESS = {size:.1f}): normal, hc2, ess_bessel cover too rarely; see ess_exact, ess_safe"
        )
    return None


def _nothing_claimed(log, report):
    names = [entry["name"] for entry in report["intervals"] if not math.isfinite(entry["upper"] - entry["lower"])]
    if not names:
        return None
    if np.ptp(_weighted_rewards(log)) == 0:
        return "all rewards are equal: no variance can be estimated, intervals made of one are the whole line"
    return f"no finite interval from {', '.join(names)}"


def _rare_rewards(log):
    rewards = _weighted_rewards(log)
    rare = np.count_nonzero(rewards != np.median(rewards))
    few = f"only {rare} rewards differ from the usual one: intervals made of a variance cover too rarely"
    return few if rare < RARE else None


def _weighted_rewards(log):
    return log.reward[log.log_target > -np.inf]


def _wrong_mean(check):
    return f"mean weight {check['mean']:.4g}: {check['verdict']}" if check["compatible"] is False else None


def _no_logs(log):
    inside = all(np.all((0 <= values) & (values <= 1)) for values in (log.log_propensity, log.log_target))
    return "all log densities are between 0 and 1: if they are densities, drop --log-densities" if inside else None


# Showing.


def _show(report, console):
    value, n, sizes = report["value"], report["n"], report["ess"]
    console.print(f"[bold]{_number(value)}[/]  value of the target policy by {report['estimator']}, n = {n:,}\n")
    console.print(_interval_table(report["intervals"], report["alpha"]))
    console.print(
        f"effective sample size {sizes['kish']:,.1f} = {sizes['fraction']:.1%} of n "
        f"(max_weight {sizes['max_weight']:,.1f}, perplexity {sizes['perplexity']:,.1f}, "
        f"reward_aware {sizes['reward_aware']:,.1f})"
    )
    console.print(_mean_line(report["mean_weight"]))
    for text in report["warnings"]:
        console.print(f"warning: {text}", style="yellow")


def _mean_line(check):
    """The verdict stands here if it is good; a bad one is among the warnings."""
    verdict = "; see below" if check["compatible"] is False else f": {check['verdict']}"
    return f"mean weight {check['mean']:.4g} ± {check['standard_error']:.2g} (z = {check['z']:.1f}){verdict}"


def _interval_table(entries, alpha):
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("interval", no_wrap=True)
    table.add_column("lower", justify="right", no_wrap=True)
    table.add_column("upper", justify="right", no_wrap=True)
    table.add_column(f"nominal coverage {1 - alpha:.6g}; made of", no_wrap=True)
    for entry in entries:
        table.add_row(entry["name"], _number(entry["lower"]), _number(entry["upper"]), _meaning(entry["name"]))
    return table


def _number(x):
    if math.isnan(x):
        return "undefined"
    return f"{x:.5g}" if math.isfinite(x) else ("∞" if x > 0 else "-∞")


def _meaning(name):
    """First line of the docstring of the function behind the interval."""
    function = getattr(intervals.NAMED[name], "formula", intervals.NAMED[name])
    while isinstance(function, functools.partial):
        function = function.func
    text = (inspect.getdoc(function) or "").split("\n")[0]
    return textwrap.shorten(f"ℓ∞ ESS: {text}" if name.endswith("_max") else text, 56, placeholder=" …")

"""`mopl evaluate`: what another policy would have earned, from a log with its propensities; and whether to believe it."""

import functools
import inspect
import json
import math
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
from mopl_jax.intervals.interval import IntervalFunction
from mopl_jax.tables import LogTable, read_log

FEW = 50  # effective rows: below, `normal` covers less than 0.92 of a nominal 0.95 in the reference world (MATH, d = 10)
RARE = 10  # rewards that differ from the usual one: the rule of thumb for a nearly normal proportion
SUSPICIOUS = 3  # standard errors between the mean weight and 1
TOLERANCE = 1e-3  # of the mean weight: less is rounding of the densities in the file, and of no consequence
EXACT = 1e-12  # of the mean weight: less is rounding of exp and log


def evaluate(
    log: Annotated[Path, typer.Argument(help="Log, one row per decision: .parquet or .csv.", show_default=False)],
    reward: Annotated[str, typer.Option(help="Column of the reward.", show_default=False)],
    propensity: Annotated[
        str, typer.Option(help="Column: density of the logged action under the logging policy, > 0.", show_default=False)
    ],
    target_propensity: Annotated[
        str, typer.Option(help="Column: density of the logged action under the target policy, ≥ 0.", show_default=False)
    ],
    log_densities: Annotated[bool, typer.Option("--log-densities", help="Both columns hold log densities.")] = False,
    estimator: Annotated[str, typer.Option(help="snips, ips, beta_ips.")] = "snips",
    alpha: Annotated[float, typer.Option(help="One minus the nominal coverage.")] = 0.05,
    interval: Annotated[list[str] | None, typer.Option(help="Interval name; repeat for several. Default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")] = False,
) -> None:
    """What would another policy have earned? Value, intervals, effective sample size, a check of the weights.

    Density may also mean probability. The importance weights (target density over propensity) should have mean 1; the
    check says so when they do not. In --json, null is what has no finite number: an infinite end of an interval (null
    and null: the whole line, nothing is claimed) or an undefined value.
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
    """All that `mopl evaluate` says about a log file, as plain Python; infinite ends are ±inf, `finite` makes them None.

    Keys: value, estimator, n, alpha, ess, mean_weight, intervals (a list of name, lower, upper), warnings. ValueError
    for an unknown name, alpha outside (0, 1), or a log that cannot be read.
    """
    check_alpha(alpha)
    choose([estimator], estimators.NAMED, "estimator")
    names = choose(list(dict.fromkeys(interval or intervals.NAMED)), intervals.NAMED, "interval")
    columns = {"reward": reward, "propensity": propensity, "target_propensity": target_propensity}
    log = read_log(path, **columns, log_densities=log_densities)
    return _report(log, estimator, alpha, names) | {"warnings": []} if False else _judged(
        log, _report(log, estimator, alpha, names), log_densities
    )

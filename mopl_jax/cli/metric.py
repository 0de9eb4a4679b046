"""`mopl metric`: the combination of metrics that would have told past experiments' winners most
clearly.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mopl_jax.cli.options import check_alpha, choose
from mopl_jax.io import storage
from mopl_jax.io.policy_json import finite
from mopl_jax.metrics import experiments, objectives, validation

Names = list[str] | None
_LEGEND = (
    "held out: each experiment is judged by a metric learnt without it. agreement: sign right ·"
    " power, type II: significant with the right sign, or not at all · type III: significant with"
    " the wrong sign · p: median one-sided p-value"
)


def metric(
    tables: Annotated[
        list[Path],
        typer.Argument(metavar="EXPERIMENTS...", help="Experiments table: .parquet or .json."),
    ],
    north_star: Annotated[
        str, typer.Option(help="The metric that the others stand for.", show_default=False)
    ],
    objective: Annotated[str, typer.Option(help=f"One of {', '.join(objectives.NAMED)}.")] = "gls",
    compare: Annotated[
        bool, typer.Option("--compare", help="Also validate every other objective.")
    ] = False,
    l1: Annotated[
        float,
        typer.Option(help="Penalty on the sum of |weights|; more is sparser. Not for gls, proxy."),
    ] = 0.0,
    positive: Annotated[
        Names, typer.Option(help="Metric whose weight may not be negative; repeat for several.")
    ] = None,
    negative: Annotated[
        Names, typer.Option(help="Metric whose weight may not be positive; repeat for several.")
    ] = None,
    with_north_star: Annotated[
        bool, typer.Option("--with-north-star", help="Let the North Star itself enter the metric.")
    ] = False,
    alpha: Annotated[
        float, typer.Option(help="Level of the two-sided tests in the validation.")
    ] = 0.05,
    out: Annotated[Path | None, typer.Option(help="Write the metric here, as JSON.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, nothing else.")
    ] = False,
) -> None:
    """Learn a sensitive metric from past A/B tests, and check it on experiments held out.

    The table has one row for each experiment and arm: experiment, arm,
    label (control; winner, loser, aa, unknown), n, mean_NAME for each
    metric, covariance (over users) or second_moment. The metric has unit
    standard deviation over users and excludes the North Star by default.
    """
    jax.config.update("jax_enable_x64", True)
    check_alpha(alpha)
    history = experiments.read(tables, north_star)
    chosen = _objective(objective, history.names, l1, positive, negative)
    others = {
        name: value for name, value in objectives.NAMED.items() if compare and name != objective
    }
    told = Console(stderr=True)
    with Progress(
        console=told, transient=True, disable=as_json or not told.is_terminal
    ) as progress:
        tried = {objective: chosen, **others}
        report = learnt(
            history,
            tried,
            with_north_star,
            alpha,
            functools.partial(progress.track, description="validating"),
        )
    about = {"l1": l1, "provenance": storage.provenance(tables=[path.name for path in tables])}
    if out is not None:
        stored = {
            key: value
            for key, value in report.items()
            if key not in ("metrics", "weights", "compared")
        }
        experiments.write_metric(out, history.names, np.array(report["weights"]), stored | about)
    if as_json:
        print(json.dumps(finite(report | about), allow_nan=False, default=str))
    else:
        _show(report, Console(width=100))


def learnt(
    history: objectives.History,
    tried: dict[str, objectives.Objective],
    with_north_star: bool,
    alpha: float,
    track: Callable[[Any], Iterable] = iter,
) -> dict[str, Any]:
    """What `mopl metric` says, as plain Python; the first objective is the one asked for, the rest
    are `compared`.
    """
    _check(history)
    allowed = objectives.signals_only(history) | with_north_star
    name, objective = next(iter(tried.items()))
    weights = objectives.learn(history, objective, allowed=allowed)
    if not np.any(weights):
        raise ValueError(
            f"objective {name!r}: every weight is zero; lower --l1, loosen signs or try another"
            " objective"
        )
    judged = {
        name: dataclasses.asdict(validation.validate(history, objective, allowed, alpha))
        for name, objective in track(list(tried.items()))
    }
    spread = np.sqrt(np.diagonal(history.user_covariance))
    report = {
        "metrics": list(history.names),
        "weights": [float(w) for w in weights],
        "standard_weights": [float(w) for w in weights * spread],
        "north_star": history.names[history.north_star],
        "objective": name,
        "alpha": alpha,
        "north_star_per_unit": float(objectives.exchange_rate(weights, history)),
        "proxy_quality": float(np.median(objectives.proxy_quality(weights, history))),
        "validation": judged[name],
        "compared": judged,
    }
    return report | {"warnings": _warnings(report["validation"], int(allowed.sum()), alpha)}


def _check(history):
    """ValueError unless there is something to learn from and something left to check it on."""
    known = np.asarray(history.experiment)[np.asarray(history.sign) != 0]
    if len(set(known.tolist())) < 2:
        raise ValueError(
            f"expected a known winner in at least two experiments, got {len(set(known.tolist()))};"
            " label winner or loser where the outcome is known"
        )
    if len(history.names) < 2:
        raise ValueError(
            f"expected metrics besides the North Star, got only mean_{history.names[0]}; add"
            " columns mean_NAME"
        )


def _objective(name, names, l1, positive, negative):
    choose([name], objectives.NAMED, "objective")
    positive, negative = (
        choose(some or [], dict.fromkeys(names), "metric") for some in (positive, negative)
    )
    if both := set(positive) & set(negative):
        raise ValueError(
            f"--positive and --negative: expected different metrics, got {', '.join(both)} in both"
        )
    if not (np.isfinite(l1) and l1 >= 0):
        raise ValueError(f"--l1: expected a number ≥ 0, got {l1}")
    if name in objectives.CLOSED:
        if l1 or positive or negative:
            raise ValueError(
                f"--l1, --positive, --negative: expected one of {', '.join(objectives.LOSSES)}, got"
                f" {name}"
            )
        return objectives.CLOSED[name]
    signs = tuple((n in positive) - (n in negative) for n in names)
    return objectives.descent(objectives.LOSSES[name], l1=l1, signs=signs)


def _warnings(found, k, alpha):
    """Reasons to distrust the metric; one sentence each."""
    texts = []
    if found["known"] < 3 * k:
        texts.append(
            f"{found['known']} known winners for {k} metrics: fewer than three a metric, expect"
            " overfitting"
        )
    if found["metric"]["type_iii"] > found["north_star"]["type_iii"] + alpha / 2:
        texts.append(
            "the metric contradicts known winners significantly more often than the North Star does"
        )
    if found["false_positives_low"] > alpha:
        texts.append(
            "A/A tests are significant too often: the covariances are too small, or users are not"
            " independent"
        )
    if found["nulls"] == 0:
        texts.append("no A/A test in the table: the false-positive rate was not checked")
    return texts


# Showing.


def _show(report, console):
    console.print(_weights_table(report))
    console.print(_errors_table(report))
    console.print(_LEGEND + "\n", style="dim")
    console.print(_factor_line(report["validation"]))
    console.print(_quality_line(report))
    if len(report["compared"]) > 1:
        console.print(_comparison(report["compared"]))
    for text in report["warnings"]:
        console.print(f"warning: {text}", style="yellow")


def _weights_table(report):
    rows = sorted(
        zip(report["metrics"], report["weights"], report["standard_weights"], strict=True),
        key=lambda row: -abs(row[2]),
    )
    table = _table(f"metric ({report['objective']})", "weight", "× its standard deviation")
    for name, weight, standard in rows:
        table.add_row(
            name, f"{weight:.4g}" if weight else "0", f"{standard:+.3f}" if standard else "0"
        )
    return table


def _errors_table(report):
    found = report["validation"]
    table = _table(
        f"{found['known']} known winners, held out",
        "agreement",
        "power",
        "type II",
        "type III",
        "p",
    )
    for label, key in (
        ("learnt metric", "metric"),
        (report["north_star"], "north_star"),
        ("both, Bonferroni", "tandem"),
    ):
        table.add_row(label, *_error_cells(found[key]))
    return table


def _comparison(compared: dict[str, dict[str, Any]]):
    table = _table("objective", "agreement", "power", "type II", "type III", "p", "factor ± SE")
    for name, found in compared.items():
        table.add_row(
            name,
            *_error_cells(found["metric"]),
            f"{found['factor']:.2f} ± {found['factor_se']:.2f}",
        )
    return table


def _error_cells(errors) -> Sequence[str]:
    shares = (f"{errors[key]:.1%}" for key in ("agreement", "power", "type_ii", "type_iii"))
    return *shares, f"{errors['median_p']:.2g}"


def _factor_line(found):
    saved = (
        f"the North Star needs {found['factor']:.2f} ± {found['factor_se']:.2f} times the metric's"
        f" users for the same mean z (median experiment: {found['median_factor']:.2f} ±"
        f" {found['median_factor_se']:.2f})"
    )
    if not found["nulls"]:
        return saved
    return (
        f"{saved}\n{found['nulls']} A/A differences: {found['false_positives']:.1%} significant, 95"
        f" % interval {found['false_positives_low']:.1%} to {found['false_positives_high']:.1%}"
    )


def _quality_line(report):
    return (
        f"its effects correlate {report['proxy_quality']:.2f} with the North Star's true effects"
        f" (proxy quality, median); one unit of effect is {report['north_star_per_unit']:.4g} of"
        f" {report['north_star']}"
    )


def _table(*columns):
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    return table

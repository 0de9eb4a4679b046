"""The figure of a coverage study: coverage and width of each interval against the logged rows.

Tidy rows of `coverage.results` and an `Axes` in, the `Axes` out.
"""

import math
import operator
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mopl_jax.coverage.sample_size import sample_size_ratio, smallest_n
from mopl_jax.io.files import write_atomically
from mopl_jax.report.style import STYLE, save

Rows = Sequence[dict[str, Any]]

PANEL = operator.itemgetter("world", "d", "estimand")
MOST_PANELS = 12  # a study of hundreds of cells is read from its table and its results file
LOOKS = {  # colour and line of each interval, the same in every figure
    "normal": ("#000000", "-"),
    "ess_bessel": ("#56B4E9", "-"),
    "ess_rescaled": ("#999999", "--"),
    "ess_kish": ("#E69F00", "-"),
    "ess_student": ("#0072B2", "-"),
    "ess_exact": ("#D55E00", "-"),
    "ess_safe": ("#009E73", "-"),
    "hc3": ("#CC79A7", ":"),
    "recommended": ("#CC79A7", "-"),
}


def coverage_curves(ax: Axes, rows: Rows, intervals: Iterable[str] = LOOKS) -> Axes:
    """Coverage against n (log axis), one line per interval, with the Monte-Carlo (Wilson 95 %)
    band.
    """
    for name, some in _by_interval(rows, intervals):
        colour, line = LOOKS.get(name, (None, "-"))
        n = [row["n"] for row in some]
        share = [row["coverage"] for row in some]
        drawn = ax.plot(n, share, line, color=colour, label=name, linewidth=1.5)
        band = [row["coverage_low"] for row in some], [row["coverage_high"] for row in some]
        ax.fill_between(n, *band, color=drawn[0].get_color(), alpha=0.18, linewidth=0)
    ax.axhline(1 - rows[0]["alpha"], color="black", linewidth=0.7, linestyle=(0, (4, 3)))
    return _log_n(ax, "coverage")


def width_curves(ax: Axes, rows: Rows, intervals: Iterable[str] = LOOKS) -> Axes:
    """Median width over the oracle's (a normal interval that knows the estimator's standard
    deviation) against n.
    """
    for name, some in _by_interval(rows, intervals):
        colour, line = LOOKS.get(name, (None, "-"))
        drawn = [
            (row["n"], row["width_ratio"]) for row in some if math.isfinite(row["width_ratio"])
        ]
        if drawn:
            ax.plot(*zip(*drawn, strict=True), line, color=colour, label=name, linewidth=1.5)
    ax.axhline(1, color="black", linewidth=0.7, linestyle=(0, (4, 3)))
    ax.set_yscale("log", base=2)
    ax.set_ylim(0.2, 20)
    ax.set_yticks([0.25, 0.5, 1, 2, 4, 8, 16], ["¼", "½", "1", "2", "4", "8", "16"])
    return _log_n(ax, "median width / oracle width")


def annotate_ratio(ax: Axes, rows: Rows, interval: str = "ess_exact", level: float = 0.94) -> Axes:
    """An arrow from the n at which `normal` starts to hold `level` to that of `interval`, with the
    sample-size ratio.
    """
    columns = dict(_by_interval(rows, ["normal", interval]))
    if len(columns) < 2 or (reached := smallest_n(columns[interval], level)) is None:
        return ax
    ratio, exact = sample_size_ratio(columns["normal"], columns[interval], level)
    y, where = 0.09, ax.get_xaxis_transform()
    ax.annotate(
        "",
        (reached, y),
        (reached * ratio, y),
        where,
        arrowprops={"arrowstyle": "<->", "linewidth": 1},
    )
    label = f"{interval}: {'' if exact else '≥ '}{ratio:,.0f}× fewer rows"
    ax.text(reached, y - 0.02, label, transform=where, ha="left", va="top", fontsize=8)
    return ax


def draw(rows: Rows, intervals: Iterable[str] = LOOKS) -> Figure:
    """Coverage above width, one column for each world and estimand: the first `MOST_PANELS`, by the
    first estimator.
    """
    rows = [row for row in rows if row["estimator"] == rows[0]["estimator"]]
    panels = list(dict.fromkeys(map(PANEL, rows)))[:MOST_PANELS]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2,
            len(panels),
            figsize=(2.9 * len(panels) + 1.2, 5.4),
            sharex="col",
            sharey="row",
            squeeze=False,
        )
        for (above, below), panel in zip(axes.T, panels, strict=True):
            some, (world, d, estimand) = [row for row in rows if PANEL(row) == panel], panel
            annotate_ratio(coverage_curves(above, some, intervals), some)
            above.set_ylim(min(0.8, min(row["coverage"] for row in rows) - 0.15), 1.02)
            width_curves(below, some, intervals)
            above.set_title(f"{world}, d = {d}\n{estimand}")
            above.set_xlabel("")
        for ax in axes[:, 1:].flat:
            ax.set_ylabel("")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 8))
    return figure


def write(folder: Path, rows: Rows) -> None:
    """coverage.png and coverage.svg in `folder`."""
    for suffix in ("png", "svg"):
        write_atomically(folder / f"coverage.{suffix}", lambda path: save(draw(rows), path))


def _by_interval(rows, names):
    for name in names:
        some = sorted((row for row in rows if row["interval"] == name), key=lambda row: row["n"])
        if some:
            yield name, some


def _log_n(ax, label):
    ax.set_xscale("log", base=2)
    ax.set_xlabel("logged rows n")
    ax.set_ylabel(label)
    return ax

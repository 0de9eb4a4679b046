"""Rows needed to certify a step, by logging policy and dimension; and the scale of exploration that
costs least.
"""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import DASHED, column, results

COLOURS = {2: "#56B4E9", 5: "#0072B2", 10: "#D55E00", 20: "#CC79A7"}
LINES: dict[str, tuple[Any, str]] = {
    "normal": ("-", "normal logging N(0, I)"),
    "uniform": ("--", "uniform box, same variance"),
    "densest": (":", "normal, scale of most ESS"),
}
INSIDE = 0.95  # of the target in the box: with less, uniform logging answers another question
MARKERS = {"normal": "o", "uniform": "s", "densest": "^"}
OFFSETS = {5: (14, -16), 10: (-14, 14)}  # of the labels of least regret, points


def draw() -> Figure:
    """Left: closed-form rows as lines, simulated logs as points; right: certified regret, its parts
    and its minimum.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.2))
    _rows(left, results("design"))
    _scale(right, results("design_scale"))
    return figure


def _of(rows, d, kind, inside=INSIDE):
    named = (row for row in rows if (row["d"], row["logging"]) == (d, kind))
    return [row for row in named if row["in_box"] >= inside]


def _rows(ax, rows):
    for d, colour in COLOURS.items():
        for kind, (line, _) in LINES.items():
            some = _of(rows, d, kind)
            ax.plot(*_columns(some, "step", "rows"), line, color=colour, linewidth=1.3)
            seen = [row for row in some if row["rows_normal"] is not None]
            points = _columns(seen, "step", "rows_normal")
            ax.plot(*points, MARKERS[kind], color=colour, markersize=4)
    _log_axes(ax, [0.1, 0.2, 0.5, 1, 2], (3e2, 3e10))
    ax.set_xlabel("length of the step (weight units; gain = 0.1 × length)")
    ax.set_ylabel("rows n to certify the gain with power 80 %")
    handles = [Line2D([], [], color=colour, label=f"d = {d}") for d, colour in COLOURS.items()]
    for kind, (line, label) in LINES.items():
        look = {"color": "black", "linestyle": line, "marker": MARKERS[kind], "markersize": 4}
        handles.append(Line2D([], [], label=label, **look))
    ax.legend(handles=handles, fontsize=7.5, loc="upper left", ncols=2)


def _columns(rows, *names):
    return [column(rows, name) for name in names]


def _log_axes(ax, ticks, limits):
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set_ylim(*limits)


def _scale(ax, rows):
    for d in (5, 10):
        for kind in ("normal", "uniform"):
            _regret(ax, _of(rows, d, kind), d, kind)
        (least,) = _of(rows, d, "least", inside=0)
        _least(ax, least)
    _legend_of_points(ax)
    cost = sorted(_of(rows, 10, "normal", inside=0), key=lambda row: row["scale"])
    look = {"color": "#999999", "linewidth": 1, "label": "d = 10, cost of exploring alone"}
    ax.plot(*_columns(cost, "scale", "cost"), **look)
    _log_axes(ax, [0.3, 0.4, 0.5, 0.7, 1, 1.5, 2], (20, 5e4))
    ax.set_xlim(0.27, 2.1)
    ax.axvline(0.5, **DASHED)
    ax.text(0.49, 380, "weights unbounded:\nlogs hide their error", fontsize=7.5, ha="right")
    ax.set_xlabel(
        "scale s of exploration (standard deviation, weight units);\nuniform: boxes that hold 95 %"
        " of the target"
    )
    ax.set_ylabel("certified regret (reward units, whole horizon)")
    ax.legend(fontsize=6.8, loc="lower right", ncols=2)


def _regret(ax, rows, d, kind):
    """The closed form, and simulated points with their error."""
    label = f"d = {d}, {kind} logging"
    line = {"color": COLOURS[d], "linewidth": 1.4, "label": label}
    ax.plot(*_columns(rows, "scale", "regret"), LINES[kind][0], **line)
    seen = [row for row in rows if row["simulated"] is not None]
    bars = [1.96 * row["simulated_se"] for row in seen]
    look = {"color": COLOURS[d], "markersize": 4, "capsize": 2}
    ax.errorbar(*_columns(seen, "scale", "simulated"), bars, fmt=MARKERS[kind], **look)


def _least(ax, row):
    place = row["scale"], row["regret"]
    ax.plot(*place, "*", color="black", markersize=10, zorder=5)
    look: dict[str, Any] = {"fontsize": 7.5, "color": COLOURS[row["d"]]}
    label = f"s = {row['scale']:.2f}"
    ax.annotate(label, place, OFFSETS[row["d"]], textcoords="offset points", **look)


def _legend_of_points(ax):
    star = {"color": "black", "markersize": 9, "linestyle": "none"}
    ax.plot([], [], "*", label="least regret of any normal scale", **star)
    dot = {"color": "black", "markersize": 4, "capsize": 2}
    ax.errorbar([], [], [], fmt="o", label="simulated, ± 1.96 SE", **dot)

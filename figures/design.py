"""Rows needed to certify a step, by logging policy and dimension; and the scale of exploration that
costs least.
"""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import results

COLOURS = {2: "#56B4E9", 5: "#0072B2", 10: "#D55E00", 20: "#CC79A7"}
LINES: dict[str, tuple[Any, str]] = {
    "normal": ("-", "normal logging N(0, I)"),
    "uniform": ("--", "uniform box, same variance"),
    "densest": (":", "normal, scale of most ESS"),
}
INSIDE = 0.95  # of the target in the box: with less, uniform logging answers another question
MARKERS = {"normal": "o", "uniform": "s", "densest": "^"}


def draw() -> Figure:
    """Left: closed-form rows as lines, simulated logs as points; right: certified regret, its parts
    and its minimum.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.2))
    _rows(left, results("design"))
    _scale(right, results("design_scale"))
    return figure


def _rows(ax, rows):
    for d, colour in COLOURS.items():
        for kind, (line, _) in LINES.items():
            some = [
                row
                for row in rows
                if (row["d"], row["logging"]) == (d, kind) and row["in_box"] >= INSIDE
            ]
            ax.plot(
                [row["step"] for row in some],
                [row["rows"] for row in some],
                line,
                color=colour,
                linewidth=1.3,
            )
            seen = [row for row in some if row["rows_normal"] is not None]
            points = [row["step"] for row in seen], [row["rows_normal"] for row in seen]
            ax.plot(*points, MARKERS[kind], color=colour, markersize=4)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
    ax.minorticks_off()
    ax.set_ylim(3e2, 3e10)
    ax.set_xlabel("length of the step (weight units; gain = 0.1 × length)")
    ax.set_ylabel("rows n to certify the gain with power 80 %")
    handles = [Line2D([], [], color=colour, label=f"d = {d}") for d, colour in COLOURS.items()]
    handles += [
        Line2D(
            [], [], color="black", linestyle=line, marker=MARKERS[kind], markersize=4, label=label
        )
        for kind, (line, label) in LINES.items()
    ]
    ax.legend(handles=handles, fontsize=7.5, loc="upper left", ncols=2)


def _scale(ax, rows):
    for d in (5, 10):
        for kind in ("normal", "uniform"):
            some = [
                row
                for row in rows
                if (row["d"], row["logging"]) == (d, kind) and row["in_box"] >= INSIDE
            ]
            line = LINES[kind][0]
            ax.plot(
                [row["scale"] for row in some],
                [row["regret"] for row in some],
                line,
                color=COLOURS[d],
                linewidth=1.4,
                label=f"d = {d}, {kind} logging",
            )
            seen = [row for row in some if row["simulated"] is not None]
            bars = [1.96 * row["simulated_se"] for row in seen]
            ax.errorbar(
                [row["scale"] for row in seen],
                [row["simulated"] for row in seen],
                bars,
                fmt=MARKERS[kind],
                color=COLOURS[d],
                markersize=4,
                capsize=2,
            )
        (least,) = (row for row in rows if (row["d"], row["logging"]) == (d, "least"))
        ax.plot(least["scale"], least["regret"], "*", color="black", markersize=10, zorder=5)
        offset = {5: (14, -16), 10: (-14, 14)}[d]
        ax.annotate(
            f"s = {least['scale']:.2f}",
            (least["scale"], least["regret"]),
            offset,
            textcoords="offset points",
            fontsize=7.5,
            color=COLOURS[d],
        )
    ax.plot(
        [],
        [],
        "*",
        color="black",
        markersize=9,
        linestyle="none",
        label="least regret of any normal scale",
    )
    ax.errorbar(
        [], [], [], fmt="o", color="black", markersize=4, capsize=2, label="simulated, ± 1.96 SE"
    )
    cost = sorted(
        (row for row in rows if (row["d"], row["logging"]) == (10, "normal")),
        key=lambda row: row["scale"],
    )
    ax.plot(
        [row["scale"] for row in cost],
        [row["cost"] for row in cost],
        color="#999999",
        linewidth=1,
        label="d = 10, cost of exploring alone",
    )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(0.27, 2.1)
    ax.set_xticks([0.3, 0.4, 0.5, 0.7, 1, 1.5, 2], ["0.3", "0.4", "0.5", "0.7", "1", "1.5", "2"])
    ax.minorticks_off()
    ax.set_ylim(20, 5e4)
    ax.axvline(0.5, color="black", linewidth=0.7, linestyle=(0, (4, 3)))
    ax.text(0.49, 380, "weights unbounded:\nlogs hide their error", fontsize=7.5, ha="right")
    ax.set_xlabel(
        "scale s of exploration (standard deviation, weight units);\nuniform: boxes that hold 95 %"
        " of the target"
    )
    ax.set_ylabel("certified regret (reward units, whole horizon)")
    ax.legend(fontsize=6.8, loc="lower right", ncols=2)

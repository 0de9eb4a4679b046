"""Regret against the number of rows, and what the maximised and the certified bound promise beside
the truth.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from figures import results

WORLDS = ("quadratic", "saturating", "bimodal", "ridge")
NOISES = {"metric": "learnt metric", "bit": "retention bit"}
LOOKS = {  # learner: colour, line, marker, label
    "refined": ("#D55E00", "-", "o", "mopl learn"),
    "surface": ("#0072B2", "-", "s", "quadratic response surface"),
    "robust_normal": ("#009E73", "-", "^", "doubly robust, bound"),
    "snips_normal": ("#E69F00", "-", "v", "SNIPS, bound"),
    "snips": ("#999999", "--", "v", "SNIPS, no pessimism"),
    "poem": ("#CC79A7", ":", "D", "POEM"),
    "pois": ("#56B4E9", ":", "D", "POIS"),
}
D = 5


def draw() -> Figure:
    """Above: median regret, learnt metric and retention bit; below: true value of the learnt policy
    and its two bounds.
    """
    rows = [row for row in results("learning") if row["d"] == D]
    figure, axes = plt.subplots(3, len(WORLDS), figsize=(11.5, 8), sharex=True)
    for column, world in zip(axes.T, WORLDS, strict=True):
        for ax, noise in zip(column, NOISES, strict=False):
            _regret(ax, [row for row in rows if (row["world"], row["noise"]) == (world, noise)])
        _bounds(
            column[2],
            [row for row in rows if (row["world"], row["noise"]) == (world, "metric")],
        )
        column[0].set_title(world)
        column[2].set_xlabel("rows learnt from, n")
    for ax, label in zip(
        axes[:, 0],
        [f"median regret, {name}" for name in NOISES.values()] + ["value, learnt metric"],
        strict=True,
    ):
        ax.set_ylabel(label)
    handles = [
        pair
        for ax in (axes[0, 0], axes[2, 0])
        for pair in zip(*ax.get_legend_handles_labels(), strict=True)
    ]
    figure.legend(*zip(*handles, strict=True), loc="outside lower center", ncols=5, fontsize=8)
    return figure


def _series(rows, learner, key):
    some = sorted((row for row in rows if row["learner"] == learner), key=lambda row: row["n"])
    return [row["n"] for row in some], [row[key] for row in some]


def _regret(ax, rows):
    for learner, (colour, line, marker, label) in LOOKS.items():
        ax.plot(
            *_series(rows, learner, "regret"),
            line,
            color=colour,
            marker=marker,
            markersize=3.5,
            label=label,
        )
    low, high = (_series(rows, "refined", f"regret_{end}")[1] for end in ("q10", "q90"))
    ax.fill_between(
        _series(rows, "refined", "regret")[0],
        low,
        high,
        color=LOOKS["refined"][0],
        alpha=0.15,
        linewidth=0,
    )
    _rows_axis(ax, rows)
    ax.axhline(
        rows[0]["nothing"],
        color="black",
        linewidth=0.7,
        linestyle=(0, (4, 3)),
        label="logging mean",
    )
    ax.set_yscale("log")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _bounds(ax, rows):
    for key, colour, line, label in (
        ("smoothed", "black", "-", "true value of the learnt policy (median)"),
        ("bound", "#D55E00", "--", "bound that was maximised"),
        ("certified", "#0072B2", "-", "certified bound"),
    ):
        ax.plot(
            *_series(rows, "refined", key),
            line,
            color=colour,
            marker="o",
            markersize=3.5,
            label=label,
        )
    _rows_axis(ax, rows)


def _rows_axis(ax, rows):
    ax.set_xscale("log")
    ax.minorticks_off()
    sizes = sorted({row["n"] for row in rows})
    ax.set_xticks(sizes, [f"{n:,}" for n in sizes])

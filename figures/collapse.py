"""Coverage against the effective sample size over the whole stress map: does the curve collapse
over family, d, target?
"""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from benchmarks._judge import answerable, family
from figures import DASHED, results

SHOWN = ("normal", "ess_exact", "recommended")
COLOURS = (
    "#000000",
    "#E69F00",
    "#0072B2",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#F0E442",
    "#999999",
    "#882255",
    "#44AA99",
)
EDGES = 2.0 ** np.arange(1, 14)  # of the bins of ESS
FEWEST = 5  # cells of a bin


def _target(row):
    return row["estimand"].replace("_0_", " 0.").replace("_", " ")


GROUPS: dict[str, Callable[[dict], str]] = {
    "reward family": family,
    "dimension": lambda row: f"d = {row['d']}",
    "target, ESS/n or h": _target,
}


def draw() -> Figure:
    """One dot a cell, a column an interval; each row colours by another axis, a line being the
    median of its group's bins.
    """
    rows = sorted(answerable(results("stress")), key=lambda row: (row["estimand"], row["d"]))
    figure, axes = plt.subplots(3, 3, figsize=(10.6, 8.4), sharex=True, sharey=True)
    for line, (title, key) in zip(axes, GROUPS.items(), strict=True):
        for ax, interval in zip(line, SHOWN, strict=True):
            _panel(ax, [row for row in rows if row["interval"] == interval], key)
        line[0].set_ylabel("coverage of nominal 95 %")
        line[-1].legend(
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            fontsize=7.5,
            title=title,
            title_fontsize=8,
        )
    for ax, interval in zip(axes[0], SHOWN, strict=True):
        ax.set_title(interval)
    for ax in axes[-1]:
        ax.set_xlabel("median effective sample size (Kish)")
    axes[0, 0].set_xscale("log")
    axes[0, 0].set_ylim(0.3, 1.005)
    return figure


def _panel(ax, rows, key):
    groups = list(dict.fromkeys(map(key, rows)))
    for colour, name in zip(COLOURS[: len(groups)], groups, strict=True):
        some = [row for row in rows if key(row) == name]
        size, found = np.array([(row["ess_median"], row["coverage"]) for row in some]).T
        ax.plot(size, found, ".", color=colour, markersize=1.6, alpha=0.3, rasterized=True)
        ax.plot(*_medians(size, found), color=colour, linewidth=1.6, label=name)
    ax.axhline(0.95, **DASHED)


def _medians(size, found):
    bins = [(size >= low) & (size < high) for low, high in zip(EDGES[:-1], EDGES[1:], strict=True)]
    kept = [inside for inside in bins if inside.sum() >= FEWEST]
    return [np.median(size[inside]) for inside in kept], [
        np.median(found[inside]) for inside in kept
    ]

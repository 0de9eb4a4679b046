"""Coverage against the effective sample size over the whole stress map: does it decide alone?"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from benchmarks.stress import family, judged
from mopl_jax import plots

SHOWN = ("normal", "ess_exact", "recommended")
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")


def draw() -> Figure:
    """One dot a cell, coloured by reward family; the line is the median of a bin, the band its 5–95 % range."""
    rows = judged("stress")
    families = list(dict.fromkeys(map(family, rows)))
    with plt.rc_context(plots.STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharex=True, sharey=True)
        for ax, interval in zip(axes, SHOWN, strict=True):
            some = [row for row in rows if row["interval"] == interval]
            for colour, name in zip(COLOURS, families, strict=True):
                dots = [(row["ess_median"], row["coverage"]) for row in some if family(row) == name]
                ax.plot(
                    *zip(*dots, strict=True), ".", color=colour, markersize=2.5, alpha=0.6, label=name, rasterized=True
                )
            _bins(ax, some)
            ax.axhline(0.95, color="black", linewidth=0.7, linestyle=(0, (4, 3)))
            ax.set_xscale("log")
            ax.set_title(interval)
            ax.set_xlabel("median effective sample size (Kish)")
        axes[0].set_ylabel("coverage of nominal 95 %")
        axes[0].set_ylim(0.3, 1.005)
        axes[0].legend(loc="lower right", fontsize=6.5, markerscale=3)
    return figure


def _bins(ax, rows):
    size, found = np.array([(row["ess_median"], row["coverage"]) for row in rows]).T
    edges = 2.0 ** np.arange(1, 13)
    middle, quantiles = [], []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = found[(size >= low) & (size < high)]
        if inside.size >= 5:
            middle.append((low * high) ** 0.5)
            quantiles.append(np.quantile(inside, (0.05, 0.5, 0.95)))
    low, centre, high = np.array(quantiles).T
    ax.fill_between(middle, low, high, color="black", alpha=0.12, linewidth=0)
    ax.plot(middle, centre, color="black", linewidth=1.4)

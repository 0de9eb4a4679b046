"""Learnt metrics: how many past tests until they beat the North Star, and what they save on real
ones.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from figures import DASHED, results

LOOKS = {
    "gls": ("#0072B2", "-", "o"),
    "log_p": ("#009E73", "-", "^"),
    "proxy": ("#CC79A7", "-.", "D"),
    "tested": ("#D55E00", "--", "s"),
}
SOURCES = {"increments": "#0072B2", "independent": "#999999"}


def draw() -> Figure:
    """Above: share of synthetic histories, bars twice the standard error; below: ASOS, half of the
    users.
    """
    rows = results("metric_history")
    kinds = list(dict.fromkeys(row["history"] for row in rows))
    figure, axes = plt.subplot_mosaic(
        [kinds, ["asos"] * len(kinds)], figsize=(8.6, 6.2), height_ratios=[1.2, 1]
    )
    for kind in kinds:
        _beats(axes[kind], [row for row in rows if row["history"] == kind])
        axes[kind].set_title(kind)
    axes[kinds[0]].set_ylabel("share of histories whose metric\nbeats the North Star")
    axes[kinds[0]].legend(fontsize=7, loc="lower right")
    _saved(axes["asos"], [row for row in results("asos") if row["part"] == 0.5])
    return figure


def _beats(ax, rows):
    for name, (colour, line, marker) in LOOKS.items():
        some = [row for row in rows if row["metric"] == name]
        n, share = ([row[key] for row in some] for key in ("experiments", "beats"))
        error = [1.96 * row["beats_se"] for row in some]
        style = {"color": colour, "linestyle": line, "marker": marker, "markersize": 4}
        ax.errorbar(n, share, error, label=name, capsize=2, **style)
    ax.axhline(0.95, **DASHED)
    ax.set_xscale("log", base=2)
    ticks = sorted({row["experiments"] for row in rows})
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("past tests, a third of them A/A")


def _saved(ax, rows):
    """Factors of the proxy for each North Star, with the correlation known and counted as zero."""
    stars = list(dict.fromkeys(row["north_star"] for row in rows))
    for i, (source, colour) in enumerate(SOURCES.items()):
        some = [r for r in rows if r["correlation"] == source and r["metric"] == "proxy"]
        place = np.arange(len(stars)) + 0.2 * (2 * i - 1)
        error = [1.96 * row["factor_se"] for row in some]
        label = {"increments": "correlation from increments", "independent": "counted as zero"}
        factor = [row["factor"] for row in some]
        ax.bar(place, factor, 0.36, yerr=error, color=colour, capsize=3, label=label[source])
    ax.axhline(1, **DASHED)
    ax.set_xticks(range(len(stars)), [f"metric {star}" for star in stars])
    ax.set_xlabel(
        f"North Star among four metrics of {rows[0]['experiments']} real tests (ASOS), judged at"
        " half of the users; ± 1.96 SE"
    )
    ax.set_ylabel("North Star's users / proxy's,\nsame mean z")
    ax.legend(fontsize=7.5, loc="upper left")

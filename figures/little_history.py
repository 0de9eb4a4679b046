"""How many past tests a learnt metric needs, and what a relation that changes half-way costs."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from figures import DASHED, results

LOOKS = {
    "gls": ("#0072B2", "-", "o"),
    "log_p": ("#009E73", "-", "^"),
    "proxy": ("#CC79A7", "-.", "D"),
    "tested": ("#D55E00", "--", "s"),
    "total_covariance": ("#56B4E9", "--", "v"),
}


def draw() -> Figure:
    """Shares of histories whose metric beats the North Star; factors without and with a change."""
    rows = results("little_history")
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.9))
    for name, look in LOOKS.items():
        some = [row for row in rows if row["objective"] == name]
        _line(axes[0], _of(some, 0.0, "none"), "beats", look, name)
        if name in ("gls", "log_p"):
            wrong = _of(some, 0.1, "none")
            _line(axes[0], wrong, "beats", (look[0], ":", look[2]), f"{name}, 10 % of labels wrong")
    axes[0].axhline(0.95, **DASHED)
    axes[0].set_ylim(0, 1.04)
    axes[0].set_ylabel("histories whose metric beats the North Star")
    for change, line in (("none", "-"), ("half-way, later half alone", "--"), ("half-way", ":")):
        for name in ("gls", "proxy"):
            colour, _, marker = LOOKS[name]
            some = _of([row for row in rows if row["objective"] == name], 0.0, change)
            _line(axes[1], some, "factor", (colour, line, marker), f"{name}, {_words(change)}")
    axes[1].axhline(1, **DASHED)
    axes[1].set_ylim(0, 13)
    axes[1].set_ylabel("times fewer users than the North Star")
    for ax in axes:
        ax.set_xscale("log", base=2)
        ticks = sorted({row["experiments"] for row in rows})
        ax.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=7)
        ax.set_xlabel("past tests, a third of them A/A; ± 1.96 SE")
    axes[0].legend(fontsize=6.2, loc="lower center", ncols=2)
    axes[1].legend(fontsize=6.5, loc="upper left")
    return figure


def _words(change):
    return {"none": "no change", "half-way": "relation changed half-way"}.get(
        change, "changed, later half alone"
    )


def _of(rows, wrong, change):
    some = [row for row in rows if row["wrong"] == wrong and row["change"] == change]
    return sorted(some, key=lambda row: row["experiments"])


def _line(ax, rows, key, look, label):
    colour, line, marker = look
    n, mean = [row["experiments"] for row in rows], np.array([row[key] for row in rows])
    error = [1.96 * row[f"{key}_se"] for row in rows]
    style = {"color": colour, "linestyle": line, "marker": marker, "markersize": 4, "capsize": 2}
    ax.errorbar(n, mean, error, label=label, linewidth=1.2, **style)

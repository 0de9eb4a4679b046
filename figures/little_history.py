"""How many past tests a learnt metric needs, what a relation that changes half-way costs, and how
often the change is noticed.
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
    "total_covariance": ("#56B4E9", "--", "v"),
    "liml": ("#999999", "--", "P"),
}
CHANGES = {
    "none": ("-", "no change"),
    "half-way, later half alone": ("--", "changed, later half alone"),
    "half-way": (":", "changed half-way"),
}
NOTICED = {"scores": ("#0072B2", "-", "o"), "oracle": ("#999999", "--", "D")}
AMOUNTS = {"100%": 1.0, "50%": 0.55, "0%": 0.25}  # how strongly they are drawn


def draw() -> Figure:
    """Shares of histories whose metric beats the North Star; factors without and with a change;
    shares in which the change is noticed.
    """
    rows = results("little_history")
    figure, axes = plt.subplots(1, 3, figsize=(12.4, 4.6))
    _beats(axes[0], rows)
    _factors(axes[1], rows)
    _noticed(axes[2], results("drift"))
    for ax in axes:
        ax.set_xscale("log", base=2)
        ax.set_xlabel("past tests, a third of them A/A; ± 1.96 SE")
        where = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15), "ncols": 2}
        ax.legend(fontsize=6.5, handlelength=3.6, **where)
    for ax, some in zip(axes, (rows, rows, results("drift")), strict=True):
        ticks = sorted({row["experiments"] for row in some})
        ax.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=7)
    return figure


def _beats(ax, rows):
    for name, look in LOOKS.items():
        some = [row for row in rows if row["objective"] == name]
        _line(ax, _of(some, 0.0, "none"), "beats", look, name)
        if name in ("gls", "log_p"):
            wrong = _of(some, 0.1, "none")
            _line(ax, wrong, "beats", (look[0], ":", look[2]), f"{name}, 10 % of labels wrong")
    ax.axhline(0.95, **DASHED)
    ax.set_ylim(-0.02, 1.04)
    ax.set_ylabel("histories whose metric beats the North Star")


def _factors(ax, rows):
    for change, (line, words) in CHANGES.items():
        for name in ("gls", "proxy"):
            colour, _, marker = LOOKS[name]
            some = _of([row for row in rows if row["objective"] == name], 0.0, change)
            _line(ax, some, "factor", (colour, line, marker), f"{name}, {words}")
    ax.axhline(1, **DASHED)
    ax.set_ylim(0, 12.5)
    ax.set_ylabel("times fewer users than the North Star")


def _noticed(ax, rows):
    for (name, look), (amount, alpha) in (
        (test, amount) for test in NOTICED.items() for amount in AMOUNTS.items()
    ):
        some = [row for row in rows if row["change"] == amount]
        label = {"scores": "mopl metric", "oracle": "oracle"}[name]
        share = np.array([row[f"{name}_0.05"] for row in some])
        error = 1.96 * np.sqrt(share * (1 - share) / [row["histories"] for row in some])
        x = [row["experiments"] for row in some]
        _bars(ax, x, share, error, look, f"{label}, {amount} of the change", alpha)
    ax.axhline(0.05, **DASHED)
    ax.set_ylim(-0.02, 1.04)
    ax.set_ylabel("histories whose change is noticed, at 5 %")


def _of(rows, wrong, change):
    some = [row for row in rows if row["wrong"] == wrong and row["change"] == change]
    return sorted(some, key=lambda row: row["experiments"])


def _line(ax, rows, key, look, label):
    x, mean = [row["experiments"] for row in rows], np.array([row[key] for row in rows])
    _bars(ax, x, mean, [1.96 * row[f"{key}_se"] for row in rows], look, label)


def _bars(ax, x, y, error, look, label, alpha=1.0):
    colour, line, marker = look
    style = {"color": colour, "linestyle": line, "marker": marker, "markersize": 4, "capsize": 2}
    ax.errorbar(x, y, error, label=label, linewidth=1.2, alpha=alpha, **style)

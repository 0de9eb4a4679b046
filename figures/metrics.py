"""Learnt metrics: how little history is enough, what wrong labels do, and whether held-out tests
keep their promises.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from figures import DASHED, results

LOOKS = {
    "gls": ("#0072B2", "-", "o"),
    "mean_p": ("#D55E00", "-", "s"),
    "log_p": ("#009E73", "-", "^"),
    "p_log_p": ("#56B4E9", "--", "v"),
    "proxy": ("#CC79A7", "-.", "D"),
    "tested": ("#E69F00", "--", "P"),
    "total_covariance": ("#999999", "--", "X"),
}  # mean_z is gls within 2 %: left out
JUDGED = ("gls", "mean_p", "log_p", "proxy", "tested")
TITLES = {0.0: "every label right", 0.1: "one known winner in ten mislabelled"}


def draw() -> Figure:
    """Above: factor against history, bars twice the standard error; below: held-out p-values of one
    long history.
    """
    rows, checked = results("metrics"), results("metrics_validation")
    figure, axes = plt.subplots(2, 2, figsize=(8.6, 6.6))
    for ax, wrong in zip(axes[0], TITLES, strict=True):
        _history(ax, [row for row in rows if row["wrong"] == wrong])
        ax.set_title(TITLES[wrong])
    axes[0, 1].legend(fontsize=6.5, loc="upper center", ncols=3)
    axes[0, 0].set_ylabel("North Star's users / learnt metric's,\nsame mean z (fresh experiments)")
    some = [row for row in checked if row["wrong"] == 0.0]
    _p_values(axes[1, 0], some)
    _nulls(axes[1, 1], some)
    return figure


def _history(ax, rows):
    for name, (colour, line, marker) in LOOKS.items():
        some = sorted(
            (row for row in rows if row["objective"] == name), key=lambda row: row["experiments"]
        )
        n, mean = [row["experiments"] for row in some], np.array([row["factor"] for row in some])
        error = [1.96 * row["factor_se"] for row in some]
        ax.errorbar(
            n,
            mean,
            error,
            color=colour,
            linestyle=line,
            marker=marker,
            markersize=4,
            capsize=2,
            label=name,
        )
    (oracle,) = (row["factor"] for row in rows if row["objective"] == "best")
    ax.axhline(
        oracle, color="#999999", linewidth=1, linestyle=":", label="proxy that knows the platform"
    )
    ax.axhline(1, **DASHED)
    ax.text(0.02, 0.3, "the North Star itself", fontsize=7, transform=ax.get_yaxis_transform())
    ax.set_xscale("log", base=2)
    ticks = sorted({row["experiments"] for row in rows})
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.set_ylim(0, 15.5)
    ax.set_xlabel("past experiments, a third of them A/A; ± 1.96 SE")


def _p_values(ax, rows):
    for name in JUDGED:
        (row,) = (row for row in rows if row["objective"] == name)
        colour, line, _ = LOOKS[name]
        _steps(ax, row["p"], colour, line, name)
    _steps(ax, rows[0]["p_north"], "black", "-", "North Star")
    ax.axvline(0.025, **DASHED)
    ax.text(0.022, 0.02, "0.025", fontsize=7, ha="right", transform=ax.get_xaxis_transform())
    ax.set_xscale("log")
    ax.set_xlim(1e-6, 1)
    ax.set_xlabel(
        f"one-sided p-value towards the known winner\n({rows[0]['known']} experiments, each held"
        " out)"
    )
    ax.set_ylabel("share of experiments below")
    ax.legend(fontsize=7.5, loc="upper left")


def _nulls(ax, rows):
    ax.plot([0, 1], [0, 1], **DASHED)
    for name in JUDGED:
        (row,) = (row for row in rows if row["objective"] == name)
        colour, line, _ = LOOKS[name]
        low, high = row["false_positives_low"], row["false_positives_high"]
        label = f"{name}: {row['false_positives']:.1%} below 0.05 [{low:.1%}, {high:.1%}]"
        _steps(ax, row["p_null"], colour, line, label)
    ax.set_xlabel(f"two-sided p-value of {rows[0]['nulls']} A/A tests, held out")
    ax.set_ylabel("share of A/A tests below")
    ax.legend(fontsize=7.5, loc="lower right")


def _steps(ax, values, colour, line, label):
    x = np.sort(values)
    ax.step(
        x,
        (np.arange(x.size) + 1) / x.size,
        where="post",
        color=colour,
        linestyle=line,
        linewidth=1.4,
        label=label,
    )

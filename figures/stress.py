"""The stress map: each interval against each reward family, worst and median coverage, and width
over an oracle's.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from benchmarks._judge import answerable, family
from figures import results

SHOWN = (
    "normal",
    "hc3",
    "ess_bessel",
    "ess_kish",
    "ess_kish_max",
    "ess_student",
    "ess_student_max",
    "ess_exact",
    "ess_safe",
    "recommended",
    "ess_wilson",
)
PANELS = (
    ("worst coverage", lambda rows: min(r["coverage"] for r in rows), (0.4, 1.0), ".2f"),
    ("median coverage", lambda rows: np.median([r["coverage"] for r in rows]), (0.8, 1.0), ".3f"),
    (
        "median width / oracle, ESS ≥ 50",
        lambda rows: np.median([r["width_ratio"] for r in rows if r["ess_median"] >= 50]),
        (0.5, 2.0),
        ".2f",
    ),
)


def draw() -> Figure:
    """One panel a summary; rows are intervals, columns reward families; empty where an interval is
    not for such rewards.
    """
    rows = [row for row in answerable(results("stress")) if row["interval"] in SHOWN]
    families = list(dict.fromkeys(map(family, rows)))
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.8), sharey=True)
    for ax, (title, summary, limits, form) in zip(axes, PANELS, strict=True):
        table = [[_cell(rows, interval, name, summary) for name in families] for interval in SHOWN]
        _heat(ax, np.array(table), families, title, limits, form)
    axes[0].set_yticks(range(len(SHOWN)), SHOWN)
    figure.suptitle(
        "Nominal 95 % intervals over d = 1 … 20, n = 8 … 4,096, near to far, narrow to wide"
        " targets (median ESS ≥ 2)",
        fontsize=10,
    )
    return figure


def _cell(rows, interval, name, summary):
    some = [row for row in rows if row["interval"] == interval and family(row) == name]
    return summary(some) if some else np.nan


def _heat(ax, table, families, title, limits, form):
    ax.imshow(table, cmap="cividis", vmin=limits[0], vmax=limits[1], aspect="auto")
    ax.grid(visible=False)
    ax.set_xticks(range(len(families)), families, rotation=40, ha="right")
    ax.set_title(title)
    middle = sum(limits) / 2
    for (i, j), value in np.ndenumerate(table):
        ax.text(
            j,
            i,
            "" if np.isnan(value) else f"{value:{form}}",
            ha="center",
            va="center",
            fontsize=6.5,
            color="black" if value > middle else "white",
        )

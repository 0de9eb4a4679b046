"""The curse of dimensionality: the share of a log that informs about a small change, uniform
against normal logging.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from figures import DASHED, column, results

LOOKS = {"normal": ("#0072B2", "o"), "uniform": ("#D55E00", "s")}


def draw() -> Figure:
    """Closed form as lines, simulated logs as points with their 5–95 % range."""
    rows = results("dimension")
    figure, ax = plt.subplots(figsize=(5.6, 3.8))
    for name in LOOKS:
        logger(ax, name, [row for row in rows if row["logging"] == name])
    n = rows[0]["n"]
    ax.axhline(1 / n, **DASHED)
    ax.text(1, 0.7 / n, f"one effective row of n = {n:,}", fontsize=7.5, va="top")
    ax.set_yscale("log")
    ax.set_xlabel("objectives d")
    ax.set_ylabel("effective sample size / n")
    ax.set_xticks(range(0, 21, 2))
    ax.legend(fontsize=7.5, loc="upper right")
    return figure


def logger(ax, name, rows) -> None:
    """Line and points of one logging policy."""
    colour, marker = LOOKS[name]
    d, exact, median = (column(rows, key) for key in ("d", "exact", "median"))
    ax.plot(d, exact, color=colour, label=f"{name} logging, closed form 1/d₂")
    bars = [
        [row["median"] - row["q05"] for row in rows],
        [row["q95"] - row["median"] for row in rows],
    ]
    look = {"color": colour, "markersize": 4, "capsize": 2}
    ax.errorbar(d, median, bars, fmt=marker, label=f"{name} logging, simulated", **look)

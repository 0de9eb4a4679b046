"""The curse of dimensionality: the share of a log that informs about a small change, uniform
against normal logging.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from figures import results

LOOKS = {"normal": ("#0072B2", "o"), "uniform": ("#D55E00", "s")}


def draw() -> Figure:
    """Closed form as lines, simulated logs as points with their 5–95 % range."""
    rows = results("dimension")
    figure, ax = plt.subplots(figsize=(5.6, 3.8))
    for name, (colour, marker) in LOOKS.items():
        some = [row for row in rows if row["logging"] == name]
        d, median = ([row[column] for row in some] for column in ("d", "median"))
        ax.plot(
            d,
            [row["exact"] for row in some],
            color=colour,
            label=f"{name} logging, closed form 1/d₂",
        )
        bars = [
            [row["median"] - row["q05"] for row in some],
            [row["q95"] - row["median"] for row in some],
        ]
        ax.errorbar(
            d,
            median,
            bars,
            fmt=marker,
            color=colour,
            markersize=4,
            capsize=2,
            label=f"{name} logging, simulated",
        )
    n = rows[0]["n"]
    ax.axhline(1 / n, color="black", linewidth=0.7, linestyle=(0, (4, 3)))
    ax.text(1, 0.7 / n, f"one effective row of n = {n:,}", fontsize=7.5, va="top")
    ax.set_yscale("log")
    ax.set_xlabel("objectives d")
    ax.set_ylabel("effective sample size / n")
    ax.set_xticks(range(0, 21, 2))
    ax.legend(fontsize=7.5, loc="upper right")
    return figure

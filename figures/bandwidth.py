"""Kernel bandwidth against bias and variance for a deterministic policy, and what the interval
promises.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from figures import DASHED, column, results

ORANGE, BLUE = "#D55E00", "#0072B2"
TRUTHS = {
    "smoothed": ("#009E73", "V(N(τ, h²I)), which it promises"),
    "point": ("#CC79A7", "V(τ), bias included"),
}


def draw() -> Figure:
    """Left: bias, standard deviation and error; right: coverage of the smoothed and of the
    deterministic value.
    """
    rows, (chosen,) = results("bandwidth"), results("bandwidth_auto")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.1))
    errors(left, rows)
    coverage(right, rows, chosen)
    selected(left, chosen)
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set_xticks([0.03, 0.1, 0.3, 0.9], ["0.03", "0.1", "0.3", "0.9"])
        ax.set_xlabel("bandwidth h (standard deviation, weight units)")
        ax.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.45, -0.16), ncols=2)
    return figure


def errors(ax, rows) -> None:
    """Bias in closed form and simulated, standard deviation, root mean squared error."""
    h, small = column(rows, "bandwidth"), {"markersize": 3.5}
    exact, found = ([abs(x) for x in column(rows, name)] for name in ("bias_exact", "bias"))
    noise = [1.96 * row["sd"] / row["replicates"] ** 0.5 for row in rows]
    ax.plot(h, exact, color=ORANGE, label="|bias|, closed form ½h² tr C")
    ax.errorbar(h, found, noise, fmt="s", color=ORANGE, label="|bias|, simulated", **small)
    ax.plot(h, column(rows, "sd"), "o-", color=BLUE, label="standard deviation", **small)
    ax.plot(h, column(rows, "rmse"), color="black", label="root mean squared error")
    ax.set_yscale("log")
    ax.set_ylim(3e-4, 1.5)
    ax.set_ylabel("error of the value (reward units)")


def coverage(ax, rows, chosen) -> None:
    """Of both truths at each bandwidth, and where `auto` selects one."""
    h = column(rows, "bandwidth")
    for what, (colour, label) in TRUTHS.items():
        exact, normal = (column(rows, f"coverage_{what}_{x}") for x in ("ess_exact", "normal"))
        ax.plot(h, exact, "o-", color=colour, markersize=3.5, label=f"ess_exact, {label}")
        ax.plot(h, normal, ":", color=colour, label=f"normal, {label}")
        held = chosen[f"coverage_{what}_ess_exact"]
        ax.plot(chosen["bandwidth_50"], held, "*", color=colour, markersize=11)
    ax.plot([], [], "*", color="grey", markersize=9, label="ess_exact of what auto selects")
    ax.axhline(0.95, **DASHED)
    ax.set_ylabel("coverage")


def selected(ax, chosen) -> None:
    """What is selected in four of five logs, and its error."""
    ends = chosen["bandwidth_10"], chosen["bandwidth_90"]
    ax.axvspan(*ends, color="grey", alpha=0.35, label="selected by auto in 80 % of the logs")
    ax.plot(chosen["bandwidth_50"], chosen["rmse"], "*", color="black", markersize=11)

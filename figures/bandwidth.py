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
DRAWN = 0.05  # least share of logs in which a bandwidth is selected


def draw() -> Figure:
    """Left: bias, standard deviation and error; right: coverage of the smoothed and of the
    deterministic value.
    """
    rows, chosen = results("bandwidth"), [*filter(_often_chosen, results("bandwidth_slope"))]
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


def _often_chosen(row):
    return row["widening"] == 1 and row["selected"] != "all" and row["share"] > DRAWN


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
    h, at = column(rows, "bandwidth"), [float(x) for x in column(chosen, "selected")]
    for what, (colour, label) in TRUTHS.items():
        exact, normal = (column(rows, f"coverage_{what}_{x}") for x in ("ess_exact", "normal"))
        ax.plot(h, exact, "o-", color=colour, markersize=3.5, label=f"ess_exact, {label}")
        ax.plot(h, normal, ":", color=colour, label=f"normal, {label}")
        ax.plot(at, column(chosen, f"coverage_{what}_plain"), "*", color=colour, markersize=11)
    ax.plot([], [], "*", color="grey", markersize=9, label="ess_exact where auto selects h")
    ax.axhline(0.95, **DASHED)
    ax.set_ylabel("coverage")


def selected(ax, chosen) -> None:
    """A line at each selected bandwidth, as wide as its share of the logs."""
    look = {"color": "grey", "alpha": 0.35}
    for row in chosen:
        ax.axvline(float(row["selected"]), linewidth=8 * row["share"], **look)
    ax.plot([], [], linewidth=5, label="selected by auto (as wide as its share)", **look)

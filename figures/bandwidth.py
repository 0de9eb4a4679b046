"""Kernel bandwidth against bias and variance for a deterministic policy, and what the interval
promises.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from figures import results


def draw() -> Figure:
    """Left: bias, standard deviation and error; right: coverage of the smoothed and of the
    deterministic value.
    """
    rows = results("bandwidth")
    chosen = [
        row
        for row in results("bandwidth_slope")
        if row["widening"] == 1 and row["selected"] != "all" and row["share"] > 0.05
    ]
    h = [row["bandwidth"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.1))
    left.plot(
        h,
        [abs(row["bias_exact"]) for row in rows],
        color="#D55E00",
        label="|bias|, closed form ½h² tr C",
    )
    noise = [1.96 * row["sd"] / row["replicates"] ** 0.5 for row in rows]
    left.errorbar(
        h,
        [abs(row["bias"]) for row in rows],
        noise,
        fmt="s",
        color="#D55E00",
        markersize=3.5,
        label="|bias|, simulated",
    )
    left.plot(
        h,
        [row["sd"] for row in rows],
        "o-",
        color="#0072B2",
        markersize=3.5,
        label="standard deviation",
    )
    left.plot(h, [row["rmse"] for row in rows], color="black", label="root mean squared error")
    left.set_yscale("log")
    left.set_ylim(3e-4, 1.5)
    left.set_ylabel("error of the value (reward units)")
    looks = {
        "smoothed": ("#009E73", "V(N(τ, h²I)), which it promises"),
        "point": ("#CC79A7", "V(τ), bias included"),
    }
    for what, (colour, label) in looks.items():
        right.plot(
            h,
            [row[f"coverage_{what}_ess_exact"] for row in rows],
            "o-",
            color=colour,
            markersize=3.5,
            label=f"ess_exact, {label}",
        )
        right.plot(
            h,
            [row[f"coverage_{what}_normal"] for row in rows],
            ":",
            color=colour,
            label=f"normal, {label}",
        )
        at = [float(row["selected"]) for row in chosen]
        right.plot(
            at,
            [row[f"coverage_{what}_plain"] for row in chosen],
            "*",
            color=colour,
            markersize=11,
        )
    right.plot([], [], "*", color="grey", markersize=9, label="ess_exact where auto selects h")
    right.axhline(0.95, color="black", linewidth=0.7, linestyle=(0, (4, 3)))
    right.set_ylabel("coverage")
    for row in chosen:
        left.axvline(float(row["selected"]), color="grey", linewidth=8 * row["share"], alpha=0.35)
    left.plot(
        [],
        [],
        color="grey",
        linewidth=5,
        alpha=0.35,
        label="selected by auto (as wide as its share)",
    )
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set_xticks([0.03, 0.1, 0.3, 0.9], ["0.03", "0.1", "0.3", "0.9"])
        ax.set_xlabel("bandwidth h (standard deviation, weight units)")
        ax.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.45, -0.16), ncols=2)
    return figure

"""The loop on the simulated platform: estimates against truth, gains against users spent, p-values,
the learnt metric.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from figures import DASHED, results

LOOKS = {
    ("learnt metric", True): ("#D55E00", "-", "learnt metric, pessimistic"),
    ("learnt metric", False): ("#E69F00", "--", "learnt metric, plain"),
    ("North Star", True): ("#0072B2", "-", "North Star, pessimistic"),
    ("North Star", False): ("#56B4E9", "--", "North Star, plain"),
}
SEARCH = {
    ("Bayesian optimisation", "learnt metric", 1_024): ("#009E73", ":", "Bayesian, learnt metric"),
    ("random steps", "learnt metric", 1_024): ("#009E73", "-", "random steps, learnt metric"),
    ("Bayesian optimisation", "North Star", 5_000): ("#000000", ":", "Bayesian, North Star"),
    ("random steps", "North Star", 50_000): ("#999999", "-", "random steps, North Star"),
}  # each at the better of its sizes; one weight at a time is slower: in the table
SMALL = {
    "small_rounds_loop": ("#CC79A7", "-", "learnt metric, half in small rounds"),
    "small_rounds": ("#CC79A7", ":", "small rounds, not yet certified"),
}
ALONE = ("greedy", 0.4, 512)  # the way, width and users of a round that the loop takes
FIRST = 400  # users, where the axis begins


def draw() -> Figure:
    """Four panels."""
    study = results("closed_loop_rounds").about["study"]
    figure, axes = plt.subplots(2, 2, figsize=(10.2, 7.4))
    agreement(axes[0, 0], results("closed_loop_agreement"))
    gains(axes[0, 1], study["attainable"])
    p_values(axes[1, 0], results("closed_loop_rounds"))
    metric(axes[1, 1], results("closed_loop_metric"), study["days_sd"])
    return figure


def agreement(ax, rows) -> None:
    """Offline gain with its 95 % interval from one large log, against the true gain online."""
    for kind, colour, marker in (
        ("learnt, large log", "#D55E00", "s"),
        ("random, large log", "#000000", "o"),
    ):
        some = [row for row in rows if row["kind"] == kind and np.isfinite(row["upper"])]
        truth, estimate, low, high = (
            np.array([row[name] for row in some])
            for name in ("truth", "estimate", "lower", "upper")
        )
        bars = [estimate - low, high - estimate]
        slope, together = np.polyfit(truth, estimate, 1)[0], np.corrcoef(truth, estimate)[0, 1]
        label = f"{kind.split(',')[0]} ({len(some)}): slope {slope:.2f}, correlation {together:.2f}"
        ax.errorbar(truth, estimate, bars, fmt="none", ecolor=colour, elinewidth=0.7, alpha=0.4)
        ax.plot(truth, estimate, marker, color=colour, markersize=3, label=label)
    ends = ax.get_xlim()
    ax.plot(ends, ends, color="black", linewidth=0.8)
    ax.set_xlabel("true gain of the policy online, days a week")
    ax.set_ylabel("estimated gain offline, days a week")
    n = next(row["n"] for row in rows if row["kind"] == "random, large log")
    ax.set_title(f"Offline against online: one log of {n:,} users, 95 % ess_skew")
    ax.legend(title="policies", loc="upper left")


def gains(ax, attainable) -> None:
    """True gain of what is in production, and of what searches and small rounds have found, against
    the users spent on it: median of the runs, and their range.
    """
    loops, searches = results("closed_loop_rounds"), results("closed_loop_search")
    for (reward, pessimistic), look in LOOKS.items():
        _path(
            ax,
            [row for row in loops if (row["reward"], row["pessimistic"]) == (reward, pessimistic)],
            *look,
        )
    for way, look in SEARCH.items():
        _path(
            ax,
            [row for row in searches if (row["method"], row["reward"], row["test"]) == way],
            *look,
        )
    for name, look in SMALL.items():
        rows = results(name)
        if name == "small_rounds":
            rows = [
                row for row in rows if (row["way"], row["width"], row["users a round"]) == ALONE
            ]
        _path(ax, rows, *look)
    ax.axhline(attainable, **DASHED)
    ax.text(1.2 * FIRST, attainable * 1.02, "attainable", fontsize=8)
    ax.set_ylim(top=2 * attainable)
    ax.set_xscale("log")
    ax.set_xlim(FIRST, 2e7)
    ax.set_xlabel("users spent, without the history behind the metric")
    ax.set_ylabel("true gain over the first weights, days a week")
    ax.set_title("Loop against one A/B test a candidate: median, range of five runs")
    ax.legend(fontsize=7, loc="upper left", ncols=2)


def _path(ax, rows, colour, line, label):
    users = np.array(sorted({row["users"] for row in rows}), float)
    runs = [
        [row for row in rows if row["seed"] == seed]
        for seed in dict.fromkeys(row["seed"] for row in rows)
    ]
    paths = np.array([[_gain(run, at) for at in users] for run in runs])
    end = {"where": "post", "color": colour, "linestyle": line, "label": label}
    ax.step([FIRST, *users], [0, *np.median(paths, axis=0)], linewidth=1.5, **end)
    ax.fill_between(
        users,
        paths.min(axis=0),
        paths.max(axis=0),
        step="post",
        color=colour,
        alpha=0.13,
        linewidth=0,
    )


def _gain(run, users):
    """True gain of a run once so many users are spent."""
    return max(
        (row["users"], row["true_gain"])
        for row in [{"users": 0, "true_gain": 0.0}, *run]
        if row["users"] <= users
    )[1]


def p_values(ax, rows) -> None:
    """Each online test twice: the p-value of the learnt metric and that of the North Star."""
    some = [row for row in rows if row["reward"] == "learnt metric" and row["p"] is not None]
    floor = 1e-16
    x, y = ([max(row[name], floor) for row in some] for name in ("north_p", "p"))
    ax.loglog(x, y, "o", color="#D55E00", markersize=5)
    ax.plot([floor, 1], [floor, 1], color="black", linewidth=0.8)
    for line in (ax.axhline, ax.axvline):
        line(0.05, **DASHED)
    ax.set_xlim(1e-5, 2)
    ax.set_ylim(floor / 3, 2)
    ax.set_xlabel("p-value of the North Star")
    ax.set_ylabel("p-value of the learnt metric (10⁻¹⁶ or less at the floor)")
    ax.set_title("The same online tests by both metrics; dashed: 0.05")


def metric(ax, rows, sd) -> None:
    """Effects of fresh changes in user standard deviations, learnt metric against North Star."""
    for row, (colour, marker) in zip(
        rows, (("#D55E00", "o"), ("#009E73", "s"), ("#0072B2", "^")), strict=True
    ):
        factor = f"{row['factor']:.0f} ± {row['factor_se']:.0f}"
        label = f"{row['metric']}: {factor} × fewer users, correlation {row['correlation']:.2f}"
        ax.plot(
            np.array(row["truth"]) / sd,
            row["effects"],
            marker,
            color=colour,
            markersize=4,
            label=label,
        )
    ax.axhline(0, color="black", linewidth=0.6)
    ax.axvline(0, color="black", linewidth=0.6)
    ax.set_xlabel("true effect on the North Star, its standard deviations over users")
    ax.set_ylabel("effect on the learnt metric, likewise")
    ax.set_title("Learnt metrics on fresh changes of the weights")
    ax.legend(fontsize=7.5, loc="upper left")

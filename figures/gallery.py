"""Where ESS correction does not help, and what does: coverage against n in six worlds."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from figures import coverage_curves, results

CASES = (
    ("hidden_tail", 1, "hidden", "rare weights of 1,000, unseen"),
    ("quadratic", 1, "same_0_1", "reward curves where little is logged"),
    ("linear", 5, "wide_0_03", "target wider than the logger"),
    ("bernoulli_1", 5, "narrow_0_03", "clicks of 1 %"),
    ("log_normal", 2, "narrow_0_3", "skewed rewards"),
    ("quadratic", 10, "point_0_5, unsmoothed", "smoothing bias: V at the point itself"),
)
SHOWN = ("normal", "ess_student", "ess_exact", "ess_safe", "recommended")


def draw() -> Figure:
    """One panel a world."""
    rows = results("stress")
    figure, axes = plt.subplots(2, 3, figsize=(11, 5.6), sharex=True, sharey=True)
    for ax, (world, d, estimand, title) in zip(axes.flat, CASES, strict=True):
        some = [r for r in rows if (r["world"], r["d"], r["estimand"]) == (world, d, estimand)]
        coverage_curves(ax, some, SHOWN)
        ax.set_title(
            f"{title}\n({world}, d = {d}, {estimand.replace('_0_', ' 0.').replace('_', ' ')})",
            fontsize=8.5,
        )
        ax.set_ylim(-0.02, 1.02)
    for ax in axes[:, 1:].flat:
        ax.set_ylabel("")
    axes[0, 0].legend(loc="center left", fontsize=7)
    return figure

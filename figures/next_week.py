"""What following, frozen weights and the full history lose to the best weights, week by week."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks._study import grouped
from figures import column, results

TITLES = {
    "none": "nothing moves",
    "turns": "the optimum turns slowly",
    "jumps": "it jumps half-way",
    "weekends": "another one on weekends",
}
LOOKS = {
    "frozen": ("#999999", ":"),
    "full history": ("#0072B2", "--"),
    "2w": ("#56B4E9", "-."),
    "certified": ("#009E73", "-"),
    "predicted": ("#D55E00", "-"),
}
NAMES = {
    "frozen": "frozen after four weeks",
    "2w": "half-life of two weeks",
    "certified": "half-life chosen by certified gain",
    "predicted": "half-life chosen by prediction",
}


def draw() -> Figure:
    """A panel for each world: the mean loss of each week."""
    runs = grouped(results("next_week_rounds"), "world", "way")
    figure, axes = plt.subplots(1, 4, figsize=(10.4, 2.9), sharey=True)
    for ax, (world, title) in zip(axes, TITLES.items(), strict=True):
        for way, (colour, line) in LOOKS.items():
            weeks, loss = (column(runs[world, way], name) for name in ("week", "loss"))
            ax.plot(weeks, loss, color=colour, ls=line, label=NAMES.get(way, way))
        ax.set_title(title, fontsize=8)
        ax.set_xlabel("week")
    axes[0].set_ylabel("loss to the best weights")
    axes[0].set_ylim(0, 0.6)
    axes[1].legend(fontsize=6.2, loc="upper left")
    return figure

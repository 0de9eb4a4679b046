"""What is certified, and what the best guess forgoes, world by world: before and now."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from figures import results

LOOKS = {"before": ("#999999", "o"), "mopl learn": ("#D55E00", "s")}  # colour, marker
NOISES = {"metric": "learnt metric", "bit": "retention bit"}
PARTS = {
    "regret": "regret of the best guess\n(share of that of doing nothing)",
    "positive": "share of logs with a certified gain",
    "certified_gain": "median certified gain\n(share of the best gain)",
}


def draw() -> Figure:
    """A row of panels for each noise; means over the shapes of the logs."""
    rows = [row for row in results("learning") if row["world"] != "centre"]
    worlds = list(dict.fromkeys(row["world"] for row in rows))
    figure, axes = plt.subplots(len(NOISES), len(PARTS), figsize=(10, 6.5), sharey=True)
    for line, noise in zip(axes, NOISES, strict=True):
        for ax, part in zip(line, PARTS, strict=True):
            _panel(ax, worlds, [row for row in rows if row["noise"] == noise], part)
        line[0].set_ylabel(NOISES[noise])
    for ax, label in zip(axes[-1], PARTS.values(), strict=True):
        ax.set_xlabel(label)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _panel(ax, worlds, rows, part):
    for learner, (colour, marker) in LOOKS.items():
        some = [
            [row[part] for row in rows if (row["world"], row["learner"]) == (world, learner)]
            for world in worlds
        ]
        means = [np.mean(each) if each else np.nan for each in some]
        ax.plot(means, range(len(worlds)), marker, color=colour, markersize=5, label=learner)
    ax.set_yticks(range(len(worlds)), worlds)
    ax.set_ylim(len(worlds) - 0.5, -0.5)
    ax.grid(axis="y", linewidth=0.4)

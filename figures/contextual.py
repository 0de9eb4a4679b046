"""What weights by context certainly gain over global ones, and what they truly gain, by world."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from benchmarks._study import grouped
from figures import DASHED, results
from mopl_jax.numerics.proportion import wilson_interval

TITLES = {
    "differs": "each segment has\nits own optimum",
    "same": "all segments\nhave one",
    "rare": "only that of 1 %\nis another",
    "turned": "rewards saturate,\neach its own way",
}
LOOKS = {
    "bound": ("#0072B2", -0.18, "certified: at least (95 %)"),
    "gain": ("#D55E00", 0.0, "true"),
    "attainable": ("#999999", 0.18, "attainable"),
}


def draw() -> Figure:
    """Certified and true gain of each log, by world; and how often weights are personalised."""
    worlds = grouped(results("contextual"), "world")
    figure, (gains, shares) = plt.subplots(1, 2, figsize=(9.6, 3.3), width_ratios=(4, 3))
    for at, world in enumerate(TITLES):
        rows = worlds[(world,)]
        for key, look in LOOKS.items():
            _log(gains, at, rows, key, *look)
        _share(shares, at, rows)
    for ax in (gains, shares):
        ax.set_xticks(range(len(TITLES)), [*TITLES.values()], fontsize=6.5)
        ax.set_xlim(-0.5, len(TITLES) - 0.5)
    gains.axhline(0, color="black", linewidth=0.6)
    gains.set_ylabel("gain over the learnt global weights")
    gains.legend(fontsize=6.5, loc="upper center")
    shares.axhline(0.05, **DASHED)
    shares.text(-0.42, 0.065, "5 %", fontsize=6.5)
    shares.set_ylabel("logs whose weights are personalised")
    shares.set_ylim(0, 1.03)
    return figure


def _log(ax, at, rows, key, colour, shift, label):
    """A point for each log, and their median."""
    found = np.array([row[key] for row in rows])
    place = at + shift + np.linspace(-0.06, 0.06, len(found))
    label = label if at == 0 else None  # of the legend, once
    ax.plot(place, np.sort(found), ".", color=colour, markersize=2.5, label=label)
    ax.plot([at + shift - 0.08, at + shift + 0.08], [np.median(found)] * 2, color=colour)


def _share(ax, at, rows):
    """How many are personalised, with the 95 % interval of their share."""
    hits = sum(row["personalised"] for row in rows)
    low, high = wilson_interval(hits, len(rows))
    share = hits / len(rows)
    error = [[share - low], [high - share]]
    ax.errorbar([at], [share], error, fmt="o", color="#0072B2", markersize=4, capsize=3)

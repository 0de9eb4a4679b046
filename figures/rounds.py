"""Coverage of pooled logs whose rounds were chosen from the rounds before, by how rows are weighed
and by whether the policy was chosen from them as well.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks._study import grouped
from figures import DASHED, column, results

TITLES = {
    "declared": "a policy declared before the rounds",
    "chosen": "the policy that the rounds chose",
}
LOOKS = {
    ("last", "recommended"): ("#009E73", "-", "s", "the last round alone"),
    ("best", "recommended"): ("#D55E00", "-", "o", "own density, 1/d₂ of the round (pooled logs)"),
    ("own", "recommended"): ("#0072B2", "--", "^", "own density"),
    ("mixture", "recommended"): ("#CC79A7", "-.", "v", "density of the mixture"),
    ("best", "normal"): ("#999999", ":", "o", "normal, 1/d₂ of the round"),
}


def draw() -> Figure:
    """A panel for each target: the least coverage of all worlds, dimensions and ways to move."""
    cells = grouped(results("rounds"), "target", "weights", "interval", "rounds")
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.6), sharey=True)
    for ax, (target, title) in zip(axes, TITLES.items(), strict=True):
        for way, (colour, line, marker, label) in LOOKS.items():
            some = {key[3]: rows for key, rows in cells.items() if key[:3] == (target, *way)}
            least = [min(column(rows, "coverage")) for rows in some.values()]
            look = {"color": colour, "ls": line, "marker": marker, "markersize": 4}
            ax.plot(range(len(some)), least, label=label, **look)
            ax.set_xticks(range(len(some)), [*map(str, some)])
        ax.axhline(0.95, **DASHED)
        ax.set_title(title, fontsize=8.5)
        ax.set_xlabel("rounds of 200 rows")
    axes[0].set_ylabel("least coverage of 50 cells (95 % meant)")
    axes[0].legend(fontsize=6.5, loc="lower left")
    return figure

"""Importance weights, effective rows, and the winner's curse, each in one picture."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from figures import DASHED, column, results

COLOURS = ("#0072B2", "#D55E00", "#009E73")


def draw() -> Figure:
    """Three panels, of one study."""
    rows = results("concepts")
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.1), layout="constrained")
    for ax, (name, look) in zip(axes, PANELS.items(), strict=True):
        panel(ax, [row for row in rows if row["picture"] == name])
        ax.set(**look)
        ax.legend(fontsize=7.5)
    axes[0].axhline(1, **DASHED)
    axes[2].axhline(0, **DASHED)
    return figure


def panel(ax, rows) -> None:
    """Each line with two standard errors."""
    for colour, name in zip(COLOURS, dict.fromkeys(column(rows, "line")), strict=False):
        own = [row for row in rows if row["line"] == name]
        error = [2 * e for e in column(own, "error")]
        ax.errorbar(column(own, "x"), column(own, "y"), error, color=colour, label=name)


PANELS = {
    "weight": {
        "xlabel": "weight played",
        "ylabel": "density, importance weight",
        "title": "A row counts target / logging",
    },
    "ess": {
        "xlabel": "step, logging standard deviations",
        "ylabel": "effective sample size / n",
        "yscale": "log",
        "title": "Far policies have few effective rows",
    },
    "curse": {
        "xlabel": "policies compared on the same rows",
        "ylabel": "gain of the best, standard deviations",
        "xscale": "log",
        "title": "The best of many seems to gain",
    },
}

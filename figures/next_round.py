"""What the next round should explore with: what four rounds certify and truly gain, by explorer."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks import next_round
from figures import results

TITLES = {
    "chosen by": "worlds that chose",
    "only reported": "worlds only reported",
    "the platform": "the platform",
}
NAMES = {
    "repeat": "as the first one",
    "production": "around production",
    "middle": "half-way to the guess",
    "guess": "with the best guess",
    "proposed": "as proposed",
}
LOOKS = {"bound": ("#0072B2", 0.15, "certified"), "gain": ("#D55E00", -0.15, "true")}


def draw() -> Figure:
    """A panel for each group of worlds; bars are standard errors of the difference to repeating."""
    groups = next_round.grouped(next_round.whole(results("next_round")))
    groups.pop(("nothing to gain",))
    figure, axes = plt.subplots(1, len(groups), figsize=(9.2, 3.2), sharey=True)
    for ax, ((name,), rows) in zip(axes, groups.items(), strict=True):
        rows = sorted(rows, key=lambda row: (row["world"], row["seed"], row["round"]))
        logs = [_bars(ax, next_round.sums(rows, key), *look) for key, look in LOOKS.items()][0]
        ax.set_title(f"{TITLES[name]}: {logs} logs", fontsize=8.5)
        ax.set_xlabel("gain of four rounds (share of attainable)", fontsize=7.5)
        ax.set_xlim(left=0)
    axes[0].set_yticks(range(len(NAMES)), [*NAMES.values()])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _bars(ax, totals, colour, shift, label):
    """A bar for each explorer; how many logs there are."""
    for at, name in enumerate(NAMES):
        error = next_round.mean_and_error(totals[name] - totals["repeat"])[1] or None
        place = {"height": 0.28, "color": colour, "label": label if at == 0 else None}
        ax.barh(at - shift, totals[name].mean(), xerr=error, capsize=2, **place)
    return len(totals["repeat"])

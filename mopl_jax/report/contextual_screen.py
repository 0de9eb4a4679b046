"""What `mopl learn --context` shows: the advice, the global weights, and the segments."""

from pathlib import Path

from mopl_jax.learning.contextual_weights import ContextualWeights
from mopl_jax.report import terminal
from mopl_jax.report.words import (
    exploration,
    forbidden,
    personalising,
    segments_table,
    weights_table,
)

SHOWN = 20  # segments in the table


def show(made: ContextualWeights, out: Path) -> None:
    """Advice, what each segment changes, numbers, why it is not trust."""
    console = terminal.console()
    terminal.advise(console, made)
    console.print(terminal.filled(*weights_table(made.learnt), title="Global weights"))
    if made.segments:
        console.print(_table(made))
        console.print(_said(made), soft_wrap=True)
    if made.moved:
        console.print(personalising(made), soft_wrap=True)
    explored = exploration(made.learnt, "the learnt global weights")
    console.print(f"for all contexts alike, {explored}", soft_wrap=True)
    terminal.judge(console, made)
    terminal.warn(console, forbidden(made.outside), head="")
    kept = ", which is not to be played" if made.keep else ""
    what = "the weights by context" if made.personalise else "the global weights"
    console.print(f"Written: {out}: {what}{kept}", soft_wrap=True)


def _table(made):
    """What each segment changes of the global weights, and gains."""
    noun = made.learnt.names.gains[1]
    title = f"By {', '.join(made.columns)}: change from the global weights, and {noun}"
    header, rows = segments_table(made)
    table = terminal.filled(header, rows[:SHOWN], title=title)
    table.columns[0].max_width = 30
    return table


def _said(made):
    """What the intervals are, and which segments are not in the table."""
    alpha = made.learnt.plan.alpha
    rest = len(made.segments) - SHOWN
    more = f"; {rest:,} more in the artifact" if rest > 0 else ""
    few = f"; {made.others:,} with few rows have the global weights" if made.others else ""
    return f"All intervals hold at once with confidence {1 - alpha:.6g}{more}{few}"

"""What `mopl learn` shows: progress, an answer to Ctrl-C, and what was learnt, the advice first."""

import contextlib
import signal
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mopl_jax.learning.learnt_weights import LearntWeights
from mopl_jax.report import terminal
from mopl_jax.report.words import (
    forbidden,
    front_table,
    guardrails_table,
    numbers,
    remarks,
    weights_table,
)

ASKED = (
    "interrupt: ends after this stage, with the best policy so far (compiling may take a minute); "
    "again to stop at once, without"
)


@contextlib.contextmanager
def progress(quiet: bool):
    """`watch(done, stages)`, which shows a bar, and `stop()`, which is true after a Ctrl-C.

    The first Ctrl-C only asks; the second ends the process: raised, it may crash a compilation.
    """
    console, asked = Console(stderr=True), []
    text = TextColumn("{task.description:>12}")
    bar = Progress(
        text,
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True, quiet=quiet),
    )
    task = bar.add_task("learning")

    def watch(done, stages):
        bar.start()
        bar.update(task, completed=done, total=stages)

    def note(number, frame):
        asked.append(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        console.show_cursor()  # which the progress bar hides
        console.print(ASKED, style="yellow")

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield watch, lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, previous)
        if bar.live.is_started:  # else it would end a line that never began
            bar.stop()


def show(learnt: LearntWeights, out: Path) -> None:
    """Advice, weights, numbers, how it was decided, warnings, and the advice again."""
    console = terminal.console()
    _advise(console, learnt)
    header, rows = weights_table(learnt)
    table = terminal.table(*header)
    table.columns[0].max_width = 30
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for made in (guardrails_table, front_table):
        _print_table(console, *made(learnt))
    for text in remarks(learnt):
        console.print(text, soft_wrap=True)
    for label, text in numbers(learnt):
        console.print(f"{label:<58}{text:>12}")
    console.print(terminal.verdict_line(learnt.verdict))
    for text in learnt.reasons:
        console.print(f"  {text}", highlight=False, markup=False)
    for text in (*learnt.warnings, *forbidden(learnt.outside)):
        console.print(text, style="yellow")
    if learnt.interrupted:
        console.print("interrupted: the best policy so far", style="yellow")
    _advise(console, learnt)
    kept = ", which is not to be played" if learnt.keep else ""
    written = f"Written: {out}{kept}; its value on any log: mopl evaluate LOG --target {out}"
    console.print(written, soft_wrap=True)


def _print_table(console, header, rows):
    """A table, where it has rows."""
    made = terminal.table(*header)
    for row in rows:
        made.add_row(*row)
    if rows:
        console.print(made)


def _advise(console, learnt):
    """The answer: the first thing seen, and the last."""
    console.print()
    console.print(terminal.headed(learnt.advice, f": {learnt.reason}"), soft_wrap=True)

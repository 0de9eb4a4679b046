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
    terminal.advise(console, learnt)
    table = terminal.filled(*weights_table(learnt))
    table.columns[0].max_width = 30
    console.print(table)
    for header, rows in (guardrails_table(learnt), front_table(learnt)):
        if rows:
            console.print(terminal.filled(header, rows))
    for text in remarks(learnt):
        console.print(text, soft_wrap=True)
    for label, text in numbers(learnt):
        console.print(f"{label:<58}{text:>12}")
    terminal.judge(console, learnt)
    interrupted = ["interrupted: the best policy so far"] * learnt.interrupted
    terminal.warn(console, [*learnt.warnings, *forbidden(learnt.outside), *interrupted], head="")
    terminal.advise(console, learnt)
    kept = ", which is not to be played" if learnt.keep else ""
    written = f"Written: {out}{kept}; its value on any log: mopl evaluate LOG --target {out}"
    console.print(written, soft_wrap=True)

"""What the commands show beside results: one JSON document, and progress on standard error."""

import contextlib
import json
import sys
from collections.abc import Callable, Generator
from importlib import metadata
from typing import Any

from mopl_jax.numerics.progress import Advance

VERSION = 1  # of the documents of all commands: another where a key changes its meaning or goes


def print_json(document: Any) -> None:
    """One document, with the version of its form and of the program; what is not finite is null."""
    from mopl_jax.io.files import finite

    about = {"mopl_json": VERSION, "mopl_version": metadata.version("mopl_jax")}
    print(json.dumps(about | finite(document), allow_nan=False, default=str))


def answer(found: Any, as_json: bool, screen: Callable, *more: Any) -> None:
    """Print what was found: its document, or the `screen` that shows it."""
    if as_json:
        print_json(found.to_dict())
    else:
        screen(found, *more)


TOLD = 2.0  # minutes of a core that are announced: the usual runs take less


def announce(what: str, minutes: float, fewer: str) -> None:
    """What a long run takes, on standard error before it begins, and what makes it shorter."""
    if minutes > TOLD:
        print(f"mopl: {what}: about {minutes:,.0f} minutes on a core ({fewer})", file=sys.stderr)


@contextlib.contextmanager
def bars(quiet: bool = False, lasting: bool = False) -> Generator[Advance, None, None]:
    """A function that moves the bar of a task, on standard error; the first call makes the bar.

    `lasting` bars stay when they are full, and are printed once where there is no terminal.
    """
    from rich import progress
    from rich.console import Console

    out = Console(stderr=True, quiet=quiet)
    columns = (
        progress.TextColumn("{task.description:>16}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    tasks: dict[str, progress.TaskID] = {}
    shown = progress.Progress(
        *columns, console=out, transient=not lasting, disable=not (lasting or out.is_terminal)
    )

    def advance(task: str, steps: int, total: int) -> None:
        shown.start()
        if task not in tasks:
            tasks[task] = shown.add_task(task, total=total)
        shown.advance(tasks[task], steps)

    try:
        yield advance
    finally:
        if tasks:
            shown.stop()

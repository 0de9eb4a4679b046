"""Options that the commands share: how a log is named, and checks of what comes from the command
line.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mopl_jax.io.log_reader import LogReader
from mopl_jax.io.policy_json import finite
from mopl_jax.io.read import open_log
from mopl_jax.numerics.check import check_alpha, choose

Log = Annotated[
    Path,
    typer.Argument(
        metavar="LOG",
        help="Rows: a Parquet, Arrow or CSV file, a folder of them, or a TOML that names them.",
    ),
]
Reward = Annotated[
    str | None, typer.Option(help="Column of the reward (default: reward).", show_default=False)
]
Action = Annotated[
    str | None,
    typer.Option(
        help=(
            "Columns of the weights played: a,b,c or a prefix or one list column (default:"
            " action_…)."
        )
    ),
]
Propensity = Annotated[
    str | None,
    typer.Option(help="Column: density of the logged action under the logging policy, > 0."),
]
LogPropensity = Annotated[str | None, typer.Option(help="Column: its logarithm.")]
Logging = Annotated[
    Path | None, typer.Option(help="Logging policy (JSON), for the densities instead of a column.")
]
Cluster = Annotated[
    str | None, typer.Option(help="Column of the user: rows of one user may depend on one another.")
]
Time = Annotated[str | None, typer.Option(help="Column of the time: numbers, dates or timestamps.")]
Estimator = Annotated[str, typer.Option(help="snips, ips, beta_ips, doubly_robust.")]
Alpha = Annotated[float, typer.Option(help="One minus the nominal coverage.")]
Range = Annotated[
    str | None,
    typer.Option(help="Least and largest reward that can occur, as 0,1.", metavar="LOW,HIGH"),
]
InMemory = Annotated[
    int,
    typer.Option(
        help="Rows up to which the log is held in memory; a longer one is read in passes."
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document, nothing else; infinite ends are null."),
]

__all__ = ["check_alpha", "choose"]


def read(log: Path, **roles: Any) -> LogReader:
    """The log that the options name."""
    action = roles.pop("action", None)
    return open_log(log, action=action.split(",") if action and "," in action else action, **roles)


def reward_range(text: str | None) -> tuple[float, float] | None:
    """LOW,HIGH as numbers, low < high; one may be infinite."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = math.nan
    if not low < high:
        raise ValueError(f"--reward-range: expected LOW,HIGH with LOW < HIGH, as 0,1; got {text!r}")
    return low, high


def print_json(document: Any) -> None:
    """One document; what is not finite is null."""
    print(json.dumps(finite(document), allow_nan=False, default=str))


def watched(reader: LogReader, quiet: bool):
    """A function that shows the progress of each pass over the log on standard error."""
    console = Console(stderr=True, quiet=quiet)

    def watch(chunks):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        ) as progress:
            bar = progress.add_task("reading", total=reader.source.count())
            for rows in chunks:
                yield rows
                progress.advance(bar, len(rows.reward))

    return watch

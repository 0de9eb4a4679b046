"""Options that the commands share: how a log is named, and how their text becomes numbers.

Nothing of the library is imported before a command runs.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mopl_jax.cli.show import bars, print_json
from mopl_jax.numerics.check import check_alpha, choose

if TYPE_CHECKING:
    from mopl_jax.io.log_reader import LogReader

__all__ = ["check_alpha", "choose", "print_json"]

REFUSED = 3  # the exit code of a log that is not to be used


def option(text: str, *names: str, **more: Any) -> Any:
    """An option with its help `text`; `names` where they are not those of the parameter."""
    return typer.Option(*names, help=text, **more)


Log = Annotated[
    Path,
    typer.Argument(
        metavar="LOG",
        help="Rows: a Parquet, Arrow or CSV file, a folder of them, or a TOML that names them.",
    ),
]
Reward = Annotated[
    str | None, option("Column of the reward (default: reward).", show_default=False)
]
Action = Annotated[
    str | None,
    option(
        "Columns of the weights played: a,b,c or a prefix or one list column (default: action_…)."
    ),
]
Propensity = Annotated[
    str | None, option("Column: density of the logged action under the logging policy, > 0.")
]
LogPropensity = Annotated[str | None, option("Column: its logarithm.")]
Logging = Annotated[
    Path | None, option("Logging policy (JSON), for the densities instead of a column.")
]
Cluster = Annotated[
    str | None, option("Column of the user: rows of one user may depend on one another.")
]
Time = Annotated[str | None, option("Column of the time: numbers, dates or timestamps.")]
Estimator = Annotated[str, option("snips, ips, beta_ips, doubly_robust.")]
Alpha = Annotated[float, option("One minus the nominal coverage.")]
Range = Annotated[
    str | None, option("Least and largest reward that can occur, as 0,1.", metavar="LOW,HIGH")
]
InMemory = Annotated[
    int, option("Rows up to which the log is held in memory; a longer one is read in passes.")
]
Json = Annotated[
    bool, option("Print one JSON document, nothing else; infinite ends are null.", "--json")
]
Document = Annotated[bool, option("Print one JSON document, nothing else.", "--json")]
Devices = Annotated[str | None, option("all, or how many; on CPU one for each core.", "--devices")]


def read(log: Path, **roles: Any) -> "LogReader":
    """The log that the options name."""
    from mopl_jax.io.read import open_log

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


def numbers(text: str, option: str) -> list[float]:
    """Finite numbers separated by commas."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{option}: expected numbers separated by commas, got {text!r}")
    return values


def integers(text: str | None, option: str) -> list[int] | None:
    """Whole numbers separated by commas; None for None."""
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"{option}: expected whole numbers separated by commas, as 8,64,512; got {text!r}"
        ) from None


def float64(wanted: bool = True) -> None:
    """Compute in float64 if `wanted`; entry points choose, the library never does."""
    import jax

    jax.config.update("jax_enable_x64", wanted)


def watched(reader: "LogReader", quiet: bool) -> Any:
    """A function that shows the progress of each pass over the log on standard error."""

    def watch(chunks):
        with bars(quiet) as advance:
            total = reader.source.count()
            for rows in chunks:
                yield rows
                advance("reading", len(rows.reward), total)

    return watch

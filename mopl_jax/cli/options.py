"""Options that the commands share: how a log is named, and how their text becomes numbers.

Nothing of the library is imported before a command runs.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from mopl_jax.cli.show import bars

REQUIRED = Parameter.empty  # the default of an option that must be given

Option = tuple[Any, Any]  # type and help, as typer reads them, and the default


def option(kind: Any, text: str, default: Any = None, *names: str, **more: Any) -> Option:
    """An option with its help `text`; `names` where they are not those of the parameter."""
    parsed = _as_path(kind) | more
    kind = kind | None if default is None else kind
    return Annotated[kind, typer.Option(*names, help=text, **parsed)], default


def flag(text: str, *names: str) -> Option:
    """An option that is on or off."""
    return option(bool, text, False, *names)


def argument(kind: Any, metavar: str, text: str) -> Option:
    """What is given without a name."""
    parsed: dict[str, Any] = {**_as_path(kind), "metavar": metavar}
    return Annotated[kind, typer.Argument(help=text, **parsed)], REQUIRED


def _as_path(kind) -> dict[str, Any]:
    """How typer reads a path: the empty one would be the folder one is in."""
    return {"parser": _path, "metavar": "PATH"} if Path in (kind, *get_args(kind)) else {}


def _path(text):
    if not str(text):
        raise typer.BadParameter("expected a path, got an empty one")
    return Path(text)


def log(text: Any) -> Any:
    """A path, or the address of a table, which a path would not keep."""
    return str(text) if "://" in str(text) else _path(text)


def takes(**options: Option) -> Callable:
    """A decorator to a command, which is called with all `options` by name, given or not."""
    order = Parameter.POSITIONAL_OR_KEYWORD
    signature = Signature(
        [
            Parameter(name, order, default=default, annotation=kind)
            for name, (kind, default) in options.items()
        ]
    )

    def decorate(command):
        @functools.wraps(command)
        def filled(*given, **named):
            bound = signature.bind(*given, **named)
            bound.apply_defaults()
            return command(**bound.arguments)

        filled.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
        return filled

    return decorate


ROWS = (
    "Rows: a Parquet, Arrow, CSV or JSON lines file, a folder, a TOML that names them, or a table"
    " of a query engine, as duckdb://week.db#events."
)
ACTIONS = "Columns of the weights played: a,b,c, a prefix, a pattern or one column of all of them."
LOG = Annotated[str, typer.Argument(help=ROWS, parser=log, metavar="LOG")], REQUIRED
ROLES = {
    "reward": option(str, "Column of the reward (default: reward).", show_default=False),
    "action": option(str, ACTIONS),
    "propensity": option(
        str, "Column: density of the logged action under the logging policy, > 0."
    ),
    "log_propensity": option(str, "Column: its logarithm."),
    "logging": option(Path, "Logging policy (JSON), for the densities instead of a column."),
    "cluster": option(str, "Column of the user: rows of one user may depend on one another."),
    "keep_probability": option(
        str, "Column: probability that a row was kept, of a log that was thinned."
    ),
    "sampling_weight": option(str, "Column: how many rows a row speaks for, its inverse."),
    "count": option(str, "Column: how many equal rows a row is, of a log that was added up."),
    "sum_of_squares": option(
        str, "Column: of a cell's rewards, whose sum is then --reward; with --count."
    ),
    "aggregate": option(str, "One outcome a user: sum, mean, any or last of the rewards."),
    "missing_reward": option(str, "What rows without a reward are: drop or zero."),
    "fit_logging": flag("Estimate the logging policy from the actions.", "--fit-logging"),
}
NEXT = {  # how rows speak for the next period
    "time": option(str, "Column: when a row was logged; with --half-life or --time-feature."),
    "half_life": option(
        str,
        "Age at which a row counts half: 30min (minutes), 12h (hours), 7d (days), 4w (weeks); auto:"
        " that which predicts best.",
    ),
    "time_feature": option(
        str, "Each weekday, hour, month, or value of a column counts alike, as all come next."
    ),
    "weekdays": flag("The same as --time-feature weekday.", "--weekdays"),
}
COLUMN = "ROLE=NAME: a column of another name (see mopl metric's page); repeat for several."
CONTROL = "Name of the control arms (default: by label, or the first arm of most experiments)."
SHARES = "Planned shares of users, NAME=SHARE,… (default: equal, or a column share)."
CORRELATION = (
    "Of the metrics over users, where only variances are known: nulls, increments, independent, or"
    " a file (users, or JSON)."
)
SCORECARDS = {  # how tables of tests are read
    "column": option(list[str], COLUMN),
    "control": option(str, CONTROL),
    "shares": option(str, SHARES),
    "correlation": option(str, CORRELATION),
    "leave_out": flag("Leave out arms that cannot be used, and say so.", "--leave-out"),
}
PER = option(str, "Column the reward is counted by, as views: the value is then a ratio.")
COVARIATE = option(str, "Columns known before the action, as a,b: what they explain is taken out.")
ESTIMATOR = option(str, "snips, calibrated, ips, beta_ips, doubly_robust.", "snips")
ALPHA = option(float, "One minus the nominal coverage.", 0.05)
MINIMISE = flag("The reward is a cost: less is better.", "--minimise")
IN_MEMORY = option(
    int, "Rows up to which the log is held in memory; a longer one is read in passes.", 1_000_000
)
RANGE = option(str, "Least and largest reward that can occur, as 0,1.", metavar="LOW,HIGH")
SQL = flag("Print the queries of a table on standard error.", "--show-sql")
FORCE = flag("Overwrite the file that is there.", "--force")
JSON = flag("Print one JSON document, nothing else; infinite ends are null.", "--json")
DOCUMENT = flag("Print one JSON document, nothing else.", "--json")
DEVICES = option(str, "all, or how many; on CPU one for each core.", None, "--devices")


def opened(given: dict[str, Any]) -> Any:
    """The log that the options name; what names it is taken out of what is `given`."""
    from mopl_jax.io.column_spec import ROLES
    from mopl_jax.io.read import open_log

    if given.pop("show_sql", False):
        _show_queries(given["log"])
    given["context"] = given.pop("covariate", None)
    roles = {name: given.pop(name) for name in (*ROLES, "logging") if name in given}
    return open_log(given.pop("log"), **roles)


def _show_queries(log):
    """Print each query before it runs; ValueError for a log that is not in an engine."""
    import logging

    if not isinstance(log, str):
        raise ValueError(f"{log}: --show-sql: expected a table of a query engine, got a file")
    shown = logging.StreamHandler()
    shown.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("mopl_jax.warehouse")
    logger.handlers, logger.propagate = [shown], False
    logger.setLevel(logging.INFO)


def check_output(
    out: Path | None, read: Sequence[Path | str | None], force: bool = False, name: str = "--out"
) -> None:
    """ValueError for a file that cannot be written, or is one of those that are read, or is there
    already, unless by `force`; `name` is the option's. None is no file.
    """
    from mopl_jax.io.files import check_output
    from mopl_jax.io.log_description import files_of

    if out is None:
        return
    check_output(out, name, [file for path in read if path for file in files_of(Path(path))])
    if out.exists() and not force:
        raise ValueError(
            f"{name}: {out} is there already; --force overwrites it, or name another file"
        )


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


def numbers(text: str | None, option: str, infinite: bool = False) -> Any:
    """Numbers separated by commas, finite ones unless `infinite`; None for None."""
    with contextlib.suppress(ValueError):
        values = [] if text is None else [float(part) for part in text.split(",")]
        if infinite or all(map(math.isfinite, values)):
            return values or None
    raise ValueError(f"{option}: expected numbers separated by commas, got {text!r}")


def integers(text: str | None, option: str) -> list[int] | None:
    """Whole numbers separated by commas; None for None."""
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"{option}: expected whole numbers separated by commas, as 8,64,512; got {text!r}"
        ) from None


def leave(*verdicts: str) -> None:
    """End the command: with code 3, of a log that is not to be used, where a verdict is refuse."""
    if "refuse" in verdicts:
        raise typer.Exit(3)


def float64(wanted: bool = True) -> None:
    """Compute in float64 if `wanted`; entry points choose, the library never does."""
    import jax

    jax.config.update("jax_enable_x64", wanted)


def watched(reader: Any, quiet: bool) -> Any:
    """A function that shows the progress of each pass over the log on standard error."""

    def watch(chunks):
        with bars(quiet) as advance:
            total = reader.source.count()
            for rows in chunks:
                yield rows
                advance("reading", len(rows.reward), total)

    return watch

"""Log tables in: named columns of Parquet or CSV files as float64 arrays, checked once, at this door.

Every complaint is a one-line ValueError: file, column, row, what was expected, the remedy. Rows count from 1, the first
row of data (a CSV header is not counted).
"""

import difflib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
from jaxtyping import Bool, Float


class LogTable(NamedTuple):
    """Three columns of a log of n decisions: `reward` (n,), and the log densities of the logged action, (n,) each.

    `log_propensity` is under the logging policy and finite; `log_target` under the target policy, −inf where that
    policy cannot play the action.
    """

    reward: Float[np.ndarray, " n"]
    log_propensity: Float[np.ndarray, " n"]
    log_target: Float[np.ndarray, " n"]

    @property
    def log_weight(self) -> Float[np.ndarray, " n"]:
        """Log importance weights, (n,)."""
        return self.log_target - self.log_propensity


def read_log(
    path: Path, *, reward: str, propensity: str, target_propensity: str, log_densities: bool = False
) -> LogTable:
    """The three named columns of a log file; densities (or probabilities), or their logs if `log_densities`.

    Density 0 (log density −inf) is data in the target column and an error in the propensity column: what was logged had
    positive propensity. ValueError as in `read_columns`, and for densities that are not positive.
    """
    may_be_zero = {target_propensity} - {reward, propensity} if log_densities else set()
    columns = read_columns(path, (reward, propensity, target_propensity), minus_infinity=may_be_zero)
    if log_densities:
        return LogTable(columns[reward], columns[propensity], columns[target_propensity])
    logs = [_log(columns[name], path, name) for name in (propensity, target_propensity)]
    remedy = "a logged action had positive propensity: repair or drop the row"
    _require(columns[propensity] > 0, columns[propensity], path, propensity, "a density > 0", remedy)
    return LogTable(columns[reward], *logs)


def read_columns(
    path: Path, names: Sequence[str], *, minus_infinity: Collection[str] = ()
) -> dict[str, Float[np.ndarray, " n"]]:
    """Columns `names` of a .parquet, .pq or .csv file, float64, (n,) each with n ≥ 1; booleans become 0 and 1.

    ValueError where the file or a column is absent or unreadable, or an entry is missing, no number or not finite
    (−inf is accepted in the columns `minus_infinity`).
    """
    path = Path(path)
    table = _read(path, tuple(dict.fromkeys(names)))
    if table.num_rows == 0:
        raise ValueError(f"{path}: expected at least one row, got an empty log; check the export that produced it")
    columns = {name: _numbers(table.column(name), path, name) for name in table.column_names}
    for name, values in columns.items():
        finite = np.isfinite(values) | (np.isneginf(values) if name in minus_infinity else False)
        _require(finite, values, path, name, "a finite number", "repair or drop the row")
    return columns


# The file: what can be wrong before a value is looked at.


def _read(path: Path, names: Sequence[str]) -> pa.Table:
    column_names, read = _reader(path)
    try:
        known = column_names(path)
        _check_columns(path, names, known)
        return read(path, names)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({_reason(error)}); check the path and its permissions") from None
    except pa.ArrowException as error:
        kind = path.suffix.lower().lstrip(".")
        raise ValueError(f"{path}: cannot be read as {kind} ({_reason(error)}); export the file again") from None


def _reader(path: Path) -> tuple[Callable[[Path], list[str]], Callable[[Path, Sequence[str]], pa.Table]]:
    """The functions for this suffix that list the columns and that read some of them."""
    if path.is_dir():
        raise ValueError(f"{path}: expected one .parquet or .csv file, got a directory; name a file in it")
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"{path}: expected a file ending in {', '.join(_READERS)}, got {path.suffix!r}; convert it")
    if not path.exists():
        raise ValueError(f"{path}: no such file; check the path")
    return _READERS[path.suffix.lower()]


def _check_columns(path, names, known):
    for name in names:
        if known.count(name) > 1:
            raise ValueError(f"{path}: expected one column {name!r}, got {known.count(name)}; rename them")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{path}: no column {name!r}; {hint}columns: {', '.join(known)}")


def _reason(error):
    """First line of the system's or pyarrow's own words; its physical CSV rows count the header, so they are lines."""
    words = getattr(error, "strerror", None) or str(error)
    return words.splitlines()[0].replace("Row #", "line ")[:160] if words else type(error).__name__


def _parquet_names(path):
    with pq.ParquetFile(path) as file:
        return file.schema_arrow.names


def _parquet_read(path, names):
    with pq.ParquetFile(path) as file:
        return file.read(columns=list(names))


_SERIAL = csv.ReadOptions(use_threads=False)  # only the serial reader says in which row it failed


def _csv_names(path):
    with csv.open_csv(path, read_options=_SERIAL) as file:
        return file.schema.names


def _csv_read(path, names):
    return csv.read_csv(path, read_options=_SERIAL, convert_options=csv.ConvertOptions(include_columns=list(names)))


_READERS = {
    ".parquet": (_parquet_names, _parquet_read),
    ".pq": (_parquet_names, _parquet_read),
    ".csv": (_csv_names, _csv_read),
}


# The values.


def _numbers(column: pa.ChunkedArray, path: Path, name: str) -> Float[np.ndarray, " n"]:
    """Any numeric or boolean column as float64; what is missing or no number is named with its row."""
    kind = column.type
    null = pc.is_null(column).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        _refuse_text(column, path, name)
    if not (pa.types.is_null(kind) or any(check(kind) for check in _NUMERIC)):
        raise ValueError(f"{path}: column {name!r}: expected numbers, got {kind}; name or make a numeric column")
    _require(~null, np.full(null.shape, "a missing value"), path, name, "a number", "fill in or drop the row")
    return column.cast(pa.float64(), safe=False).to_numpy()


_NUMERIC = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)


def _refuse_text(column, path, name):
    """ValueError with the first entry that is no number; if all of them are, the column is text all the same."""
    for row, text in enumerate(column.to_pylist()):
        if text is not None and not _is_number(text):
            raise ValueError(_complaint(path, name, row, "a number", repr(text[:40]), "repair or drop the row"))
    raise ValueError(f"{path}: column {name!r}: expected numbers, got text; store the column as numbers")


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _log(density, path, name):
    """log density, −inf at 0."""
    remedy = "these look like log densities; pass --log-densities"
    _require(density >= 0, density, path, name, "a density ≥ 0", remedy)
    with np.errstate(divide="ignore"):
        return np.log(density)


def _require(fine: Bool[np.ndarray, " n"], values, path: Path, name: str, expected: str, remedy: str) -> None:
    """ValueError that names the first row that is not `fine`."""
    if not fine.all():
        row = int(np.argmin(fine))
        raise ValueError(_complaint(path, name, row, expected, values[row], remedy))


def _complaint(path, name, row, expected, got, remedy):
    where = f"column {name!r}, row {row + 1} (row 1 is the first row of data)"
    return f"{path}: {where}: expected {expected}, got {got}; {remedy}"

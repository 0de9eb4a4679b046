"""JSON lines: an object a row, types guessed from the first rows; objects in objects are columns
`outer.inner` (`nested`). What nobody asks for may be of any type in any row.
"""

import contextlib
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from mopl_jax.io import packed

SUFFIXES = (".jsonl", ".ndjson", ".dsjson")
FIRST = 1000  # rows by which types are told
BATCH = 2**22  # bytes of text, and those of a line more
LONGEST = 2**24  # bytes of a line
KINDS = {"double": "a number", "string": "text", "bool": "true or false"}


def remarks(path: Path) -> tuple[str, ...]:
    """Nothing."""
    return ()


def schema_of(path: Path) -> pa.Schema:
    """Names and guessed types of the columns; the first value's, where they are of no one type."""
    return pa.schema(_struct(next(_parts(path), [])[:FIRST]))


def batches(
    path: Path, names: Sequence[str], schema: pa.Schema, text: Collection[str]
) -> Iterator[pa.RecordBatch]:
    """The columns `names`: whole numbers are numbers of any kind, those of `text` as they are."""
    kinds = [_wide(schema.field(name).type, name, text) for name in names]
    first = 0
    for part in _parts(path):
        columns = [
            _column([row.get(name) for row in part], kind, f"{path}: column {name!r}, row", first)
            for name, kind in zip(names, kinds, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, names=list(names))
        first += len(part)


def _column(values, kind, where, first):
    """The values of a column; ValueError with the first that is not of its kind."""
    try:
        return pa.array(values, kind)
    except _MISFIT:
        row = next(row for row, value in enumerate(values) if not _fits(value, kind))
        raise ValueError(
            f"{where} {first + row + 1} (row 1 is the first row of data): expected"
            f" {KINDS.get(str(kind), kind)}, as in rows before, got {values[row]!r:.40}; repair or"
            " drop the row"
        ) from None


def _fits(value, kind):
    try:
        pa.array([value], kind)
    except _MISFIT:
        return False
    return True


def count(path: Path) -> int:
    """The lines that are not empty."""
    return sum(1 for _ in _lines(path))


def _lines(path) -> Iterator[tuple[int, bytes]]:
    with packed.text_of(path) as stream, io.BufferedReader(stream) as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), 1):
            if len(line) == LONGEST:
                raise ValueError(
                    f"{path}: line {number}: expected an object of less than {LONGEST:,} bytes, got"
                    " a longer line; store one row a line"
                )
            if line.strip():
                yield number, line


def _parts(path) -> Iterator[list[dict[str, Any]]]:
    """The rows, those of `BATCH` bytes at a time."""
    rows, size = [], 0
    for number, line in _lines(path):
        rows.append(_row(path, number, line))
        size += len(line)
        if size >= BATCH:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _row(path, number, line):
    try:
        row = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise ValueError(
            f"{path}: line {number}: expected an object in JSON ({error}); export it again"
        ) from None
    if not isinstance(row, dict):
        raise ValueError(f"{path}: line {number}: expected an object in JSON, got {line[:40]!r}")
    return row


def _type(values):
    values = [value for value in values if value is not None]
    if values and all(isinstance(value, dict) for value in values):
        return _struct(values)
    for some in (values, values[:1]):
        with contextlib.suppress(*_MISFIT):
            return pa.array(some).type
    return _LARGE if isinstance(values[0], int) else pa.string()


def _struct(rows):
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.struct([(name, _type([row.get(name) for row in rows])) for name in names])


_MISFIT = (pa.ArrowException, OverflowError)
_LARGE = pa.decimal128(38, 0)  # whole numbers beyond 64 bits with a sign


def _wide(kind: pa.DataType, name: str, text: Collection[str]) -> pa.DataType:
    """The type whose whole numbers are numbers of any kind, as later ones may have a point; those
    that stand for themselves are not rounded.
    """
    if pa.types.is_struct(kind):
        inner = ((field, f"{name}.{field.name}") for field in kind)
        return pa.struct([field.with_type(_wide(field.type, x, text)) for field, x in inner])
    if pa.types.is_list(kind):
        return pa.list_(_wide(kind.value_type, name, ()))
    whole = pa.types.is_integer(kind) or pa.types.is_decimal(kind)
    return pa.float64() if pa.types.is_null(kind) or (whole and name not in text) else kind

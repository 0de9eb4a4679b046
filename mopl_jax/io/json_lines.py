"""JSON lines: an object a row, types guessed from the first rows; objects in objects are columns
`outer.inner` (`nested`). What nobody asks for may be of any type in any row.
"""

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from mopl_jax.io import packed

SUFFIXES = (".jsonl", ".ndjson", ".dsjson")
FIRST = 1000  # rows by which types are told
BATCH = 2**15


def remarks(path: Path) -> tuple[str, ...]:
    """Nothing."""
    return ()


def schema_of(path: Path) -> pa.Schema:
    """Names and guessed types of the columns; text, where values of a column are of no one type."""
    rows = list(islice(_rows(path), FIRST))
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.schema([(name, _type([row.get(name) for row in rows])) for name in names])


def batches(path: Path, names, schema, text) -> Iterator[pa.RecordBatch]:
    """Those of the columns."""
    kinds = [_wide(schema.field(name).type) for name in names]
    rows = _rows(path)
    while part := list(islice(rows, BATCH)):
        columns = [
            pa.array([row.get(name) for row in part], kind)
            for name, kind in zip(names, kinds, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, names=list(names))


def count(path: Path) -> int:
    """The lines that are not empty."""
    with packed.text_of(path) as stream:
        return sum(1 for line in io.BufferedReader(stream) if line.strip())


def _rows(path) -> Iterator[dict[str, Any]]:
    with packed.text_of(path) as stream:
        for number, line in enumerate(io.BufferedReader(stream), 1):
            if line.strip():
                yield _row(path, number, line)


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
    try:
        return pa.array(values).type
    except pa.ArrowException:
        return pa.string()


def _wide(kind: pa.DataType) -> pa.DataType:
    """The type whose whole numbers are numbers of any kind: later ones may have a point."""
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_wide(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_wide(kind.value_type))
    return pa.float64() if pa.types.is_integer(kind) or pa.types.is_null(kind) else kind

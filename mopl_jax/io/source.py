"""A source of rows, and the pieces that it is read in."""

import difflib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa


class Piece(NamedTuple):
    """Consecutive rows of one file.

    `place`: the file.
    `first_row`: the number of the first of these rows in the file, counted from zero.
    `rows`: the columns that were asked for.
    `part`: which of several pooled sources they are of, from 0.
    """

    place: str
    first_row: int
    rows: pa.RecordBatch
    part: int = 0


class Source(NamedTuple):
    """Rows that can be scanned as often as needed.

    `name`: the path, or the type of a table in memory.
    `schema`: names and types of the columns.
    `scan`: `scan(columns, text)` gives all rows; `text` columns are not parsed as numbers.
    `count`: `count()` is the number of rows.
    `remarks`: what was done to read it that the user may not expect.
    `table`: of a query engine, where the rows lie in one; `scan` would take them out of it.
    """

    name: str
    schema: pa.Schema
    scan: Callable[[Sequence[str], Collection[str]], Iterator[Piece]]
    count: Callable[[], int]  # pyright: ignore[reportIncompatibleMethodOverride]
    remarks: tuple[str, ...] = ()
    table: Any = None

    def column(self, name: str, option: str = "") -> str:
        """`name`, or ValueError unless it is one column, with the `option` that names it and the
        nearest that is.
        """
        known = self.schema.names
        if known.count(name) > 1:
            raise ValueError(
                f"{self.name}: expected one column {name!r}, got {known.count(name)}; rename them"
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            named = f"{name!r} ({option})" if option else repr(name)
            raise ValueError(f"{self.name}: no column {named}; {hint}columns: {', '.join(known)}")
        return name

    def kind(self, name: str) -> pa.DataType:
        """The type of a column; ValueError as for `column`."""
        return self.schema.field(self.column(name)).type


def empty(name: object) -> str:
    """The complaint about a log without rows."""
    return f"{name}: expected at least one row, got an empty log; check the export that produced it"

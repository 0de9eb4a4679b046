"""How contextual policies see the rows of a log: their columns, encoded as they are read."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mopl_jax.io.arrow import kernels as pc
from mopl_jax.io.column_spec import ColumnSpec
from mopl_jax.io.columns import Place, coded, numbers, plain
from mopl_jax.io.kinds import is_number
from mopl_jax.io.source import Piece, Source
from mopl_jax.policies.contextual import Level, Levels, level, shown


class Context(NamedTuple):
    """How one contextual policy sees rows.

    `policy`: the policy.
    `unknown`: the values of its columns that it does not know, as far as rows have been read.
    """

    policy: Any
    unknown: dict[tuple[Level, ...], None]

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Its columns, and whether each is read as numbers."""
        return list(zip(self.policy.columns, self.policy.numeric, strict=True))

    def codes(self, piece: Piece) -> Any:
        """The code of each row of a piece."""
        read = [
            (_measured if numeric else levels_of)(
                piece.rows.column(name), Place(piece.place, name, piece.first_row)
            )
            for name, numeric in self.columns
        ]
        codes, unknown = self.policy.encode(read)
        if len(self.unknown) < MOST:
            self.unknown.update(dict.fromkeys(unknown))
        return codes


MOST, NAMED = 1000, 3  # unknown values that are kept, and that are named


def remark_on(context: Context) -> str | None:
    """What to know of values that the policy does not know, once rows have been read."""
    if not context.unknown:
        return None
    named = [shown(values) for values in list(context.unknown)[:NAMED]]
    rest = len(context.unknown) - len(named)
    more = f" and {rest:,} others" if rest else ""
    return (
        f"{', '.join(context.policy.columns)}: no weights for {'; '.join(named)}{more}: these rows"
        " are played what the policy has for all others"
    )


def context_of(policy: Any, source: Source, columns: ColumnSpec, what: str) -> Context:
    """How the `what` sees the rows of a source; ValueError where that lacks its columns."""
    if source.table is not None:
        raise ValueError(
            f"{source.name}: the {what} depends on {', '.join(policy.columns)}, and rows of a query"
            " engine are not told apart: export them to Parquet"
        )
    if columns.aggregate:
        raise ValueError(
            f"--aggregate: the {what} depends on {', '.join(policy.columns)}, of which a user may"
            " have several; drop one of the two"
        )
    absent = [name for name in policy.columns if name not in source.schema.names]
    if absent:
        raise ValueError(
            f"{source.name}: the {what} depends on {', '.join(policy.columns)}: no column"
            f" {absent[0]!r}; columns: {', '.join(source.schema.names)}"
        )
    for name in policy.columns:
        source.column(name)
    return Context(policy, {})


def levels_of(column: Any, place: Place) -> Levels:
    """A column as levels; missing values are one. ValueError for one of lists or records."""
    words, index = coded(plain(column, place))
    known: dict[Level, int] = {}
    number = [known.setdefault(level(word), len(known)) for word in words]
    return Levels(tuple(known), np.asarray(number, np.int64)[index])


def _measured(column: Any, place: Place) -> Float[np.ndarray, " n"]:
    """A column of numbers, NaN where one is missing."""
    column = plain(column, place)
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if not is_number(column.type):
        return numbers(column, place)  # which says what is wrong with it
    column = column.cast(pa.float64(), safe=False)
    missing = pc.is_null(column, nan_is_null=True)
    there = numbers(pc.if_else(missing, 0.0, column), place)
    return np.where(np.asarray(missing), np.nan, there)


class Recorder:
    """A policy's part in the reading of rows, that only takes down what it sees: columns of levels
    as their numbers, measured ones as they are.
    """

    def __init__(self, columns: Sequence[str], numeric: Sequence[bool], measured: Sequence[bool]):
        self.columns, self.numeric, self.measured = tuple(columns), tuple(numeric), tuple(measured)
        self.words: list[dict[Level, int]] = [{} for _ in columns]

    def encode(self, columns: Sequence[Any]) -> tuple[Float[np.ndarray, "n c"], tuple]:
        """What each row has in each column; nothing is unknown."""
        found = []
        for column, known in zip(columns, self.words, strict=True):
            if isinstance(column, Levels):
                each = [known.setdefault(word, len(known)) for word in column.words]
                column = np.asarray(each, float)[column.index]
            found.append(column)
        return np.stack(found, axis=1), ()

    def columns_of(self, codes: Float[np.ndarray, "n c"]) -> list[Any]:
        """The columns of all rows: numbers (n,), or `Levels`."""
        return [
            x if numeric else Levels(tuple(known), x.astype(np.int64))
            for x, known, numeric in zip(codes.T, self.words, self.numeric, strict=True)
        ]


def recorded(reader: Any, names: Sequence[str], measure: bool) -> tuple[Any, Recorder]:
    """The reader whose rows also have these columns, as the last of their codes; numbers measured
    if `measure`, else levels as the others.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"context: expected columns once each, got {', '.join(names)}")
    types = [reader.source.kind(name) for name in names]
    numbers = [is_number(kind) and not pa.types.is_boolean(kind) for kind in types]
    kinds = Recorder(names, [measure and x for x in numbers], numbers)
    context = context_of(kinds, reader.source, reader.columns, "context")
    return reader._replace(contexts=(*reader.contexts, context)), kinds

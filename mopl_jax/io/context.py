"""How contextual policies see the rows of a log: their columns, encoded as they are read."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mopl_jax.io.column_spec import ColumnSpec
from mopl_jax.io.columns import Place, coded, numbers
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
    return Context(policy, {})


def levels_of(column: Any, place: Place) -> Levels:
    """A column as levels; missing values are one. ValueError for one of lists or records."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_nested(column.type):
        raise ValueError(
            f"{place.path}: column {place.name!r}: expected numbers or text, got {column.type};"
            " name another"
        )
    words, index = coded(column)
    known: dict[Level, int] = {}
    number = [known.setdefault(level(word), len(known)) for word in words]
    return Levels(tuple(known), np.asarray(number, np.int64)[index])


def _measured(column: Any, place: Place) -> Float[np.ndarray, " n"]:
    """A column of numbers, NaN where one is missing."""
    if not column.null_count:
        return numbers(column, place)
    there = np.asarray(column.is_valid())
    values = np.full(len(column), np.nan)
    values[there] = numbers(column.drop_null(), place)
    return values

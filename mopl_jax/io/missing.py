"""Rows without a reward: refused with their number, or what the caller says that they are."""

import functools

import numpy as np
import pyarrow as pa

from mopl_jax.io.arrow import kernels as pc
from mopl_jax.io.columns import Place
from mopl_jax.io.kinds import is_text
from mopl_jax.io.source import Piece, Source
from mopl_jax.io.table_source import with_rewards as in_table
from mopl_jax.numerics.check import choose

REMEDIES = {"drop": "were dropped", "zero": "count as 0"}


def with_rewards(source: Source, name: str | None, remedy: str | None) -> Source:
    """The source whose rows all have the reward `name`: others are dropped, or have reward 0."""
    if remedy is None or name is None:
        return source
    choose([remedy], REMEDIES, "--missing-reward")
    if source.table is not None:
        return in_table(source, name, remedy, _said)

    def scan(names, text):
        wanted = list(dict.fromkeys([*names, name]))
        for piece in source.scan(wanted, text):
            yield _select(_present(piece, name, remedy), names)

    def count():
        return source.count() - (missing_rewards(source, name) if remedy == "drop" else 0)

    remarks = _said(source, missing_rewards(source, name), remedy)
    return source._replace(scan=scan, count=functools.cache(count), remarks=remarks)


def _said(source, missing, remedy) -> tuple[str, ...]:
    said = f"{missing:,} of {source.count():,} rows have no reward and {REMEDIES[remedy]}"
    return (*source.remarks, said) if missing else source.remarks


def missing_rewards(source: Source, name: str) -> int:
    """How many rows have no reward, or one that is not a number."""
    pieces = source.scan([name], ())
    return sum(int(_is_missing(piece.rows.column(name)).sum()) for piece in pieces)


REMEDY = (
    "say what such rows are: --missing-reward drop (their outcome is not known) or zero"
    " (nothing happened)"
)


def refuse_missing(source: Source, column: pa.Array, place: Place) -> None:
    """ValueError, with both remedies, where rewards are missing."""
    missing = _is_missing(column)
    if not missing.any():
        return
    count = f"in {missing_rewards(source, place.name):,} of {source.count():,} rows"
    row = int(np.argmax(missing))
    raise ValueError(place.complaint(row, "a number", f"a missing value, {count}", REMEDY))


def _is_missing(column) -> np.ndarray:
    is_number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    if is_number and column.null_count == 0:
        return np.isnan(np.from_dlpack(column))
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    empty = pc.is_null(column, nan_is_null=not is_text(column.type))
    return np.from_dlpack(empty.cast(pa.uint8())) == 1


def _present(piece: Piece, name: str, remedy: str) -> Piece:
    column = piece.rows.column(name)
    missing = _is_missing(column)
    if not missing.any():
        return piece
    if remedy == "drop":
        return piece._replace(rows=piece.rows.filter(pa.array(~missing)))
    index = piece.rows.schema.get_field_index(name)
    kept = pc.if_else(pa.array(missing), pa.scalar(0, column.type), column)
    return piece._replace(rows=piece.rows.set_column(index, name, kept))


def _select(piece: Piece, names) -> Piece:
    return piece._replace(rows=piece.rows.select(list(names)))

"""Kinds of columns: what a value of an Arrow type is, whichever way it is stored.

A column has one kind in all files of a log: numbers of any type are one kind and are read each as
it is, but a user `7` of one file is not the user `"7"` of another.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from mopl_jax.io.source import Piece

_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)

SEASONS = ("weekday", "hour", "month")  # what times have in common


def is_number(kind: pa.DataType) -> bool:
    """Whether every entry is a number, or true or false."""
    return any(check(kind) for check in _NUMBERS)


def is_text(kind: pa.DataType) -> bool:
    """Whether every entry is text."""
    return any(check(kind) for check in _TEXT)


def is_list(kind: pa.DataType) -> bool:
    """Whether every entry is a list."""
    return any(check(kind) for check in _LISTS)


def is_time(kind: pa.DataType) -> bool:
    """Whether every entry is a date or a point in time."""
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def is_nested(kind: pa.DataType) -> bool:
    """Whether every entry has named parts: a structure or a map."""
    return pa.types.is_struct(kind) or pa.types.is_map(kind)


_KINDS = {"numbers": is_number, "text": is_text, "lists": is_list, "times": is_time}


def kind_of(kind: pa.DataType) -> str:
    """The kind in a word; the type itself where it is none of them."""
    if pa.types.is_dictionary(kind):
        return kind_of(kind.value_type)
    return next((name for name, check in _KINDS.items() if check(kind)), str(kind))


def alike(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces; ValueError that names both files where a column is of two kinds."""
    seen: dict[str, tuple[str, str]] = {}
    for piece in pieces:
        for field in piece.rows.schema:
            if pa.types.is_null(field.type):
                continue
            kind = kind_of(field.type)
            first, file = seen.setdefault(field.name, (kind, piece.place))
            if kind != first:
                raise ValueError(
                    f"{piece.place}: column {field.name!r}: expected {first}, as in {file}, got"
                    f" {kind}; store the column as one kind in all files"
                )
        yield piece

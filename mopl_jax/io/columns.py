"""Arrow columns as numpy arrays, or one line that names the first entry that does not fit.

`Place` says where a column's rows come from, so that a complaint can name file, column and row.
"""

import contextlib
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from mopl_jax.io.arrow import kernels as pc
from mopl_jax.io.kinds import is_number, is_text, is_time

Column = Float[np.ndarray, " n"]


class Place(NamedTuple):
    """Where rows of a column come from.

    `path`: the file.
    `name`: the column.
    `first_row`: the number of the first of these rows in the file, counted from zero.
    """

    path: str
    name: str
    first_row: int = 0

    def complaint(self, row: int, expected: str, got: object, remedy: str) -> str:
        """Where, what was expected, what is there, what to do."""
        where = (
            f"column {self.name!r}, row {self.first_row + row + 1} (row 1 is the first row of data)"
        )
        return f"{self.path}: {where}: expected {expected}, got {got}; {remedy}"

    def require(
        self, fine: Bool[np.ndarray, " n"], values: Any, expected: str, remedy: str
    ) -> None:
        """ValueError that names the first row that is not `fine`."""
        if not fine.all():
            row = int(np.argmin(fine))
            raise ValueError(self.complaint(row, expected, values[row], remedy))


def numbers(column: pa.Array, place: Place, minus_infinity: bool = False) -> Column:
    """Any numeric or boolean column as finite float64 (or −inf where that is allowed)."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return numbers(column.dictionary_decode(), place, minus_infinity)
    if is_text(kind):
        _refuse_text(column, place)
    if not (pa.types.is_null(kind) or is_number(kind)):
        raise ValueError(
            f"{place.path}: column {place.name!r}: expected numbers, got {kind}; name or make a"
            " numeric column"
        )
    present(column, place, "a number")
    if kind != pa.float64():
        column = column.cast(pa.float64(), safe=False)
    values = _numpy(column)
    finite = np.isfinite(values) | (np.isneginf(values) if minus_infinity else False)
    place.require(finite, values, "a finite number", "repair or drop the row")
    return values


def _numpy(column: pa.Array) -> np.ndarray:
    """The entries, none of which is missing; `to_numpy` would import pandas."""
    return np.from_dlpack(column)


def present(column: pa.Array, place: Place, expected: str) -> None:
    """ValueError where an entry is missing."""
    if column.null_count:
        there = _numpy(pc.is_valid(column).cast(pa.uint8())) == 1
        place.require(
            there, np.full(there.shape, "a missing value"), expected, "fill in or drop the row"
        )


def _refuse_text(column, place):
    """ValueError with the first entry that is no number; if all of them are, the column is text all
    the same.
    """
    for row, text in enumerate(column.to_pylist()):
        if text is not None and not _is_number(text):
            raise ValueError(
                place.complaint(row, "a number", repr(text[:40]), "repair or drop the row")
            )
    raise ValueError(
        f"{place.path}: column {place.name!r}: expected numbers, got text; store the column as"
        " numbers"
    )


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def log_density(column: pa.Array, place: Place, *, log: bool, zero: bool) -> Column:
    """Log densities from a column of densities, or of their logarithms; density 0 (−inf) only where
    `zero` is data.
    """
    values = numbers(column, place, minus_infinity=log and zero)
    if log:
        return values
    place.require(
        values >= 0, values, "a density ≥ 0", "these look like log densities; pass --log-densities"
    )
    if not zero:
        remedy = "a logged action had positive propensity: repair or drop the row"
        place.require(values > 0, values, "a density > 0", remedy)
    with np.errstate(divide="ignore"):
        return np.log(values)


def vectors(column: pa.Array, place: Place, d: int | None) -> Float[np.ndarray, "n d"]:
    """A column of lists of `d` numbers each; of as many as the first has, if None."""
    present(column, place, "a list of numbers")
    lengths = _numpy(pc.list_value_length(column))
    d = max(int(lengths[0]), 1) if d is None else d
    place.require(
        lengths == d,
        lengths,
        f"a list of {d} numbers",
        "all actions have the same weights: repair the row",
    )
    entries = column.flatten()
    try:
        return numbers(entries, Place(place.path, place.name)).reshape(len(column), d)
    except ValueError:
        for i in range(d):  # the same complaint again, with the row of the list
            numbers(
                entries.take(pa.array(np.arange(i, len(entries), d))),
                place._replace(name=f"{place.name}[{i}]"),
            )
        raise


def seconds(column: pa.Array, place: Place) -> Column:
    """Numbers as they are; dates and times, also as text of ISO 8601, as seconds since 1970."""
    times = _times(column)
    if is_text(times.type):
        _refuse_times(times, place)
    if not is_time(times.type):
        return numbers(column, place)
    present(times, place, "a time")
    whole = times.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return _numpy(whole) / 1e6


def _refuse_times(text, place):
    """ValueError with the first entry of a column of text that is no time; none where numbers are
    meant.
    """
    for row, entry in enumerate(text.to_pylist()):
        if row == 0 and entry is not None and _is_number(entry):
            return
        if not is_time(_times(text.slice(row, 1)).type):
            expected = "a time as 2026-01-05T12:00 (ISO 8601), or a number"
            raise ValueError(
                place.complaint(row, expected, repr(entry)[:40], "repair or drop the row")
            )
    raise ValueError(
        f"{place.path}: column {place.name!r}: expected times all with a zone or all without, got"
        " both; store them as timestamps"
    )


def is_moment(column: pa.Array) -> bool:
    """Whether the entries are dates or times, also as text."""
    return is_time(_times(column).type)


def _times(column):
    """Text as times, where all of it is; anything else as it is."""
    if pa.types.is_dictionary(column.type):
        return _times(column.dictionary_decode())
    if not is_text(column.type):
        return column
    text = column.cast(pa.string())
    for words, standard in _ZONES:
        text = pc.replace_substring_regex(text, words, standard)
    for zone in (None, "UTC"):
        with contextlib.suppress(pa.ArrowInvalid):
            return text.cast(pa.timestamp("us", zone))
    return column


_ZONES = ((r"\s*(UTC|GMT)$", "Z"), (r"\s+([+-]\d\d:?\d\d)$", r"\1"))  # as ISO 8601 has them


def coded(column: pa.Array) -> tuple[list, Int[np.ndarray, " n"]]:
    """The values in the order in which they first occur, and of each entry which it is.

    Integers by NumPy: pyarrow's own would import its kernels, for as long as a small log takes.
    A missing value is one of them, None.
    """
    if not pa.types.is_integer(column.type) or column.null_count:
        encoded = column.dictionary_encode(null_encoding="encode")
        return encoded.dictionary.to_pylist(), _numpy(encoded.indices)
    values, first, index = np.unique(_numpy(column), return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return values[order].tolist(), place[index]


def plain(column: pa.Array, place: Place) -> pa.Array:
    """A column without a dictionary, of which a missing value may be a word; ValueError for one of
    lists or records.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_nested(column.type):
        raise ValueError(
            f"{place.path}: column {place.name!r}: expected numbers or text, got {column.type};"
            " name another"
        )
    return column


def codes(
    column: pa.Array, place: Place, known: dict[Hashable, int], what: str = "a cluster"
) -> Int[np.ndarray, " n"]:
    """0, 1, 2 … in the order in which values of any type first occur; `known` holds them, and
    grows. An empty text is a missing value; `what` values are called in complaints.
    """
    column = plain(column, place)
    if isinstance(column.type, pa.BaseExtensionType):  # a UUID is its bytes
        return codes(column.storage, place, known, what)
    present(column, place, what)
    if pa.types.is_floating(column.type):
        numbers(column, place)
    words, index = coded(column)
    number = np.array([known.setdefault(value, len(known)) for value in words], np.int64)
    if "" in words:
        named = index != words.index("")
        place.require(named, np.full(len(named), "an empty text"), what, "name or drop it")
    return number[index]

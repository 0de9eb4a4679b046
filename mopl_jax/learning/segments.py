"""Segments of a log: rows that have the same levels of all columns of the context."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from mopl_jax.policies.contextual import Level, Levels

MOST = 200  # segments with weights of their own, of which each has its row in the report
LEVELS = 1000  # of a column: more are no segments, but names or numbers
LEAST = 20  # rows that teach, below which a segment has the weights of all others
EACH = 2  # users of a segment on average, below which it names the user


class Segmentation(NamedTuple):
    """Which segment each row is in.

    `values`: the levels of the S segments, those with the most rows first
    `code` (n,): the number of each row's, S where it is in none of them
    `others`: how many segments there are beside them, each of few rows
    """

    values: tuple[tuple[Level, ...], ...]
    code: Int[np.ndarray, " n"]
    others: int


def segmentation(
    columns: Sequence[Levels], names: Sequence[str], place: str, most: int = MOST
) -> Segmentation:
    """At most so many segments of at least `LEAST` rows; ValueError where there is one alone."""
    code, sizes = np.zeros(len(columns[0].index), np.int64), [len(x.words) for x in columns]
    for column, size in zip(columns, sizes, strict=True):
        code = code * size + column.index
    seen, index, count = np.unique(code, return_inverse=True, return_counts=True)
    kept = np.argsort(-count, kind="stable")[: min(most, MOST)]
    kept = kept[count[kept] >= LEAST]
    if len(seen) < 2:
        raise ValueError(
            f"{place}: context {', '.join(names)}: all {len(code):,} rows are alike: there is"
            " nothing to tell apart; name columns that vary"
        )
    if not len(kept):
        raise ValueError(
            f"{place}: context {', '.join(names)}: {len(seen):,} segments, none of {LEAST} rows:"
            " nothing is learnt of so few; group the levels"
        )
    parts = np.stack(np.unravel_index(seen[kept], sizes), axis=1)
    values = [tuple(x.words[i] for x, i in zip(columns, part, strict=True)) for part in parts]
    number = np.full(len(seen), len(kept))
    number[kept] = np.arange(len(kept))
    return Segmentation(tuple(values), number[index], len(seen) - len(kept))


def check_shared(
    table: Segmentation, names: Sequence[str], place: str, units: Int[np.ndarray, " n"] | None
) -> None:
    """ValueError for segments each of which is all but one user's, by several columns together."""
    if units is None:
        return
    inside, size = table.code < len(table.values), len(table.values)
    users = len(
        np.unique(table.code[inside] + size * np.unique(units[inside], return_inverse=True)[1])
    )
    if users < EACH * size:
        raise ValueError(
            f"{place}: context {', '.join(names)}: {size:,} segments with {users:,} users in all:"
            " together these columns all but name the user, and nothing is learnt of one for"
            " another; name fewer of them, or group levels"
        )


def check_levels(
    column: Levels, name: str, place: str, units: Int[np.ndarray, " n"] | None, numeric: bool
) -> None:
    """ValueError for a column of too many levels, or whose levels all but name the user."""
    size, number = len(column.words), len(column.index)
    who = "rows" if units is None else "users"
    if units is not None:
        number = len(np.unique(units))
    if numeric and size > LEVELS:
        raise ValueError(
            f"{place}: context column {name!r}: {size:,} different numbers are no segments; put"
            " them into a few classes, or let the mean be a function of them (--mean linear, or"
            " network)"
        )
    if size * EACH > number:
        raise ValueError(
            f"{place}: context column {name!r}: {size:,} levels for {number:,} {who}: it all but"
            " names the user, and nothing is learnt of one for another; name what many share"
        )
    if size > LEVELS:
        raise ValueError(
            f"{place}: context column {name!r}: {size:,} levels, of which {LEVELS:,} are the most;"
            " group them"
        )

"""How much a row speaks for the next period: less the older it is, and each weekday alike.

A row whose age is a half-life speaks for half of a row of the log's last moment. With weekdays,
rows of one share the weight of a seventh, whatever the log has of each: a whole week comes next.
Both are sampling weights (`sampling`), which values, intervals and effective sizes know.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mopl_jax.io.columns import Column, Place, is_moment, seconds
from mopl_jax.io.source import Piece, Source, empty

DAY = 86_400.0
UNITS = {"m": 60.0, "h": 3600.0, "d": DAY, "w": 7 * DAY}  # in seconds, as times are
NAMED = "m minutes, h hours, d days, w weeks"
OLDEST = 1000.0  # half-lives after which a row does not grow older: 2⁻¹⁰⁰⁰ is still a number
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Recency(NamedTuple):
    """What makes a row speak for less.

    `half_life`: in the unit of the times; ∞ where age does not count
    `last`: the latest time of the log
    `span`: from its first time to that
    `weekday`: what the rows of each weekday speak for, together; None where they do not count alike
    """

    half_life: float
    last: float
    span: float
    weekday: tuple[float, ...] | None = None

    def __call__(self, time: Column) -> Column:
        """How many rows each row speaks for, in any unit."""
        aged = np.exp2(-np.minimum((self.last - time) / self.half_life, OLDEST))
        return aged if self.weekday is None else aged / np.asarray(self.weekday)[weekday(time)]


def weekday(time: Column) -> np.ndarray:
    """0 on Mondays; the day begins at midnight, UTC where times have a zone."""
    return (np.floor(time / DAY).astype(np.int64) + 3) % 7  # 1970 began on a Thursday


def recency_of(source: Source, columns: Any) -> Recency | None:
    """What a `ColumnSpec` asks for, in a pass over the times, two for weekdays; None for nothing.

    ValueError for a half-life that is none, of another unit than the times, or longer than would
    change anything; and for a log that lacks a weekday.
    """
    if columns.half_life is None and not columns.weekdays:
        return None
    asked = "--half-life" if columns.half_life is not None else "--weekdays"
    if columns.time is None:
        raise ValueError(f"{source.name}: {asked}: when was a row logged? name its time (--time)")
    if source.table is not None:
        raise ValueError(
            f"{source.name}: {asked} is for rows that are read, and these stay in their engine:"
            " compute the weights there (--sampling-weight), or export them to Parquet"
        )
    found = _extent(source, columns, asked)
    if not columns.weekdays:
        return found
    return found._replace(weekday=_by_weekday(found, source, columns))


def _extent(source, columns, asked) -> Recency:
    ends, moments = [], False
    for piece in _pieces(source, columns):
        moments = is_moment(piece.rows.column(columns.time))
        time = _times(columns, piece)
        ends += [time.min(), time.max()]
    if not ends:
        raise ValueError(empty(source.name))
    if columns.weekdays and not moments:
        raise ValueError(
            f"{source.name}: column {columns.time!r}: --weekdays: expected dates or times, got"
            " numbers, of which no weekday is known; store them as timestamps"
        )
    half_life = _half_life(columns.half_life, moments, f"{source.name}: column {columns.time!r}")
    last, span = max(ends), max(ends) - min(ends)
    if span == 0:
        raise ValueError(
            f"{source.name}: column {columns.time!r}: {asked}: expected rows of several times, got"
            " one time in all of them; leave the option out"
        )
    return Recency(half_life, last, span)


def _half_life(said: str | float | None, moments: bool, where: str) -> float:
    """In seconds where times are moments, else in the unit of the column."""
    if said is None:
        return math.inf
    found = re.fullmatch(r"\s*([0-9.eE+-]+)\s*([a-z]*)\s*", str(said))
    number = _number(found[1]) if found else math.nan
    unit = found[2] if found else ""
    if not (0 < number < math.inf) or unit not in ("", *UNITS):
        raise ValueError(
            f"--half-life: expected a time > 0 as 7d ({NAMED}), or a number in the unit of the"
            f" times where these are numbers; got {said!r}"
        )
    if moments and not unit:
        raise ValueError(
            f"{where}: --half-life: expected a unit for dates and times, as {number:g}d or"
            f" {number:g}h; got {said!r}"
        )
    if unit and not moments:
        raise ValueError(
            f"{where}: --half-life: times are numbers, of which the unit is not known: expected a"
            f" half-life in their unit, as {number:g}, got {said!r}; or store them as timestamps"
        )
    return number * UNITS[unit] if unit else number


def _number(text):
    try:
        return float(text)
    except ValueError:
        return math.nan


def _by_weekday(found: Recency, source, columns) -> tuple[float, ...]:
    total = np.zeros(7)
    for piece in _pieces(source, columns):
        time = _times(columns, piece)
        total += np.bincount(weekday(time), found(time), 7)
    if not total.all():
        missing = ", ".join(day for day, rows in zip(DAYS, total, strict=True) if not rows)
        raise ValueError(
            f"{source.name}: column {columns.time!r}: --weekdays: expected rows of every weekday,"
            f" got none of {missing}; log a whole week, or leave the option out"
        )
    return tuple(float(x) for x in total)


def _pieces(source: Source, columns) -> Iterator[Piece]:
    scanned = source.scan([columns.time], ())
    return (piece for piece in scanned if piece.rows.num_rows)


def _times(columns, piece: Piece) -> Column:
    place = Place(piece.place, columns.time, piece.first_row)
    return seconds(piece.rows.column(columns.time), place)

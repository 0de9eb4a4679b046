"""How much a row speaks for the next period: less the older it is, and so that each level of a time
feature, as each weekday, counts alike.

A row whose age is a half-life speaks for half of a row of the log's last moment. Of a feature with
k levels the rows of one share a k-th of the weight, whatever the log has of each: all of them come
next, as often. Both are sampling weights (`sampling`), which values, intervals and effective sizes
know.
"""

import math
import re
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from mopl_jax.io.columns import Column, Place, codes, is_moment, seconds
from mopl_jax.io.kinds import SEASONS
from mopl_jax.io.source import Piece, Source, empty

DAY = 86_400.0
UNITS = {"min": 60.0, "h": 3600.0, "d": DAY, "w": 7 * DAY}  # in seconds, as times are
NAMED = "min minutes, h hours, d days, w weeks"
AUTO = "auto"  # a half-life that the log chooses, see `half_life`
OLDEST = 1000.0  # half-lives after which a row does not grow older: 2⁻¹⁰⁰⁰ is still a number
MOST = 366  # levels of a column: those of the days of a year
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September")
MONTHS += ("October", "November", "December")

Levels = Int[np.ndarray, " n"]


def weekday(time: Column) -> Levels:
    """0 on Mondays; the day begins at midnight, UTC where times have a zone."""
    return (np.floor(time / DAY).astype(np.int64) + 3) % 7  # 1970 began on a Thursday


def hour(time: Column) -> Levels:
    """0 to 23, UTC where times have a zone."""
    return np.floor(time / 3600).astype(np.int64) % 24


def month(time: Column) -> Levels:
    """0 in January."""
    days = np.floor(time / DAY).astype("datetime64[D]")
    return days.astype("datetime64[M]").astype(np.int64) % 12


class Feature(NamedTuple):
    """What comes again and again: the `names` of its levels, and the level `of` each time."""

    names: tuple[str, ...]
    of: Callable[[Column], Levels]


HOURS = tuple(f"{k:02}:00" for k in range(24))
FOUND = Feature(DAYS, weekday), Feature(HOURS, hour), Feature(MONTHS, month)
FEATURES = dict(zip(SEASONS, FOUND, strict=True))


class Recency(NamedTuple):
    """What makes a row speak for less.

    `half_life`: in the unit of the times; ∞ where age does not count
    `last`: the latest time of the log
    `levels` (k,): what the rows of each level of the feature speak for, together; None where there
        is no feature
    `known`: the numbers of the levels, where a column has them
    """

    half_life: float = math.inf
    last: float = 0.0
    levels: tuple[float, ...] | None = None
    known: dict[Hashable, int] = {}  # noqa: RUF012

    def __call__(self, time: Column, level: Levels | None = None) -> Column:
        """How many rows each row speaks for, in any unit."""
        aged = np.exp2(-np.minimum((self.last - time) / self.half_life, OLDEST))
        return aged if self.levels is None else aged / np.asarray(self.levels)[level]

    def of(self, columns: Any, piece: Piece) -> Column:
        """The same of the rows of a piece."""
        return self(*_seen(columns, piece, self.known))


def feature_of(columns: Any) -> str | None:
    """The time feature that a `ColumnSpec` asks for: one of `FEATURES`, or a column."""
    return "weekday" if columns.weekdays else columns.time_feature


def recency_of(source: Source, columns: Any) -> Recency | None:
    """What a `ColumnSpec` asks for, in a pass over the times, and one over the feature; None for
    nothing.

    ValueError for a half-life that is none, or of another unit than the times; for times that are
    all one; and for a log that lacks a level of the feature.
    """
    feature = feature_of(columns)
    if columns.half_life is None and feature is None:
        return None
    asked = _asked(columns)
    if columns.weekdays and columns.time_feature is not None:
        raise ValueError(f"{source.name}: expected --weekdays or --time-feature, got both")
    if columns.time is None and (columns.half_life is not None or feature in FEATURES):
        raise ValueError(f"{source.name}: {asked}: when was a row logged? name its time (--time)")
    if source.table is not None:
        raise ValueError(
            f"{source.name}: {asked} is for rows that are read, and these stay in their engine:"
            " compute the weights there (--sampling-weight), or export them to Parquet"
        )
    found = Recency() if columns.time is None else _extent(source, columns, asked)
    if feature is None:
        return found
    return _by_level(found._replace(known={}), source, columns)


def _asked(columns) -> str:
    """The option that asks."""
    if columns.half_life is not None:
        return "--half-life"
    return "--weekdays" if columns.weekdays else "--time-feature"


def _extent(source, columns, asked) -> Recency:
    ends, moments = [], False
    where = f"{source.name}: column {columns.time!r}"
    for piece in _pieces(source, columns):
        moments = is_moment(piece.rows.column(columns.time))
        time = _times(columns, piece)
        ends += [time.min(), time.max()]
    if not ends:
        raise ValueError(empty(source.name))
    feature = feature_of(columns)
    if feature in FEATURES and not moments:
        raise ValueError(
            f"{where}: {_asked(columns.replace(half_life=None))}: expected dates or times, got"
            f" numbers, of which no {feature} is known; store them as timestamps"
        )
    half_life = _half_life(columns.half_life, moments, where)
    if max(ends) == min(ends):
        raise ValueError(
            f"{where}: {asked}: expected rows of several times, got one time in all of them; leave"
            " the option out"
        )
    return Recency(half_life, max(ends))


def _half_life(said: str | float | None, moments: bool, where: str) -> float:
    """In seconds where times are moments, else in the unit of the column."""
    if said is None or said == AUTO:
        return math.inf
    found = re.fullmatch(r"\s*([0-9.eE+-]+)\s*([a-z]*)\s*", str(said))
    number = _number(found[1]) if found else math.nan
    unit = found[2] if found else ""
    if unit == "m":
        raise ValueError(
            f"--half-life: minutes or months? expected {number:g}min for minutes, or days as"
            f" {30 * number:g}d for months; got {said!r}"
        )
    if not (0 < number < math.inf) or unit not in ("", *UNITS):
        raise ValueError(
            f"--half-life: expected a time > 0 as 7d ({NAMED}), a number in the unit of the times"
            f" where these are numbers, or auto; got {said!r}"
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


def half_life_text(source: Source, columns: Any, found: float) -> str | None:
    """A half-life as it would be given; None for one without end."""
    if math.isinf(found):
        return None
    moments = is_moment(next(_pieces(source, columns)).rows.column(columns.time))
    if not moments:
        return f"{found:.3g}"
    unit = next((name for name in "wdh" if found >= UNITS[name]), "min")
    return f"{found / UNITS[unit]:.3g}{unit}"


def _number(text):
    try:
        return float(text)
    except ValueError:
        return math.nan


def _by_level(found: Recency, source, columns) -> Recency:
    """With what the rows of each level speak for together."""
    feature, total = feature_of(columns), np.zeros(0)
    for piece in _pieces(source, columns):
        time, level = _seen(columns, piece, found.known)
        here = np.bincount(level, found._replace(levels=None)(time))
        total = np.pad(total, (0, max(len(here) - len(total), 0)))
        total[: len(here)] += here
        if feature not in FEATURES and len(total) > MOST:
            raise ValueError(
                f"{source.name}: column {feature!r}: --time-feature: expected at most {MOST}"
                f" different values, each of which counts alike, got more; name another column"
            )
    names = FEATURES[feature].names if feature in FEATURES else tuple(found.known)
    total = np.pad(total, (0, len(names) - len(total)))
    _check_levels(source, columns, names, total)
    return found._replace(levels=tuple(float(x) for x in total))


def _check_levels(source, columns, names, total):
    feature = feature_of(columns)
    if feature not in FEATURES:
        if len(names) < 2:
            raise ValueError(
                f"{source.name}: column {feature!r}: --time-feature: expected several values, each"
                " of which counts alike, got one in all rows; leave the option out"
            )
        return
    missing = ", ".join(name for name, rows in zip(names, total, strict=True) if not rows)
    if missing:
        asked = "--weekdays" if columns.weekdays else "--time-feature"
        raise ValueError(
            f"{source.name}: column {columns.time!r}: {asked}: expected rows of every {feature},"
            f" got none of {missing}; log all of them, or leave the option out"
        )


def _pieces(source: Source, columns) -> Iterator[Piece]:
    names = [name for name in (columns.time, columns.feature) if name is not None]
    scanned = source.scan(names, ())
    return (piece for piece in scanned if piece.rows.num_rows)


def _seen(columns, piece: Piece, known) -> tuple[Column, Any]:
    """The times of the rows, 0 where none are known, and their levels."""
    time, feature = _times(columns, piece), feature_of(columns)
    if feature is None:
        return time, None
    if feature in FEATURES:
        return time, FEATURES[feature].of(time)
    place = Place(piece.place, feature, piece.first_row)
    return time, codes(piece.rows.column(feature), place, known, f"a {feature}")


def _times(columns, piece: Piece) -> Column:
    if columns.time is None:
        return np.zeros(piece.rows.num_rows)
    place = Place(piece.place, columns.time, piece.first_row)
    return seconds(piece.rows.column(columns.time), place)

"""Rows that stand for others: sampling weights of a log that was thinned, and counts of one that
was added up.

A sampling weight says how many rows of the platform a logged row speaks for, the inverse of the
probability that it was kept; weights are normalised to a mean of one over the log, and rows stay
what is counted. A count says how many equal rows a row is: they are repeated as they are read, so
that whatever counts rows counts them.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mopl_jax.io.column_spec import ColumnSpec
from mopl_jax.io.columns import Column, Place, numbers
from mopl_jax.io.recency import Recency, feature_of, recency_of
from mopl_jax.io.source import Piece, Source, empty
from mopl_jax.io.table_source import sampling as in_table
from mopl_jax.numerics.pytree import entries

ByLog = tuple[float, ...] | None
AT_ONCE = 2**17  # rows that are repeated at a time


class Sampling(NamedTuple):
    """The sampling weights of a log.

    `mean`: over the rows.
    `low`, `high`: the smallest and the largest, over the mean.
    `rows`: as many equal ones would know as much, (Σs)² / Σs²; None where it was not counted.
    `recency`: what the time of a row says, if it says something.
    `by_log`: what a row of each of several logs that are pooled is multiplied by; see `parts`.
    """

    mean: float
    low: float
    high: float
    rows: float | None = None
    recency: Recency | None = None
    by_log: ByLog = None


def weights(columns: ColumnSpec, recency: Recency | None, by_log: ByLog, piece: Piece) -> Column:
    """How many rows each row of a piece speaks for, in any unit."""
    kept = _kept(columns, piece)
    each = np.ones(piece.rows.num_rows) if kept is None else kept
    if recency is not None:
        each = each * recency.of(columns, piece)
    return each if by_log is None else each * by_log[piece.part]


def _kept(columns, piece):
    """By the column that says so."""
    name = columns.sampling_weight or columns.keep_probability
    if name is None:
        return None
    place = Place(piece.place, name, piece.first_row)
    values = numbers(piece.rows.column(name), place)
    if columns.sampling_weight:
        remedy = "a row that stands for none is dropped before"
        place.require(values > 0, values, "a sampling weight > 0", remedy)
        return values
    fine = (values > 0) & (values <= 1)
    place.require(fine, values, "a probability in (0, 1]", "a logged row was kept: repair it")
    return 1 / values


def counts(columns: ColumnSpec, piece: Piece) -> Any:
    """How many equal rows each row of a piece is, (n,); None where the log does not say."""
    if columns.count is None:
        return None
    place = Place(piece.place, columns.count, piece.first_row)
    values = numbers(piece.rows.column(columns.count), place)
    fine = (values >= 0) & (values == np.round(values))
    place.require(fine, values, "a whole number of rows", "repair the row")
    return values.astype(np.int64)


def sampling_of(source: Source, columns: ColumnSpec, by_log: ByLog = None) -> Sampling | None:
    """What all sampling weights of a log are like, in a pass over their columns."""
    recency = recency_of(source, columns)
    kept = columns.sampling_weight or columns.keep_probability
    if kept is None and recency is None and by_log is None:
        return None
    names = (kept, columns.count, columns.time or columns.reward, columns.feature)
    if source.table is not None:
        return Sampling(*in_table(source, columns.sampling_weight, columns.keep_probability))
    rows, total, squares, low, high = 0, 0.0, 0.0, np.inf, 0.0
    for piece in source.scan([name for name in names if name], ()):
        if piece.rows.num_rows:
            here = weights(columns, recency, by_log, piece)
            each = counts(columns, piece)
            each = np.ones(piece.rows.num_rows) if each is None else each
            rows, total = rows + each.sum(), total + (each * here).sum()
            squares += (each * here**2).sum()
            low, high = min(low, here.min()), max(high, here.max())
    if not rows:
        raise ValueError(empty(source.name))
    mean = total / rows
    return Sampling(mean, low / mean, high / mean, float(total**2 / squares), recency, by_log)


def said_of(source: Source, columns: ColumnSpec, sampling: Sampling | None) -> Source:
    """The source, which says what the time of its rows does to them."""
    if sampling is None or sampling.recency is None:
        return source
    how = [] if columns.half_life is None else [f"a half-life of {columns.half_life}"]
    feature = feature_of(columns)
    how += [] if feature is None else [f"each {feature} alike"]
    said = (
        f"the value is that of the log's last time, and of the next period if what the weights are"
        f" worth stays so: rows weigh by their time, {' and '.join(how)}, as much as"
        f" {sampling.rows:,.0f} of {source.count():,} equal rows"
    )
    return source._replace(remarks=(*source.remarks, said))


def counted(source: Source, columns: ColumnSpec) -> Source:
    """The source, whose number of rows is that of the rows that its counts stand for."""
    name = columns.count
    if name is None:
        return source

    @functools.cache
    def total():
        return sum(int(counts(columns, piece).sum()) for piece in source.scan([name], ()))

    return source._replace(count=total)


def repeated(rows: Any, count: np.ndarray, squares: Column | None) -> Iterator[Any]:
    """The rows that a record of columns stands for, at most `AT_ONCE` at a time.

    With the sums of `squares` of each cell its reward is the sum of theirs; see `rewards_of`.
    """
    end = np.cumsum(count)
    for start in range(0, int(end[-1]), AT_ONCE):
        number = np.arange(start, min(start + AT_ONCE, end[-1]))
        cell = np.searchsorted(end, number, side="right")
        part = entries(rows, cell)
        if squares is not None:
            within = number - (end - count)[cell]
            part = part._replace(reward=rewards_of(part.reward, squares[cell], count[cell], within))
        yield part


def rewards_of(total: Column, squares: Column, count: Column, within: Column) -> Column:
    """Rewards of rows number `within` of a cell of `count` rows, whose sum is `total` and whose
    squares add up to `squares`.

    Of clicks, where both are the same whole number, ones and zeros: the very rewards. Of others
    as many above the cell's mean as below, by as much: all sums of rewards and of squares, and so
    values and variances, are those of the rows.
    """
    clicks = _are_clicks(total, squares, count)
    mean, paired = total / count, count - count % 2
    variance = np.maximum(squares / count - mean**2, 0)
    away = np.sqrt(variance * count / np.maximum(paired, 1))
    sign = np.where(within >= paired, 0, np.where(within < paired // 2, 1, -1))
    return np.where(clicks, within < total, mean + sign * away)


def _are_clicks(total, squares, count):
    return (total == squares) & (total == np.round(total)) & (total <= count) & (total >= 0)


def check_squares(
    total: Column,
    squares: Column,
    count: Column,
    place: Place,
    reward_range: tuple[float, float] | None = None,
) -> None:
    """ValueError where rewards of a cell cannot have such a sum and such squares.

    Of a cell of other rewards than clicks it is not known whether they are in a range.
    """
    if reward_range is not None:
        fine = _are_clicks(total, squares, count) & (reward_range[0] <= 0) & (reward_range[1] >= 1)
        expected = "cells of clicks, whose squares add up to their sum, for a reward range"
        place.require(fine, squares, expected, "leave --reward-range out")
    least = total**2 / np.maximum(count, 1)
    fine = (squares >= least * (1 - 1e-9) - 1e-9) & ((count > 1) | (squares <= least + 1e-9))
    remedy = "the reward column is the sum of a cell where --sum-of-squares is given"
    place.require(fine, squares, "a sum of squares that the sum of the rewards allows", remedy)

"""A learnt metric as the reward of a log: Σ weight · signal of each row, one column more.

The written log says in its metadata what the column is, and so does the provenance of a policy
learnt from it. Such a policy is guarded by the North Star: the same log, compared by that column.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from mopl_jax.io.files import check_output, finite, write_atomically
from mopl_jax.io.reward_note import noted
from mopl_jax.io.sources import open_source
from mopl_jax.metrics import metric_json

COLUMN = "learnt_metric"


@dataclasses.dataclass(frozen=True)
class Rewarded:
    """A log with a learnt reward.

    `log`: where it was written.
    `column`: of the reward.
    `formula`: what the reward is.
    `rows`: how many.
    `mean`, `deviation`: of the reward over them.
    `north_star`: the metric that it stands for, and whether the log has it, to be guarded by.
    `correlation`: of the reward with that, row by row; NaN where the log has not both.
    """

    log: str
    column: str
    formula: str
    rows: int
    mean: float
    deviation: float
    north_star: str
    guarded: bool
    correlation: float

    def to_dict(self) -> dict[str, Any]:
        """The key `rewarded` of the document of `mopl metric --json`."""
        return finite(dataclasses.asdict(self))


def formula(names: Sequence[str], weights: Float[np.ndarray, " k"]) -> str:
    """The metric as a sum of its signals, those of weight 0 left out."""
    terms = [f"{w:+.6g} {name}" for name, w in zip(names, weights, strict=True) if w]
    return " ".join(terms).removeprefix("+")


def apply(
    log: Path,
    out: Path,
    names: Sequence[str],
    weights: Float[np.ndarray, " k"],
    north_star: str,
) -> Rewarded:
    """Write `log` to the Parquet file `out` with the reward as the column `learnt_metric`.

    The signals are columns of the log with the names of the metrics. ValueError for a signal that
    is not there, or has no number in a row; for a log that has such a column; for an `out` that
    would replace the log.
    """
    check_output(out, "--rewarded", [log])
    source = open_source(log)
    signals = [source.column(name) for name, w in zip(names, weights, strict=True) if w]
    used = np.array([w for w in weights if w])
    columns = [source.column(name) for name in source.schema.names]
    if COLUMN in columns:
        raise ValueError(f"{log}: expected no column {COLUMN!r}, got one; rename or drop it")
    sums = _Sums()
    said = formula(names, weights)
    metadata = noted({"column": COLUMN, "formula": said, "north_star": north_star})

    def rewarded():
        for piece in source.scan(columns, ()):
            reward = _reward(piece, signals, used)
            sums.add(reward, _numbers(piece, north_star) if north_star in columns else None)
            yield pa.Table.from_batches([piece.rows]).append_column(COLUMN, pa.array(reward))

    write_atomically(out, lambda path: _write(path, rewarded(), metadata, log))
    mean, deviation, correlation = sums.moments()
    return Rewarded(
        log=str(out),
        column=COLUMN,
        formula=said,
        rows=sums.rows,
        mean=mean,
        deviation=deviation,
        north_star=north_star,
        guarded=north_star in columns,
        correlation=correlation,
    )


def _write(path, tables, metadata, log):
    """Parquet of tables with one schema, that of the first."""
    writer = None
    for rows in tables:
        writer = writer or pq.ParquetWriter(path, rows.schema.with_metadata(metadata))
        writer.write_table(rows.cast(writer.schema))
    if writer is None:
        raise ValueError(f"{log}: expected at least one row, got an empty log")
    writer.close()


def apply_stored(metric: Path, log: Path, out: Path) -> Rewarded:
    """Write `log` to `out` with the stored `metric` as reward, as `apply` does."""
    names, weights = metric_json.read_metric(metric)
    return apply(log, out, names, weights, metric_json.north_star_of(metric))


def _numbers(piece, name):
    """A column as floats; NaN where there is no number."""
    column = piece.rows.column(piece.rows.schema.names.index(name))
    try:
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        return np.full(len(column), np.nan)


def _reward(piece, signals, weights):
    values = np.stack([_numbers(piece, name) for name in signals], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        reward = values @ weights
    bad = ~np.isfinite(np.column_stack([values, reward]))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        name = [*signals, COLUMN][column]
        raise ValueError(
            f"{piece.place}: row {piece.first_row + row + 1}, column {name!r}: expected a finite"
            " number, for the learnt metric; fill it in or drop the row"
        )
    return reward


class _Sums:
    """Sums of the reward and the North Star, about the first row, and of their squares."""

    def __init__(self):
        self.rows, self.total, self.square = 0, np.zeros(2), np.zeros((2, 2))
        self.first = np.full(2, np.nan)

    @np.errstate(over="ignore", invalid="ignore")
    def add(self, reward, north):
        both = np.stack([reward, np.full(len(reward), np.nan) if north is None else north], axis=1)
        self.first = self.first if self.rows else both[0]
        shifted = both - self.first
        self.rows += len(reward)
        self.total = self.total + shifted.sum(axis=0)
        self.square = self.square + shifted.T @ shifted

    @np.errstate(all="ignore")
    def moments(self):
        """Mean and standard deviation of the reward, correlation of the two."""
        mean = self.total / self.rows
        covariance = self.square / self.rows - np.outer(mean, mean)
        spread = np.sqrt(np.maximum(np.diagonal(covariance), 0))
        correlation = covariance[0, 1] / spread.prod()
        return float(mean[0] + self.first[0]), float(spread[0]), float(correlation)

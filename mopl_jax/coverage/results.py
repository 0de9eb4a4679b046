"""What a coverage study finds: `Replicates` of each synthetic log, tidy rows, a summary of each
interval.

A tidy row is a dictionary, as Parquet and the benchmarks read it: `summarise` makes them, and
`summary` reads them again, from a study or from a file.
"""

import dataclasses
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from mopl_jax.coverage.replicates import Cell, Replicates
from mopl_jax.coverage.sample_size import sample_size_ratio, smallest_n
from mopl_jax.coverage.world import Grid, World
from mopl_jax.intervals.registry import available
from mopl_jax.io.files import finite
from mopl_jax.numerics.proportion import wilson_interval

LEVEL = 0.94  # an interval holds from the n where coverage stays at or above this (nominal 0.95)


# From replicates to tidy rows.


def summarise(world: World, grid: Grid, results: dict[Cell, Replicates]) -> list[dict]:
    """One row per estimand, estimator, n and interval; one column a number."""
    rows = []
    read = [(*cell, *truth) for cell in results for truth in world.truths(cell[0]).items()]
    for estimand, estimator, label, truth in read:
        cell = results[estimand, estimator]
        names = available(grid.intervals, world.facts(estimand))
        for j, n in enumerate(grid.n):
            about = {
                "world": world.name,
                "d": world.d,
                "estimand": label,
                "estimator": estimator,
                "n": n,
            }
            about |= _value_columns(cell.value[:, j], cell.ess[:, j], truth, grid.alpha)
            for i, interval in enumerate(names):
                ends = cell.lower[:, j, i], cell.upper[:, j, i]
                named = about | {"interval": interval, "alpha": grid.alpha}
                rows.append(named | _interval_columns(*ends, truth, about))
    return rows


def _value_columns(value, size, truth, alpha):
    """Truth, bias and its standard error, ESS quantiles, and the width of a normal interval that
    knew the true SD.
    """
    value = value.astype(float)
    sd = float(np.nanstd(value, ddof=1)) if value.size > 1 else math.nan
    low, median, high = map(float, np.quantile(size, (0.05, 0.5, 0.95)))
    return {
        "replicates": value.size,
        "truth": truth,
        "bias": float(np.nanmean(value)) - truth,
        "bias_se": sd / math.sqrt(value.size),
        "oracle_width": -2 * NormalDist().inv_cdf(alpha / 2) * sd,
        "ess_q05": low,
        "ess_median": median,
        "ess_q95": high,
    }


def _interval_columns(low, high, truth, about):
    """Coverage with its Wilson interval, both one-sided miss rates, widths (infinite ones counted
    as such).
    """
    hits = (low <= truth) & (truth <= high)
    wilson = wilson_interval(int(hits.sum()), hits.size)
    width = high.astype(float) - low
    finite, share = width[np.isfinite(width)], float(hits.mean(dtype=float))
    median, oracle = float(np.median(width)), about["oracle_width"]
    return {
        "coverage": share,
        "coverage_se": math.sqrt(share * (1 - share) / hits.size),
        "coverage_low": wilson[0],
        "coverage_high": wilson[1],
        "miss_below": float(np.mean(high < truth, dtype=float)),
        "miss_above": float(np.mean(low > truth, dtype=float)),
        "median_width": median,
        "mean_finite_width": float(finite.mean()) if finite.size else math.inf,
        "infinite_share": 1 - finite.size / width.size,
        "width_ratio": median / oracle if oracle else math.nan,
    }


# From tidy rows to one line an interval.


@dataclasses.dataclass(frozen=True)
class IntervalSummary:
    """What a study says of one interval for one estimand of one world.

    `holds_from`: the smallest n from which coverage stays at `LEVEL` or more; None: never.
    `ratio`, `ratio_exact`: `sample_size_ratio` to the interval `normal`.
    `worst`: the tidy row of least coverage.
    `first`, `last`: the tidy rows of the smallest and the largest n.
    """

    world: str
    d: int
    estimand: str
    estimator: str
    interval: str
    holds_from: int | None
    ratio: float
    ratio_exact: bool
    worst: dict[str, Any]
    first: dict[str, Any]
    last: dict[str, Any]

    @property
    def cell(self) -> tuple[str, int, str, str]:
        """World, d, estimand and estimator."""
        return self.world, self.d, self.estimand, self.estimator

    def to_dict(self) -> dict[str, Any]:
        """One entry of `summary` in `mopl coverage --json`."""
        return dict(vars(self))


def summary(rows: Sequence[dict[str, Any]]) -> list[IntervalSummary]:
    """One record for each world, estimand, estimator and interval of tidy rows."""
    groups: dict[tuple, dict[str, list]] = {}
    for row in rows:
        cell = (row["world"], row["d"], row["estimand"], row["estimator"])
        groups.setdefault(cell, {}).setdefault(row["interval"], []).append(row)
    return [
        _summary(cell, name, some, columns.get("normal", []))
        for cell, columns in groups.items()
        for name, some in columns.items()
    ]


def _summary(cell, name, rows, baseline):
    ratio, exact = sample_size_ratio(baseline, rows, LEVEL) if baseline else (math.nan, False)
    return IntervalSummary(
        *cell,
        interval=name,
        holds_from=smallest_n(rows, LEVEL),
        ratio=ratio,
        ratio_exact=exact,
        worst=min(rows, key=lambda row: row["coverage"]),
        first=rows[0],
        last=rows[-1],
    )


@dataclasses.dataclass(frozen=True, repr=False)
class CoverageStudy:
    """What a study found: tidy `rows`, a summary of each interval, and where it comes from.

    On the other processes of a run of several there are no rows.
    """

    rows: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]

    @property
    def summaries(self) -> list[IntervalSummary]:
        """One record for each world, estimand, estimator and interval."""
        return summary(self.rows)

    @property
    def best(self) -> IntervalSummary | None:
        """The summary of the largest sample-size ratio to `normal`; None where none is known."""
        known = [line for line in self.summaries if line.ratio == line.ratio]
        return max(known, key=lambda line: line.ratio, default=None)

    def __repr__(self) -> str:
        worlds = {(row["world"], row["d"]) for row in self.rows}
        intervals = {row["interval"] for row in self.rows}
        return f"CoverageStudy({len(worlds)} worlds, {len(intervals)} intervals)"

    def to_dict(self) -> dict[str, Any]:
        """The document of `mopl coverage --json`."""
        lines = [line.to_dict() for line in self.summaries]
        return finite({"provenance": self.provenance, "rows": self.rows, "summary": lines})

    def to_arrow(self) -> Any:
        """A `pyarrow.Table` of the tidy rows, without their provenance."""
        import pyarrow as pa

        return pa.Table.from_pylist(list(self.rows))

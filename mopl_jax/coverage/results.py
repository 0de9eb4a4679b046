"""`Replicates`: what a sweep finds on each synthetic log, and what that says of an interval: tidy
rows and ratios.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from mopl_jax import intervals
from mopl_jax.coverage.world import Grid, World
from mopl_jax.numerics.pytree import pytree_dataclass


@pytree_dataclass()
class Replicates:
    """Results per replicate: `value` and Kish `ess` (r, n); interval ends `lower` and `upper` (r,
    n, interval).
    """

    value: Float[Array, "r n"]
    ess: Float[Array, "r n"]
    lower: Float[Array, "r n i"]
    upper: Float[Array, "r n i"]


Cell = tuple[str, str]  # estimand, estimator


def concatenate(parts: Sequence[dict[Cell, Replicates]]) -> dict[Cell, Replicates]:
    """Batches joined along the replicates."""
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def count(results: dict[Cell, Replicates]) -> int:
    """How many replicates a batch holds."""
    return len(next(iter(results.values())).value)


# From replicates to tidy rows.


def summarise(world: World, grid: Grid, results: dict[Cell, Replicates]) -> list[dict]:
    """One row per estimand, estimator, n and interval; see `summary` for the columns."""
    rows = []
    read = [(*cell, *truth) for cell in results for truth in world.truths(cell[0]).items()]
    for estimand, estimator, label, truth in read:
        cell, names = (
            results[estimand, estimator],
            intervals.available(grid.intervals, world.facts(estimand)),
        )
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
                rows.append(
                    about
                    | {"interval": interval, "alpha": grid.alpha}
                    | _interval_columns(*ends, truth, about)
                )
    return rows


def _value_columns(value, size, truth, alpha):
    """Truth, bias and its standard error, ESS quantiles, and the width of a normal interval that
    knew the true SD.
    """
    value = value.astype(float)
    sd = float(np.nanstd(value, ddof=1)) if value.size > 1 else math.nan
    quantiles = np.quantile(size, (0.05, 0.5, 0.95))
    return {
        "replicates": value.size,
        "truth": truth,
        "bias": float(np.nanmean(value)) - truth,
        "bias_se": sd / math.sqrt(value.size),
        "oracle_width": 2 * _normal_quantile(alpha) * sd,
        "ess_q05": float(quantiles[0]),
        "ess_median": float(quantiles[1]),
        "ess_q95": float(quantiles[2]),
    }


def _interval_columns(low, high, truth, about):
    """Coverage with its Wilson interval, both one-sided miss rates, widths (infinite ones counted
    as such).
    """
    hits = (low <= truth) & (truth <= high)
    wilson = wilson_interval(int(hits.sum()), hits.size)
    width = high.astype(float) - low
    finite = width[np.isfinite(width)]
    return {
        "coverage": float(hits.mean(dtype=float)),
        "coverage_se": math.sqrt(
            max(hits.mean(dtype=float) * (1 - hits.mean(dtype=float)), 0) / hits.size
        ),
        "coverage_low": wilson[0],
        "coverage_high": wilson[1],
        "miss_below": float(np.mean(high < truth, dtype=float)),
        "miss_above": float(np.mean(low > truth, dtype=float)),
        "median_width": float(np.median(width)),
        "mean_finite_width": float(finite.mean()) if finite.size else math.inf,
        "infinite_share": 1 - finite.size / width.size,
        "width_ratio": float(np.median(width)) / about["oracle_width"]
        if about["oracle_width"]
        else math.nan,
    }


def _normal_quantile(alpha):
    from statistics import NormalDist

    return NormalDist().inv_cdf(1 - alpha / 2)


def wilson_interval(hits: int, trials: int, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's score interval for a coverage: its Monte-Carlo error, right also when every
    replicate is covered.
    """
    z = _normal_quantile(alpha)
    centre = (hits + z * z / 2) / (trials + z * z)
    half = z * math.sqrt(hits * (trials - hits) / trials + z * z / 4) / (trials + z * z)
    return max(0.0, centre - half), min(1.0, centre + half)

"""Bootstrap intervals: rows are resampled with replacement, and the estimate is recomputed.

For SNIPS that means a new Σw in every resample: a bootstrap that freezes the normaliser
understates the variance. Options, by keyword or `functools.partial`:

`estimator`: what is recomputed, `estimator(*rows) -> Estimate`; the default is `snips`. It must
reproduce the estimate on the original rows, otherwise the interval is the whole line (a traced
mismatch, for instance `snips` for an IPS estimate). None resamples the influence terms instead,
value + mean(influence): exact for `ips`, first-order for all others. `rows`: arrays (n, ...) to
resample; the default is (log_weight, reward). `key`: of the resamples, `jax.random.key(0)` by
default: the interval is a function of the data, and under `vmap` all logs share their resampled
row numbers. `resamples`: how many, 2,000 by default.

Users that repeat in a log are resampled whole by `clustered(estimate, cluster, num_clusters)` in
place of the estimate. Assumption: rows (or clusters) independent and identically distributed,
enough effective rows; asymptotic otherwise. Resamples run in blocks, so memory does not grow
with their number. No gradients.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float, Key, UInt32

from mopl_jax.estimators.ess import supported
from mopl_jax.estimators.estimate import Estimate, influence_variance, varies
from mopl_jax.estimators.importance import snips
from mopl_jax.intervals.interval import Interval
from mopl_jax.numerics import safe
from mopl_jax.numerics.random import threefry2x32

_BLOCK = 2**19  # rows in flight: a few megabytes, about the size of the cache

Estimator = Callable[..., Estimate]


class Resamples(NamedTuple):
    """Values and standard errors of the recomputed estimate, one per resample."""

    value: Float[Array, " b"]
    error: Float[Array, " b"]


def percentile(estimate: Estimate, alpha: float, **options: Any) -> Interval:
    """The α/2 and 1−α/2 quantiles of the resampled values (Efron 1979).

    Efron & Tibshirani 1993, ch. 13.
    """
    values = resample(estimate, **options).value
    tails = jnp.asarray([alpha / 2, 1 - alpha / 2], values.dtype)
    return _interval(estimate, *_cautious_quantiles(values, jnp.isfinite(values), tails))


def studentised(estimate: Estimate, alpha: float, **options: Any) -> Interval:
    """Bootstrap-t (Efron 1981): V̂ − t* σ̂, t* the quantiles of (V̂* − V̂)/σ̂*.

    σ̂*² = Σψ²/n² of the resample. Second-order accurate; its tails are wild where few rows carry
    the weight, and infinite where so few do that an α/2 share of the resamples has no variance.
    """
    drawn = resample(estimate, **options)
    varies = jnp.isfinite(drawn.value) & (drawn.error > 0)
    t = (drawn.value - estimate.value) / jnp.where(varies, drawn.error, 1)
    low, high = _cautious_quantiles(t, varies, jnp.asarray([alpha / 2, 1 - alpha / 2], t.dtype))
    error = jnp.sqrt(influence_variance(estimate))
    return _interval(estimate, estimate.value - high * error, estimate.value - low * error)


def bca(estimate: Estimate, alpha: float, **options: Any) -> Interval:
    """Bias-corrected and accelerated percentiles (Efron 1987).

    Tails Φ(z₀ + (z₀+z)/(1 − a(z₀+z))); z₀ from the share of resampled values below V̂ (ties
    count half), acceleration a = Σψ³ / (6 (Σψ²)^1.5) from the influence terms (the infinitesimal
    jackknife; the jackknife itself for a mean).
    """
    values = resample(estimate, **options).value
    below = 0.5 * (
        _share(values < estimate.value, values) + _share(values <= estimate.value, values)
    )
    edge = 0.5 / values.shape[0]
    z0 = ndtri(jnp.clip(below, edge, 1 - edge))
    tails = _bca_tails(z0, _acceleration(estimate.influence), alpha)
    return _interval(estimate, *_cautious_quantiles(values, jnp.isfinite(values), tails))


def _bca_tails(z0, acceleration, alpha):
    shifted = z0 + ndtri(jnp.asarray([alpha / 2, 1 - alpha / 2], z0.dtype))
    return ndtr(z0 + shifted / (1 - acceleration * shifted))


def _acceleration(influence):
    scale = jnp.max(jnp.abs(influence))
    psi = influence / safe.positive(scale)
    return safe.divide(jnp.sum(psi**3), 6 * safe.sqrt(jnp.sum(psi**2)) ** 3)


def _share(hits, like):
    return jnp.mean(hits, dtype=like.dtype)


# Resampling.


def resample(
    estimate: Estimate,
    *,
    key: Key[Array, ""] | None = None,
    resamples: int = 2000,
    estimator: Estimator | None = snips,
    rows: Sequence[Array] | None = None,
) -> Resamples:
    """The estimate recomputed on `resamples` resamples of its rows.

    NaN where `estimator` does not give the estimate on the original rows.
    """
    statistic, rows = _statistic(estimate, estimator, rows)
    words = jax.random.bits(jax.random.key(0) if key is None else key, (2,), jnp.uint32)
    n = rows[0].shape[0]
    block = min(resamples, max(1, _BLOCK // n))

    def draw(number):
        index = resampled_rows(words, number, n)
        return statistic(*(row[index] for row in rows))

    drawn = lax.map(draw, jnp.arange(resamples, dtype=jnp.uint32), batch_size=block)
    original = statistic(*rows).value
    matches = jnp.abs(original - estimate.value) <= _tolerance(estimate)
    return Resamples(jnp.where(matches, drawn.value, jnp.nan), drawn.error)


def resampled_rows(
    words: UInt32[Array, " 2"], number: UInt32[Array, ""], n: int
) -> UInt32[Array, " n"]:
    """`n` row numbers drawn with replacement: resample `number` of the stream of the key `words`.

    Taking 32 random bits modulo n favours some rows by at most n/2³², far below the noise of any
    number of resamples.
    """
    pair = jnp.arange((n + 1) // 2, dtype=jnp.uint32)
    bits = jnp.concatenate(threefry2x32(words, (pair, jnp.broadcast_to(number, pair.shape))))
    return bits[:n] % jnp.uint32(n)


def _statistic(estimate, estimator, rows):
    """A function from resampled rows to `Resamples` of one, and the rows it takes."""
    if estimator is None:
        return _linear(estimate.value), (estimate.influence,)
    return _recomputed(estimator), (
        (
            estimate.log_weight,
            estimate.reward,
        )
        if rows is None
        else tuple(rows)
    )


def _linear(value):
    def statistic(influence):
        mean = jnp.mean(influence)
        return Resamples(
            value + mean, jnp.sqrt(jnp.mean((influence - mean) ** 2) / influence.shape[0])
        )

    return statistic


def _recomputed(estimator):
    def statistic(*rows):
        drawn = estimator(*rows)
        return Resamples(drawn.value, jnp.sqrt(influence_variance(drawn)))

    return statistic


def _tolerance(estimate):
    """What rounding can move a recomputed value by."""
    size = jnp.abs(estimate.value) + jnp.max(jnp.abs(estimate.reward))
    return 1e3 * jnp.finfo(size.dtype).eps * size


# From resampled values to an interval.


def _cautious_quantiles(values, known, tails):
    """Quantiles at both `tails`; an unknown value is −inf for the lower, +inf for the upper."""
    low = _quantile(jnp.where(known, values, -jnp.inf), tails[0])
    return low, _quantile(jnp.where(known, values, jnp.inf), tails[1])


def _quantile(values, tail):
    """Linear interpolation between order statistics, which may be infinite."""
    values = jnp.sort(values)
    position = jnp.clip(jnp.nan_to_num(tail), 0, 1) * (values.shape[0] - 1)
    index = jnp.floor(position).astype(jnp.int32)
    below, above = values[index], values[jnp.minimum(index + 1, values.shape[0] - 1)]
    fraction = position - jnp.floor(position)
    finite = jnp.isfinite(below) & jnp.isfinite(above)
    between = below + fraction * jnp.where(finite, above - below, 0)
    return jnp.where(
        finite | (fraction == 0), between, jnp.where(jnp.isfinite(above), below, above)
    )


def _interval(estimate, low, high):
    """[low, high]; the whole line where the rows give no support or the resamples did not vary."""
    some = varies(influence_variance(estimate), estimate.value)
    known = supported(estimate) & some & (high > low)
    return Interval(jnp.where(known, low, -jnp.inf), jnp.where(known, high, jnp.inf))

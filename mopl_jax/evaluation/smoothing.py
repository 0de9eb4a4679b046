"""Choosing how much to smooth a deterministic target: little bias from a small bandwidth, little
variance from a large one.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.importance import snips
from mopl_jax.intervals.interval import Interval, IntervalFunction
from mopl_jax.logs import Logs, log_weights
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Count, PerBlockRow, Scalar, Vector
from mopl_jax.policies.deterministic import smooth


@pytree_dataclass()
class Selection:
    """The chosen bandwidth with its estimate and interval, and what every bandwidth gave, (m,), to
    look at.
    """

    index: Count
    bandwidth: Scalar
    estimate: Estimate
    interval: Interval
    values: PerBlockRow
    intervals: Interval


def lepski(value: PerBlockRow, interval: Interval, widening: float = 1.0) -> Count:
    """The last index whose interval, widened about its value, still meets those of all before
    it; 0 if none does.

    In the order of rising bias and falling width: Lepski's rule (1991), for off-policy estimates
    that of Su, Srinath & Krishnamurthy (SLOPE, ICML 2020, arXiv 2002.07729). They double the
    intervals, so that the error is within a constant factor of the best choice's; simultaneous
    intervals are wide already, and doubled they hide more bias than they save.
    """
    lower = jnp.where(
        jnp.isfinite(interval.lower), value - widening * (value - interval.lower), -jnp.inf
    )
    upper = jnp.where(
        jnp.isfinite(interval.upper), value + widening * (interval.upper - value), jnp.inf
    )
    meets = jax.lax.cummax(lower) <= jax.lax.cummin(upper)
    return jnp.maximum(jnp.sum(jnp.cumprod(meets.astype(jnp.int32))) - 1, 0)


def slope(
    logs: Logs,
    action: Vector,
    bandwidths: PerBlockRow,
    interval: IntervalFunction,
    alpha: float,
    estimator: Callable[..., Estimate] = snips,
) -> Selection:
    """The value of playing `action`, smoothed as much as the data leave unnoticed; `bandwidths`
    (m,) rising.

    Each bandwidth is the standard deviation of the smoothing Gaussian. Intervals are at alpha/m,
    so that all hold at once; the chosen one covers the value of its *smoothed* policy.
    Bandwidths without data have infinite intervals and exclude nothing. Assumption: bias rises
    with the bandwidth.
    """

    def evaluate(bandwidth):
        estimate = estimator(log_weights(smooth(action, bandwidth), logs), logs.reward)
        return estimate, interval(estimate, alpha / bandwidths.shape[0])

    estimates, intervals = jax.lax.map(evaluate, bandwidths)
    index = lepski(estimates.value, intervals)
    chosen, ends = jax.tree.map(lambda x: x[index], (estimates, intervals))
    return Selection(index, bandwidths[index], chosen, ends, estimates.value, intervals)

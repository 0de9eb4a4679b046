"""Smoothing a deterministic target: how much, little bias from a small bandwidth, little variance
from a large one; and what it does to the value.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.importance import snips
from mopl_jax.intervals.interval import Interval, IntervalFunction, NamedInterval
from mopl_jax.logs import Logs, log_weights
from mopl_jax.numerics import quadratic, safe
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Count, PerBlockRow, PerRow, Scalar, Vector
from mopl_jax.policies.deterministic import smooth

MATERIAL = 0.5  # of half the interval's width: a bias as large moves a nominal 95 % to 92 %


class Smoothing(NamedTuple):
    """What was done to a deterministic target, so that it has a density.

    `bandwidth`: standard deviation of the Gaussian around each weight
    `selected`: whether the data chose it
    `bias`: what the smoothing adds to the value, by a quadratic surface of the rewards; NaN where
        there are too few rows for one
    `bias_error`: its standard error
    """

    bandwidth: tuple[float, ...]
    selected: bool
    bias: float
    bias_error: float

    def doubt(self, interval: NamedInterval) -> str | None:
        """Why an interval of the smoothed value does not speak of the weights themselves."""
        half = 0.5 * (interval.upper - interval.lower)
        if math.isnan(self.bias):
            return (
                "the value is of the smoothed policy; too few rows tell what smoothing adds to it"
            )
        if abs(self.bias) <= MATERIAL * half:
            return None
        return (
            f"smoothing adds about {self.bias:+.3g} ± {self.bias_error:.1g} to the value, as much"
            " as the interval allows for: it is of the smoothed policy, not of the weights; choose"
            " a smaller --bandwidth"
        )


@functools.partial(jax.jit, static_argnames="users")
def smoothing_bias(
    action: Float[Array, "n d"],
    reward: PerRow,
    weights: Vector,
    bandwidth: Vector,
    rows: ArrayLike = 1.0,
    cluster: Int[Array, " n"] | None = None,
    users: int = 0,
) -> tuple[Scalar, Scalar]:
    """E V(weights + bandwidth Z) − V(weights), Z standard normal, and its standard error.

    ½ Σ Hⱼⱼ hⱼ² of the curvature H of the rewards, by least squares on a quadratic surface, which a
    surface that is none bends: then it is an estimate of the size. NaN below 3 rows a coefficient.
    `rows` (n,): how many each row speaks for. `cluster` (n,): the user of each, 0 … `users` − 1,
    whose rows depend on one another.
    """
    n, d = action.shape
    if n < 3 * quadratic.size(d):
        unknown = jnp.full((), jnp.nan, reward.dtype)
        return unknown, unknown
    spread = jnp.std(action, axis=0)
    unit = jnp.where(spread > 0, spread, 1)
    root = jnp.sqrt(jnp.broadcast_to(jnp.asarray(rows, reward.dtype), reward.shape))
    features = quadratic.features((action - weights[None]) / unit[None])
    features, left = root[:, None] * features, root * (reward - jnp.mean(jnp.square(root) * reward))
    value, error, _ = quadratic.least_squares(features, left)
    if cluster is not None:
        residual, alone = left - features @ value, jnp.arange(n)
        by_user = quadratic.error_by_user(features, residual, cluster, users)
        by_row = quadratic.error_by_user(features, residual, alone, n)
        error = error * jnp.maximum(safe.divide(by_user, by_row, 1.0), 1)
    bend, error = (jnp.diagonal(quadratic.unpack(x, d)[2]) for x in (value, error))
    share = 0.5 * jnp.square(bandwidth / unit)
    return share @ bend, jnp.sqrt(jnp.sum(jnp.square(share * error)))


def users_of(cluster: Any) -> tuple[Any, int]:
    """The users of rows, numbered without gaps, and how many they are; None and 0 for none."""
    if cluster is None:
        return None, 0
    names, own = np.unique(np.asarray(cluster), return_inverse=True)
    return jnp.asarray(own), len(names)


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

"""`Interval`; and `Wald` intervals, each of which is a pivot: a value, its variance, and degrees of freedom."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mopl_jax._record import record
from mopl_jax._student import student_quantile
from mopl_jax.ess import spread_out
from mopl_jax.estimators import Estimate


@record()
class Interval:
    """Lower and upper confidence limits, in the reward's unit; infinite where nothing is claimed."""

    lower: Float[Array, "*batch"]
    upper: Float[Array, "*batch"]

    @property
    def width(self) -> Float[Array, "*batch"]:
        """upper − lower."""
        return self.upper - self.lower

    def contains(self, value: Float[Array, "*batch"]) -> Bool[Array, "*batch"]:
        """Whether lower ≤ value ≤ upper."""
        return (self.lower <= value) & (value <= self.upper)


IntervalFunction = Callable[[Estimate, float], Interval]


@record()
class Pivot:
    """(value − truth) / √variance is taken as Student with `df` degrees of freedom, inf for normal; NaN if unsupported."""

    value: Float[Array, "*batch"]
    variance: Float[Array, "*batch"]
    df: Float[Array, "*batch"]

    def interval(self, alpha: float) -> Interval:
        """value ± t √variance; the whole line where the variance is 0 or anything is not finite.

        Also where df are so few that t, of order (2/alpha)^(1/df), is near overflow: its gradient would be NaN.
        """
        fewest = 2 * jnp.log(2 / alpha) / jnp.log(jnp.finfo(self.df.dtype).max)
        known = (self.variance > 0) & (self.df > fewest.astype(self.df.dtype)) & jnp.isfinite(self.value)
        df, variance = jnp.where(known, self.df, 1), jnp.where(known, self.variance, 1)
        half = student_quantile(alpha / 2, df) * jnp.sqrt(variance)
        known = known & jnp.isfinite(half)
        lower = jnp.where(known, self.value - half, -jnp.inf)
        return Interval(lower, jnp.where(known, self.value + half, jnp.inf))


class Wald:
    """An interval function made of its pivot; the pivots of a whole sweep can share one evaluation of the quantile."""

    def __init__(self, moments):
        self.moments = moments
        functools.update_wrapper(self, moments)

    def pivot(self, estimate: Estimate, **options) -> Pivot:
        """The pivot of `estimate`; its variance is NaN where fewer than two rows carry weight."""
        variance, df = self.moments(estimate, **options)
        variance = jnp.where(supported(estimate), variance, jnp.nan)
        return Pivot(estimate.value, variance, jnp.broadcast_to(df, variance.shape).astype(variance.dtype))

    def __call__(self, estimate: Estimate, alpha: float, **options) -> Interval:
        return self.pivot(estimate, **options).interval(alpha)


def supported(estimate: Estimate) -> Bool[Array, ""]:
    """False where fewer than two rows carry weight (to rounding): then no variance can be estimated.

    Prevents the point interval of a log whose weight sits in one row, where residual and variance are both zero.
    """
    return spread_out(estimate.log_weight)


def lower(interval: IntervalFunction) -> IntervalFunction:
    """The one-sided lower bound at level alpha: the lower end of the equal-tailed interval at 2 alpha."""
    return lambda estimate, alpha: Interval(interval(estimate, 2 * alpha).lower, jnp.full_like(estimate.value, jnp.inf))


def upper(interval: IntervalFunction) -> IntervalFunction:
    """The one-sided upper bound at level alpha: the upper end of the equal-tailed interval at 2 alpha."""
    return lambda estimate, alpha: Interval(
        jnp.full_like(estimate.value, -jnp.inf), interval(estimate, 2 * alpha).upper
    )

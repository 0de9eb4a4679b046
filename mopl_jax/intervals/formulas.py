"""Interval functions that are formulas of `Moments`, so that they serve wherever rows can lie.

`Wald` formulas give a variance and degrees of freedom, the others both ends.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mopl_jax.estimators.ess import enough
from mopl_jax.estimators.estimate import Estimate, varies
from mopl_jax.intervals.interval import Interval
from mopl_jax.intervals.moments import Moments, moments_of
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Batch, Scalar
from mopl_jax.numerics.student import student_quantile


@pytree_dataclass()
class Pivot:
    """(value − truth) / √variance is taken as Student with `df` degrees of freedom, inf for
    normal; NaN if unsupported.

    `skew` λ: the end on its side, λ > 0 the upper one, is stretched from t to |λ|t² + t√(1 +
    λ²t²), the root u of u² = t² (1 + 2|λ|u), as if the variance rose with the truth by
    2λ√variance (so does Wilson's for a rate).
    """

    value: Batch
    variance: Batch
    df: Batch
    skew: Batch

    def interval(self, alpha: float) -> Interval:
        """value ± t √variance, stretched by `skew`; the whole line where the variance is 0, or
        what rounding makes of it, or anything is not finite.

        Also where df are so few that t, of order (2/alpha)^(1/df), is near overflow: its
        gradient would be NaN.
        """
        fewest = 2 * jnp.log(2 / alpha) / jnp.log(jnp.finfo(self.df.dtype).max)
        known = (
            varies(lax.stop_gradient(self.variance), lax.stop_gradient(self.value))
            & (self.df > fewest.astype(self.df.dtype))
            & jnp.isfinite(self.value)
        )
        df, variance = jnp.where(known, self.df, 1), jnp.where(known, self.variance, 1)
        half = student_quantile(alpha / 2, df) * jnp.sqrt(variance)
        stretch = jnp.where(known, self.skew, 0) * half / jnp.sqrt(variance)
        longest = half * (jnp.abs(stretch) + jnp.sqrt(1 + jnp.square(stretch)))
        known = known & jnp.isfinite(longest)
        lower = jnp.where(known, self.value - jnp.where(stretch < 0, longest, half), -jnp.inf)
        return Interval(
            lower, jnp.where(known, self.value + jnp.where(stretch > 0, longest, half), jnp.inf)
        )


class Wald:
    """An interval function made of a formula (Moments) -> (variance, degrees of freedom[,
    skew]), see `Pivot`.

    A study takes the moments once for all of its intervals, and evaluates formulas and quantiles
    on whole arrays.
    """

    def __init__(self, formula: Callable):
        self.formula = formula
        functools.update_wrapper(self, formula)

    def at(self, sums: Moments) -> Pivot:
        """The pivot given the sums (any batch shape); its variance is NaN where fewer than two rows
        carry weight.
        """
        variance, *rest = self.formula(sums)
        variance = jnp.where(enough(sums.sum_p2), variance, jnp.nan)
        df, skew = (
            jnp.broadcast_to(x, variance.shape).astype(variance.dtype) for x in (*rest, 0.0)[:2]
        )
        return Pivot(sums.value, variance, df, skew)

    def pivot(self, estimate: Estimate) -> Pivot:
        """The pivot of an estimate."""
        return self.at(moments_of(estimate))

    def moments(self, estimate: Estimate) -> tuple[Scalar, Scalar]:
        """Variance and degrees of freedom of an estimate."""
        return self.formula(moments_of(estimate))[:2]

    def __call__(self, estimate: Estimate, alpha: float) -> Interval:
        return self.pivot(estimate).interval(alpha)


def batched_intervals(pivots: Sequence[Pivot], alpha: float) -> list[Interval]:
    """The intervals of several pivots of one shape by a single evaluation of the quantile, compiled
    once.
    """
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *pivots).interval(alpha)
    return [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(len(pivots))]


class FromSums:
    """An interval function made of a formula (Moments, alpha, **facts) -> Interval.

    Unlike `Wald` it need not be a pivot: both ends may follow the value, as those of a proportion.
    """

    def __init__(self, formula: Callable[..., Interval]):
        self.formula = formula
        functools.update_wrapper(self, formula)

    def at(self, sums: Moments, alpha: float, **facts: Any) -> Interval:
        """The interval given the sums (any batch shape)."""
        return self.formula(sums, alpha, **facts)

    def __call__(self, estimate: Estimate, alpha: float, **facts: Any) -> Interval:
        return self.formula(moments_of(estimate), alpha, **facts)

"""The range that rewards are known to respect, and intervals cut to it.

`reward_range` (low, high) is a fact about the platform, never the smallest and largest reward seen.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool

from mopl_jax.estimators.ess import supported
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.intervals.interval import Interval
from mopl_jax.numerics.shapes import Batch, PerRow, Scalar

Range = tuple[float, float]


def within(estimate: Estimate, low: Batch, high: Batch, reward_range: Range) -> Interval:
    """[low, high] cut to the reward range.

    The whole range where the estimate is unsupported, an end is NaN, or nothing of the range is
    left.
    """
    return cut(supported(estimate), low, high, reward_range, like=estimate.value)


def gains(reward_range: Range) -> Range:
    """What the difference of two values can be where rewards lie in the range."""
    low, high = reward_range
    return low - high, high - low


def between(low: ArrayLike, high: ArrayLike, reward_range: Range) -> Interval:
    """[low, high] cut to the range, as `cut` has it; NaN is no end."""
    low, high = jnp.asarray(low, float), jnp.asarray(high, float)
    return cut(jnp.asarray(True), low, high, reward_range, like=low)


def cut(
    known: Bool[Array, "*batch"], low: Batch, high: Batch, reward_range: Range, like: Batch
) -> Interval:
    """[low, high] cut to the reward range, in the dtype of `like`.

    The whole range where it is not `known`, an end is NaN, or no value of the range lies between
    the ends, which refutes the assumptions rather than all values.
    """
    least, most = range_ends(reward_range, like)
    known = known & (low <= jnp.minimum(high, most)) & (high >= least)
    return Interval(
        jnp.where(known, jnp.clip(low, least, most), least),
        jnp.where(known, jnp.clip(high, least, most), most),
    )


def range_ends(reward_range: Range, like: Array) -> tuple[Scalar, Scalar]:
    """Both ends of the range, in the dtype of `like`.

    ValueError where they are numbers that are not in order: every bound would be a point.
    """
    low, high = reward_range
    if not isinstance(low, jax.Array) and not isinstance(high, jax.Array) and not low < high:
        raise ValueError(
            f"expected a reward_range (low, high) with low < high, got ({low:g}, {high:g})"
        )
    return jnp.asarray(low, like.dtype), jnp.asarray(high, like.dtype)


def weighted_terms(
    estimate: Estimate, reward_range: Range, w_max: ArrayLike, baseline: ArrayLike | None = None
) -> tuple[PerRow, Scalar, Scalar]:
    """The terms c + w (r−c), (n,), and both ends of the range that they lie in.

    Independent with mean V for every fixed c, because E w = 1.
    """
    low, high = range_ends(reward_range, estimate.value)
    heaviest = jnp.asarray(w_max, low.dtype)
    c = 0.5 * (low + high) if baseline is None else jnp.asarray(baseline, low.dtype)
    terms = c + jnp.exp(estimate.log_weight) * (estimate.reward - c)
    return (
        terms,
        c + jnp.minimum(heaviest * (low - c), 0),
        c + jnp.maximum(heaviest * (high - c), 0),
    )

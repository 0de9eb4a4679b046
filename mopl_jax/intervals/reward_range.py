"""The range that rewards are known to respect, and intervals cut to it.

`reward_range` (low, high) is a fact about the platform, never the smallest and largest reward seen.
"""

import jax
import jax.numpy as jnp

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.intervals.interval import Interval, supported

Range = tuple[float, float]


def within(estimate: Estimate, low, high, reward_range: Range) -> Interval:
    """[low, high] cut to the reward range; the whole range where the estimate is unsupported or an
    end is unknown.
    """
    known = supported(estimate) & ~jnp.isnan(low) & ~jnp.isnan(high)
    least, most = _range(reward_range, estimate.value)
    return Interval(
        jnp.where(known, jnp.clip(low, least, most), least),
        jnp.where(known, jnp.clip(high, least, most), most),
    )


def _range(reward_range, like):
    """The ends; ValueError where they are numbers that are not in order: every bound would be a
    point.
    """
    low, high = reward_range
    if not isinstance(low, jax.Array) and not isinstance(high, jax.Array) and not low < high:
        raise ValueError(
            f"expected a reward_range (low, high) with low < high, got ({low:g}, {high:g})"
        )
    return jnp.asarray(low, like.dtype), jnp.asarray(high, like.dtype)

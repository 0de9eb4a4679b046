"""The interval to use when nothing speaks for another one."""

import functools
import math

import jax.numpy as jnp
from jaxtyping import ArrayLike

from mopl_jax.estimators.ess import enough
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.intervals.ess_corrected import ess_skew
from mopl_jax.intervals.interval import Interval, IntervalFunction, lower
from mopl_jax.intervals.moments import Moments, moments_of
from mopl_jax.intervals.proportions import ess_wilson_skew
from mopl_jax.intervals.reward_range import Range, cut


def recommended(estimate: Estimate, alpha: float, *, reward_range: Range | None = None) -> Interval:
    """`ess_skew`; within the reward range if one is known; `ess_wilson_skew` if all rewards are
    at its ends (clicks).

    Chosen on half of the worlds of the stress study, checked on the other half:
    docs/intervals.md says where it holds and where nothing that sees only the sample can. All
    weight in one row, or rewards that do not vary where no range is known: the whole line. Very
    wide below two effective rows. `reward_range` is a fact about the platform, (low, high), one
    end may be infinite.
    """
    num_interior = 0 if reward_range is None else count_interior(estimate.reward, reward_range)
    return recommended_from_sums(moments_of(estimate), alpha, reward_range, num_interior)


def recommended_from_sums(
    sums: Moments,
    alpha: float,
    reward_range: Range | None = None,
    num_interior: ArrayLike = 0,
) -> Interval:
    """`recommended` as a formula of sums over the rows, `num_interior` of which have a reward
    that is at neither end of the range.
    """
    skewed = ess_skew.at(sums).interval(alpha)
    if reward_range is None:
        return skewed
    low, high = reward_range
    known = enough(sums.sum_p2)
    inside = cut(known, skewed.lower, skewed.upper, reward_range, like=sums.value)
    if not (math.isfinite(low) and math.isfinite(high)):
        return inside
    wilson = ess_wilson_skew.at(sums, alpha, reward_range=reward_range)
    binary = jnp.asarray(num_interior) == 0
    return Interval(
        jnp.where(binary, wilson.lower, inside.lower), jnp.where(binary, wilson.upper, inside.upper)
    )


def count_interior(reward, reward_range: Range):
    """How many rewards are at neither end of the range."""
    low, high = reward_range
    return jnp.sum((reward != low) & (reward != high))


def recommended_lower(
    estimate: Estimate, alpha: float, *, reward_range: Range | None = None
) -> Interval:
    """The one-sided lower bound at level `alpha`: the lower end of `recommended` at 2 alpha."""
    interval: IntervalFunction = functools.partial(recommended, reward_range=reward_range)
    return lower(interval)(estimate, alpha)

"""The interval to use when nothing speaks for another one."""

import functools
import math

import jax.numpy as jnp

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.intervals.ess_corrected import ess_skew
from mopl_jax.intervals.interval import Interval, IntervalFunction, lower
from mopl_jax.intervals.proportions import ess_wilson_skew
from mopl_jax.intervals.reward_range import Range, within


def recommended(estimate: Estimate, alpha: float, *, reward_range: Range | None = None) -> Interval:
    """`ess_skew`; within the reward range if one is known; `ess_wilson_skew` if all rewards are
    at its ends (clicks).

    Chosen on half of the worlds of the stress study, checked on the other half:
    docs/intervals.md says where it holds and where nothing that sees only the sample can. All
    weight in one row, or rewards that do not vary where no range is known: the whole line. Very
    wide below two effective rows. `reward_range` is a fact about the platform, (low, high), one
    end may be infinite.
    """
    skewed = ess_skew(estimate, alpha)
    if reward_range is None:
        return skewed
    low, high = reward_range
    inside = within(estimate, skewed.lower, skewed.upper, reward_range)
    if not (math.isfinite(low) and math.isfinite(high)):
        return inside
    binary = jnp.all((estimate.reward == low) | (estimate.reward == high))
    wilson = ess_wilson_skew(estimate, alpha, reward_range=reward_range)
    return Interval(
        jnp.where(binary, wilson.lower, inside.lower), jnp.where(binary, wilson.upper, inside.upper)
    )


def recommended_lower(
    estimate: Estimate, alpha: float, *, reward_range: Range | None = None
) -> Interval:
    """The one-sided form: a lower bound at level `alpha`, the lower end of `recommended` at 2
    alpha.
    """
    interval: IntervalFunction = functools.partial(recommended, reward_range=reward_range)
    return lower(interval)(estimate, alpha)

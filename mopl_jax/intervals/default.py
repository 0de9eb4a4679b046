"""The interval to use when nothing speaks for another one."""

import functools
import math

import jax.numpy as jnp

from mopl_jax.estimators.ess import enough
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.intervals.ess_corrected import ess_skew
from mopl_jax.intervals.formulas import FromSums
from mopl_jax.intervals.interval import Interval, IntervalFunction, lower
from mopl_jax.intervals.moments import Moments
from mopl_jax.intervals.proportions import ess_score, spread_share
from mopl_jax.intervals.reward_range import Range, cut


@FromSums
def recommended(sums: Moments, alpha: float, *, reward_range: Range | None = None) -> Interval:
    """`ess_skew`; within a reward range based on `ess_score`.

    Within the range each end moves from that of `ess_score` towards a farther one of `ess_skew`
    by the share 1 − Σpe²/(v(1−v)) = Σp r(1−r) / (v(1−v)), zero for rewards at the ends of the
    range (clicks). Chosen on half of the worlds of the stress study, checked on the other half:
    docs/intervals.md says where it holds and where nothing that sees only the sample can. All
    weight in one row, or rewards that do not vary where no range is known: the whole line. Very
    wide below two effective rows. `reward_range` is a fact about the platform, (low, high), one
    end may be infinite.
    """
    skewed = ess_skew.at(sums).interval(alpha)
    if reward_range is None:
        return skewed
    skewed = cut(enough(sums.sum_p2), skewed.lower, skewed.upper, reward_range, like=sums.value)
    if not all(math.isfinite(end) for end in reward_range):
        return skewed
    score = ess_score.at(sums, alpha, reward_range=reward_range)
    inside = 1 - spread_share(sums, reward_range)
    return Interval(
        score.lower + inside * jnp.minimum(skewed.lower - score.lower, 0),
        score.upper + inside * jnp.maximum(skewed.upper - score.upper, 0),
    )


def recommended_lower(
    estimate: Estimate, alpha: float, *, reward_range: Range | None = None
) -> Interval:
    """The one-sided lower bound at level `alpha`: the lower end of `recommended` at 2 alpha."""
    interval: IntervalFunction = functools.partial(recommended, reward_range=reward_range)
    return lower(interval)(estimate, alpha)

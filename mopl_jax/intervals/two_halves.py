"""The interval to use for a difference of two policies whose rewards lie in a known range.

A difference of two SNIPS is s (V₊ − V₋): the rows that the first policy plays more often than the
second against the others, see `estimators.contrast.half`. They are different rows, so that however
much the two policies share, the halves are two proportions, and each has its own interval.
"""

import jax.numpy as jnp

from mopl_jax.estimators.contrast import contrast, difference, half
from mopl_jax.estimators.ess import enough
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.estimator import given
from mopl_jax.intervals.ess_corrected import caution, ess_skew
from mopl_jax.intervals.interval import Interval
from mopl_jax.intervals.moments import Halves, Moments, moments_of
from mopl_jax.intervals.proportions import ess_score, place, spread_share
from mopl_jax.intervals.reward_range import Range, cut, gains, range_ends
from mopl_jax.numerics import safe
from mopl_jax.numerics.pytree import stacked
from mopl_jax.numerics.reduce import Whole, run_passes, whole_block

# Of 0, 2, 4, 8 the narrowest that fails in no cell of the half of benchmarks/click_differences.py
# that chose, at n = 32 and 128.
FEW_ROWS = 2.0


def recommended_difference(
    first: Estimate, second: Estimate, alpha: float, *, reward_range: Range
) -> Interval:
    """The interval of value(first) − value(second), SNIPS of the same rows, in a reward range.

    See `of_halves`. `reward_range` is a fact about the platform, both ends finite.
    """
    return of_halves(*halves_of(first, second), alpha, reward_range=reward_range)


def halves_of(first: Estimate, second: Estimate) -> tuple[Moments, Halves]:
    """The moments of a difference of two estimates in memory, and those of its halves."""
    both = given(lambda columns: columns[0]), given(lambda columns: columns[1])
    block, found = whole_block((first, second)), [half(*both, sign) for sign in (1, -1)]
    place = Whole(block)
    state = run_passes(place, contrast(*both).stages)
    states = [place.apply(one.stages[0], state) for one in found]
    sums = [moments_of(one.rows(own, block)) for one, own in zip(found, states, strict=True)]
    share = jnp.exp(states[0].totals.log_sum)
    return moments_of(difference(first, second)), Halves(share, *sums)


def of_halves(sums: Moments, halves: Halves, alpha: float, *, reward_range: Range) -> Interval:
    """The interval of a difference from its moments and those of its halves.

    Each half has the ends of `ess_score`. With them the lower end is d − s √γ √((V₊ − L₊)² + (U₋ −
    V₋)²), the upper likewise: the square-and-add of two independent proportions (Newcombe,
    Statistics in Medicine 1998). γ is the variance of the difference, which knows that the shares
    vary too, over s² times the sum of those of the halves; below one it is believed as far as
    many terms decide (`caution`). Both distances are 1 + 2/ESS times as long, at most twice: of few
    rows s and the rows that make a half are chance as well. Each end moves towards a farther one of
    `ess_skew` by the share of rewards inside the range, as in `recommended`, the mean of the
    halves' shares. The interval lies within ± the width of the range, and is all of that where
    fewer than two rows carry weight.
    """
    width, skewed = reward_range[1] - reward_range[0], ess_skew.at(sums).interval(alpha)
    both = stacked((halves.first, halves.second))
    few = jnp.minimum(1, FEW_ROWS * sums.sum_p2)
    scale = (1 + few) * halves.share * jnp.sqrt(_variance_ratio(sums, halves))
    below, above = (scale * x for x in _square_and_add(both, alpha, reward_range))
    inside = 1 - jnp.mean(spread_share(both, reward_range), axis=0)
    lower, upper = sums.value - below, sums.value + above
    return cut(
        enough(sums.sum_p2),
        lower + inside * jnp.minimum(jnp.maximum(skewed.lower, -width) - lower, 0),
        upper + inside * jnp.maximum(jnp.minimum(skewed.upper, width) - upper, 0),
        gains(reward_range),
        like=sums.value,
    )


def _variance_ratio(sums, halves):
    """γ."""
    apart = jnp.square(halves.share) * (halves.first.exact + halves.second.exact)
    ratio = safe.divide(sums.exact, apart, otherwise=1.0)
    return ratio + caution(sums) * jnp.maximum(1 - ratio, 0)


def _square_and_add(both: Moments, alpha, reward_range):
    """How far the ends lie below and above V₊ − V₋, from the moments of the two, stacked."""
    low, high = range_ends(reward_range, both.value)
    value = low + (high - low) * place(both, reward_range)
    ends = ess_score.at(both, alpha, reward_range=reward_range)
    down, up = jnp.square(value - ends.lower), jnp.square(ends.upper - value)
    return safe.sqrt(down[0] + up[1]), safe.sqrt(up[0] + down[1])

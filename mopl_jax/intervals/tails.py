"""An interval from the extreme terms: what the tails may hold is averaged over.

A variance and a skewness say of the tails what the rows show. Here the largest and the smallest
terms of an estimate are rows of tails whose shape is not known, and the end on a side is a quantile
over all shapes that its terms leave open. After U. Müller, A More Robust t-Test (Review of
Economics and Statistics), whose test is of terms of equal weight; the formulas are others.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from mopl_jax.estimators.ess import normalise, supported
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.intervals.ess_corrected import ess_exact
from mopl_jax.intervals.interval import Interval
from mopl_jax.intervals.moments import Moments, moments_of
from mopl_jax.intervals.reward_range import Range, range_ends, within
from mopl_jax.numerics import safe
from mopl_jax.numerics.roots import crossing
from mopl_jax.numerics.shapes import PerRow, Scalar

# Terms of a tail: a quarter of the effective ones, and of many 8 + 200 over their number; few where
# there are many because the tail's shape is a limit. These, the prior and the score were chosen on
# ten populations of equal weight and on worlds of the study of differences with d = 1, 5.
SHARE, MANY, MORE, FEWEST, MOST = 0.25, 8, 200, 2, 12
FEWEST_ROWS = 8  # of which four are neither tail
# Nodes (t,): ξ, none of them 0, at ½ the variance is infinite; σ over the mean excess
SHAPES, SCALES = (
    x.ravel() for x in np.meshgrid(np.linspace(-0.5, 0.5, 10), np.exp(np.linspace(-1.5, 3, 16)))
)
PRIOR = 2.0  # the density of ξ falls as exp(−2ξ)
NORMAL = 3.0  # the score of normality from which the tails alone speak


class Tail(NamedTuple):
    """What the terms of one side leave open: nodes of (shape, scale) with their posterior weights,
    and the mean of the terms beyond the threshold at each.
    """

    weight: Float[Array, " t"]
    mean: Float[Array, " t"]


def extreme_terms(
    estimate: Estimate, alpha: float, *, reward_range: Range | None = None
) -> Interval:
    """`ess_exact`, moved to an average over tails as far as the terms are not normal.

    The terms x = ψ/(n√(1−2p+S₂)), less their mean, are taken as independent draws. The k largest
    and the k smallest are tails, the n − 2k others have mean m and variance s². Beyond the k-th
    term u the excess of the others is generalised Pareto of shape ξ ∈ [−½, ½] and scale σ, with
    prior exp(−2ξ)/σ. Given both, the mean of a tail is u + σ/(1−ξ), its share of the terms k/n ±
    √k/n, and the truth normal: m + k/n (tail − m) on the side of the end, with the posterior mean
    of the same on the other. The end is the 1−α/2 quantile over the posterior, by a grid. It
    replaces that of `ess_exact` by the share min(1, n (S²/6 + K²/24)/3), S and K the terms'
    skewness and excess kurtosis: the score test of normality (Jarque & Bera 1980), which is 2 on
    average where they are normal.

    k is a quarter of m, the fewer of ESS and 2 S₂²/Σp⁴, at least two, and at most 8 + 200/m. With a
    `reward_range` no term goes beyond what the heaviest row would have at that end of the range,
    and the interval is cut to it. The whole line with fewer than eight rows, and where `ess_exact`
    is. No gradients. Where it holds, and that `recommended` is safer below 50 effective rows, is in
    docs/intervals.md.
    """
    sums, n = moments_of(estimate), estimate.influence.shape[0]
    half = 0.5 * ess_exact.at(sums).interval(alpha).width
    if n < FEWEST_ROWS:
        return _around(estimate, jnp.inf, jnp.inf, reward_range)
    p = normalise(estimate.log_weight)
    terms = estimate.influence / n * jnp.sqrt(safe.reciprocal(1 - 2 * p + sums.sum_p2))
    terms = terms - jnp.mean(terms)
    unit = safe.positive(jnp.max(jnp.abs(terms)))
    terms, share = terms / unit, _not_normal(terms / unit)
    reach = (room / unit for room in _reach(estimate, sums, reward_range))
    ends = _ends(terms, _count(sums, n), tuple(reach), alpha)
    above, below = (half + share * (n * unit * jnp.maximum(x, 0) - half) for x in ends)
    return _around(estimate, above, below, reward_range)


def _around(estimate, above, below, reward_range):
    """The value and so much `above` and `below` it; the whole line or range where it is unknown."""
    known = supported(estimate) & jnp.isfinite(above) & jnp.isfinite(below)
    above, below = (jnp.where(known, x, jnp.inf) for x in (above, below))
    ends = estimate.value - below, estimate.value + above
    return Interval(*ends) if reward_range is None else within(estimate, *ends, reward_range)


def _count(sums: Moments, n: int) -> Scalar:
    """How many of n terms are a tail, a whole number."""
    size = jnp.minimum(sums.kish, 2 / safe.positive(sums.quartic))
    some = jnp.minimum(SHARE * size, MANY + MORE / size)
    return jnp.floor(jnp.clip(some, FEWEST, min(MOST, n // 4)))


def _reach(estimate, sums, reward_range):
    """How far terms may go above and below zero: the heaviest row at the ends of the range."""
    if reward_range is None:
        return jnp.inf, jnp.inf
    low, high = range_ends(reward_range, estimate.value)
    spread = jnp.square(sums.one_minus_max_p) + sums.sum_p2 - jnp.square(sums.max_p)
    heaviest = sums.max_p * jnp.sqrt(safe.reciprocal(spread))
    return heaviest * (high - estimate.value), heaviest * (estimate.value - low)


def _ends(terms: PerRow, count: Scalar, reach, alpha) -> tuple[Scalar, Scalar]:
    """How far the mean of all terms may lie above and below that of these."""
    n = terms.shape[0]
    terms = jnp.sort(terms)
    rank = jnp.arange(n, dtype=terms.dtype)
    inner = (rank >= count) & (rank < n - count)
    middle = jnp.sum(jnp.where(inner, terms, 0)) / (n - 2 * count)
    spread = jnp.sum(jnp.where(inner, jnp.square(terms - middle), 0)) / (n - 2 * count - 1)
    most = min(MOST, n // 4)
    right, left = (
        _tail(largest, count, room)
        for largest, room in zip((terms[::-1][:most], -terms[:most]), reach, strict=True)
    )
    error = spread / (n - 2 * count)
    share = count / n
    above = _quantile(right, left, middle, error, share, count, alpha)
    return above, _quantile(left, right, -middle, error, share, count, alpha)


def _tail(largest: Float[Array, " k"], count: Scalar, room: Scalar) -> Tail:
    """The posterior of a tail from its `largest` terms, which fall; the `count`-th is the
    threshold. No term goes beyond `room`.
    """
    threshold = largest[count.astype(int) - 1]
    above = jnp.arange(largest.shape[0], dtype=count.dtype) < count - 1
    excess = jnp.where(above, largest - threshold, 0)
    mean = jnp.sum(excess) / (count - 1)
    shape, scale = jnp.asarray(SHAPES, mean.dtype), jnp.asarray(SCALES, mean.dtype)
    bend = shape / scale / safe.positive(mean)
    stretched = 1 + excess[:, None] * bend[None]
    logs = jnp.sum(jnp.log(safe.positive(stretched)), axis=0)
    log_posterior = -(1 + 1 / shape) * logs - (count - 1) * jnp.log(scale) - PRIOR * shape
    weight = jax.nn.softmax(jnp.where(jnp.all(stretched > 0, axis=0), log_posterior, -jnp.inf))
    left = jnp.where(jnp.isfinite(room), 1 + bend * jnp.maximum(room - threshold, 0), 0)
    beyond = jnp.where(left > 0, safe.positive(left) ** (1 - 1 / shape), 0)
    return Tail(weight, threshold + mean * scale / (1 - shape) * (1 - beyond))


def _quantile(tail: Tail, other: Tail, middle, error, share, count, alpha):
    """The 1 − alpha/2 quantile of the mean of all terms, on the side of `tail`."""
    gain, loss = share * (tail.mean - middle), share * (other.mean + middle)
    expected = jnp.sum(other.weight * loss)
    square = jnp.sum(other.weight * jnp.square(loss)) * (1 + 1 / count)
    variance = error + jnp.maximum(square - jnp.square(expected), 0)
    centre = middle - expected + gain
    sd = safe.positive(safe.sqrt(variance + jnp.square(gain) / count))

    def excess(value):
        return jnp.sum(tail.weight * ndtr((value - centre) / sd)) - (1 - alpha / 2)

    return crossing(excess, jnp.min(centre - 6 * sd), jnp.max(centre + 6 * sd))


def _not_normal(terms: PerRow) -> Scalar:
    """How far the terms are from normal ones, from 0 to 1, by the score test of normality."""
    square = safe.positive(jnp.mean(jnp.square(terms)))
    skewness = jnp.mean(terms**3) / square**1.5
    excess = jnp.mean(terms**4) / jnp.square(square) - 3
    score = terms.shape[0] * (jnp.square(skewness) / 6 + jnp.square(excess) / 24)
    return jnp.minimum(1, score / NORMAL)

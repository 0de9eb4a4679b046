"""Intervals for rewards in a known range as if their mean were a proportion.

An effective sample size stands for the number of trials. `reward_range` (low, high) is a fact
about the platform, never the smallest and largest reward seen. Every interval lies within the
range, is the whole range where fewer than two rows carry weight, follows r ↦ c ± s r exactly,
and is equal-tailed. Rewards must respect the range; `diagnose` counts those that do not. All are
formulas of `Moments`, see `FromSums`. None is exact for every n, because ESS stands for n.
`clopper_pearson` searches for its ends: its gradients are not those of the limits.
"""

import jax.numpy as jnp
from jax.scipy.special import betainc
from jaxtyping import Array, ArrayLike

from mopl_jax.estimators.ess import enough
from mopl_jax.estimators.estimate import varies
from mopl_jax.intervals.formulas import FromSums
from mopl_jax.intervals.interval import Interval
from mopl_jax.intervals.moments import Moments
from mopl_jax.intervals.reward_range import Range, cut, range_ends
from mopl_jax.numerics import safe
from mopl_jax.numerics.proportion import wilson_ends
from mopl_jax.numerics.roots import crossing
from mopl_jax.numerics.shapes import Batch
from mopl_jax.numerics.student import student_quantile


@FromSums
def ess_wilson(
    sums: Moments, alpha: float, *, reward_range: Range = (0.0, 1.0), size: ArrayLike | None = None
) -> Interval:
    """Wilson's score interval with m = ESS for n and Student's t for z.

    Degrees of freedom are Satterthwaite's. (v + t²/2m ± t √(v(1−v)/m + t²/4m²)) / (1 + t²/m), v the
    value's place in the range. `size` is the effective sample size m, Kish's unless given. Right to
    first order for 0/1 rewards unrelated to the weights, wide for rewards inside the range (v(1−v)
    is the largest variance of mean v).
    """
    ends = score(place(sums, reward_range), _trials(sums, size), _degrees(sums), alpha)
    return from_share(sums, ends, reward_range)


@FromSums
def ess_wilson_skew(sums: Moments, alpha: float, *, reward_range: Range = (0.0, 1.0)) -> Interval:
    """`ess_wilson` that follows the skewness of 0/1 rewards.

    It starts from v − (t²−1)/6 · κ in place of v, κ = (1−2v) Σp³/Σp². That is the Cornish–Fisher
    term of (v−V)/sd for v = Σp r with shares p of the weight that tell nothing of r: κ is its third
    cumulant over the second. For equal shares it is the term by which one-sided Wilson bounds are
    off (Cai, J. Stat. Plan. Inference 131, 2005). |κ| ≤ √(v(1−v) Σp²), the sd: equal shares never
    have more, and where a few heavy rows do, the expansion fails. Both ends move towards the nearer
    end of the range, so that the interval is narrower than Wilson's, and neither end misses much
    more often than the other (`benchmarks/clicks.py`).
    """
    ends = skewed_score(place(sums, reward_range), sums, alpha)
    return from_share(sums, ends, reward_range)


@FromSums
def ess_score(sums: Moments, alpha: float, *, reward_range: Range = (0.0, 1.0)) -> Interval:
    """`ess_wilson_skew` that holds where the rewards are related to the weights.

    ESS is divided, and the skewness multiplied, by the variance ratio g of `variance_ratio`: the
    ends V solve |v' − V| = t √(V(1−V) g Σp²). The variance of SNIPS over that of clicks unrelated
    to the weights is E[w²(r−V)²] / (V(1−V) E w²): more than one where the rows that count are the
    ones that are clicked, less where they are not or where rewards lie inside the range. g is
    consistent for it, so the interval is. For 0/1 rewards and equal weights g = 1 exactly.
    """
    v, g = place(sums, reward_range), variance_ratio(sums, reward_range)
    ends = _skewed(v, sums.kish / g, sums.cubic * g, _degrees(sums), alpha)
    return from_share(sums, ends, reward_range)


@FromSums
def clopper_pearson(
    sums: Moments, alpha: float, *, reward_range: Range = (0.0, 1.0), size: ArrayLike | None = None
) -> Interval:
    """The binomial interval for m v successes in m = ESS trials.

    Its ends are the α/2 quantiles of Beta(mv, m−mv+1) and Beta(mv+1, m−mv).
    `size` is the effective sample size m, Kish's unless given. Clopper & Pearson (1934); exact
    for 0/1 rewards and equal weights, an approximation otherwise.
    """
    v, m = place(sums, reward_range), _trials(sums, size)
    ends = _binomial_lower(v, m, alpha / 2), 1 - _binomial_lower(1 - v, m, alpha / 2)
    return from_share(sums, ends, reward_range)


# Between values and their places in the range.


def place(sums: Moments, reward_range: Range) -> Batch:
    """The value's place in the reward range, in [0, 1], as if it were a proportion."""
    low, high = range_ends(reward_range, sums.value)
    value = jnp.where(jnp.isnan(sums.value), low, sums.value)
    return jnp.clip((value - low) / (high - low), 0, 1)


def from_share(sums: Moments, ends: tuple[Array, Array], reward_range: Range) -> Interval:
    """The interval whose ends are at the places `ends` in the reward range."""
    least, most = range_ends(reward_range, sums.value)
    low, high = (least + (most - least) * end for end in ends)
    return cut(enough(sums.sum_p2), low, high, reward_range, like=sums.value)


def _trials(sums, size):
    return sums.kish if size is None else jnp.maximum(jnp.asarray(size, sums.value.dtype), 1)


def _degrees(sums):
    return jnp.where(enough(sums.sum_p2), sums.df, 1)


# The variance of the value, over what it would be for clicks unrelated to the weights.


# A ratio g below what unrelated rewards would have is believed by 1 − 16 × its relative variance
# (in full where that is nothing, not at all where its standard error is a quarter); one below one
# not at all where Σx⁴ − 3Σp⁴/S₂² ≥ 1/5, a variance that at most five rows make. Chosen on click
# rates and on rewards inside the range: logit-linear at 8 targets and two arms, n = 8 … 4,096.
# Factors 8 … 32 fail in as many cells at widths within 1 %, 4 in more; 3 … 5 differ hardly.
BELIEVED = 16.0
FEW_TERMS = 5.0


def variance_ratio(sums: Moments, reward_range: Range) -> Batch:
    """The variance of the value over v(1−v) Σp², cautiously where few rows show it.

    ĝ = Σψ²/(n²(1−2p+S₂)) · (1−S₂)/(v(1−v) S₂), which clicks of equal weight leave at one. A ratio
    below g₀ = `spread_share`, what unrelated rewards of the same spread would have, is raised to it
    by the share 16 ε² ≤ 1 that is not believed. ε² is the relative variance of ĝ: the larger of
    what the terms x show, Σx⁴ − Q − 2h Σx³ + h², and what unrelated clicks would have,
    g₀ (1−2v)²/(v(1−v)) · (Q − 2 Σp³/S₂ + S₂), with Q = Σp⁴/S₂² and h = (1−2v)/(v(1−v)) · sd, the
    change of log v(1−v) over one standard deviation. Both vanish for clicks of equal weight. A
    ratio below one, the most that unrelated rewards in the range can have, is raised to it where a
    few rows make the variance, and where nothing varies.
    """
    v, spread = place(sums, reward_range), spread_share(sums, reward_range)
    low, high = range_ends(reward_range, sums.value)
    most, q = v * (1 - v), sums.quartic
    sd = safe.sqrt(sums.exact) / (high - low)
    measured = safe.divide(jnp.square(sd) * sums.one_minus_sum_p2, most * sums.sum_p2)
    change = safe.divide((1 - 2 * v) * sd, most)
    shown = sums.kurtosis - q - 2 * change * sums.skewness + jnp.square(change)
    slope = safe.divide(jnp.square(1 - 2 * v), most)
    unrelated = slope * spread * (q - 2 * sums.cubic + sums.sum_p2)
    doubt = jnp.clip(BELIEVED * jnp.maximum(shown, unrelated), 0, 1)
    ratio = measured + doubt * jnp.maximum(spread - measured, 0)
    few = jnp.clip(FEW_TERMS * (sums.kurtosis - 3 * q), 0, 1) ** 3
    few = jnp.where(varies(sums.exact, sums.value), few, 1)
    return ratio + few * jnp.maximum(1 - ratio, 0)


def spread_share(sums: Moments, reward_range: Range) -> Batch:
    """Σpe² / (v(1−v)) in [0, 1], the spread of the rewards over the most that the range allows.

    One where all rewards are at the ends of the range, zero where they are equal inside it.
    """
    v = place(sums, reward_range)
    low, high = range_ends(reward_range, sums.value)
    share = safe.divide(sums.residual / jnp.square(high - low), v * (1 - v), otherwise=1.0)
    return jnp.clip(share, 0, 1)


# Both ends, as shares.


def score(v: Batch, m: Batch, df: Batch, alpha: float) -> tuple[Batch, Batch]:
    """Both ends of Wilson's interval for a share v of m, with t of `df` degrees of freedom."""
    return _score(v, m, student_quantile(alpha / 2, df))


def _score(v, m, quantile):
    unbounded = ~jnp.isfinite(jnp.square(quantile) / m)
    low, high = wilson_ends(v, m, quantile)
    low, high = jnp.where(unbounded, 0, low), jnp.where(unbounded, 1, high)
    return low.astype(v.dtype), high.astype(v.dtype)


def skewed_score(v: Batch, sums: Moments, alpha: float) -> tuple[Batch, Batch]:
    """Both ends for a share v, as `score`, moved by the skewness."""
    return _skewed(v, sums.kish, sums.cubic, _degrees(sums), alpha)


def _skewed(v, m, cubic, df, alpha):
    sd = safe.sqrt(v * (1 - v) / m)
    skew = jnp.clip((1 - 2 * v) * cubic, -sd, sd)
    quantile = student_quantile(alpha / 2, df)
    moved = v - (jnp.square(quantile) - 1) / 6 * skew
    return _score(jnp.clip(moved, 0, 1), m, quantile)


def _binomial_lower(v, m, tail):
    """The tail quantile of Beta(mv, m−mv+1), at most v to the last bit; 0 where v = 0."""
    some = v > 0
    a, b = m * jnp.where(some, v, 0.5), m * (1 - v) + 1
    below = crossing(lambda x: betainc(a, b, x) - tail, jnp.zeros_like(v), jnp.ones_like(v))
    return jnp.where(some, jnp.minimum(below, v), 0)

"""Intervals for rewards in a known range; two need the largest importance weight as well.

`reward_range` (low, high) is a fact about the platform, never the smallest and largest reward
seen; `w_max` bounds the importance weight (`ess.population_max_weight`). Every interval lies
within the range, is the whole range where fewer than two rows carry weight, follows r ↦ c ± s r
exactly, and is equal-tailed. Rewards must respect the range; `diagnose` counts those that do
not.

| | exact for every n | needs | for |
|---|---|---|---|
| `hoeffding`, `empirical_bernstein` | yes | range, w_max, independent rows | V from mean(w (r−c)) |
| `ess_wilson`, `ess_wilson_skew`, `clopper_pearson` | no: ESS stands for n | range | `snips` |
| `cressie_read` | asymptotically, very good for few rows | range, w_max or ∞ | V from w and w r |
| `empirical_likelihood` | asymptotically | nothing | V from the ratio Σwr / Σw |

All but the proportions use only `log_weight` and `reward` of the estimate, as importance weights
and rewards, not its value: they bound V whichever estimator made it, and are not for
differences, whose `log_weight` is something else. `clopper_pearson` and `empirical_likelihood`
search for their ends: their gradients are not those of the limits.
"""

import dataclasses

import jax.numpy as jnp
from jax.scipy.special import betainc
from jaxtyping import Array, Float

from mopl_jax.estimators.ess import kish
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.intervals.ess_corrected import ess_exact
from mopl_jax.intervals.interval import Interval, supported
from mopl_jax.intervals.moments import Moments, moments_of
from mopl_jax.intervals.reward_range import Range, _range, within
from mopl_jax.numerics.roots import crossing
from mopl_jax.numerics.student import student_quantile


def _share(estimate, reward_range):
    """The value's place in the reward range, in [0, 1], as if it were a proportion."""
    low, high = _range(reward_range, estimate.value)
    value = jnp.where(jnp.isnan(estimate.value), low, estimate.value)
    return jnp.clip((value - low) / (high - low), 0, 1)


def _unshare(estimate, low, high, reward_range):
    least, most = _range(reward_range, estimate.value)
    return within(
        estimate, least + (most - least) * low, least + (most - least) * high, reward_range
    )


# Proportions, with an effective sample size for n.


def ess_wilson(
    estimate: Estimate, alpha: float, *, reward_range: Range = (0.0, 1.0), ess=kish
) -> Interval:
    """Wilson's score interval with m = ESS for n and t of the Satterthwaite degrees of freedom
    for z.

    (v + t²/2m ± t √(v(1−v)/m + t²/4m²)) / (1 + t²/m), v the value's place in the range. Right to
    first order for 0/1 rewards unrelated to the weights, wide for rewards inside the range
    (v(1−v) is the largest variance of mean v).
    """
    v, m = _share(estimate, reward_range), jnp.maximum(ess(estimate.log_weight), 1)
    df = jnp.where(supported(estimate), ess_exact.moments(estimate)[1], 1)
    low, high = score(v, m, df, alpha)
    return _unshare(estimate, low, high, reward_range)


def score(v: Float[Array, ""], m: Float[Array, ""], df: Float[Array, ""], alpha: float):
    """Both ends of Wilson's interval for a share v of m, with t of `df` degrees of freedom."""
    square = jnp.square(student_quantile(alpha / 2, df)) / m
    centre = (v + square / 2) / (1 + square)
    half = jnp.sqrt(square * v * (1 - v) + jnp.square(square) / 4) / (1 + square)
    unbounded = ~jnp.isfinite(square)
    ends = (jnp.where(unbounded, end, x) for end, x in ((0.0, centre - half), (1.0, centre + half)))
    return tuple(end.astype(v.dtype) for end in ends)


def ess_wilson_skew(
    estimate: Estimate, alpha: float, *, reward_range: Range = (0.0, 1.0)
) -> Interval:
    """`ess_wilson` that follows the skewness of 0/1 rewards: from v − (t²−1)/6 · κ in place of
    v, κ = (1−2v) Σp³/Σp².

    That is the Cornish–Fisher term of (v−V)/sd for v = Σp r with shares p of the weight that
    tell nothing of r: κ is its third cumulant over the second. For equal shares it is the term
    by which one-sided Wilson bounds are off (Cai, J. Stat. Plan. Inference 131, 2005). |κ| ≤
    √(v(1−v) Σp²), the sd: equal shares never have more, and where a few heavy rows do, the
    expansion fails. Both ends move towards the nearer end of the range, so that the interval is
    narrower than Wilson's, and neither end misses much more often than the other
    (`benchmarks/clicks.py`).
    """
    sums = moments_of(estimate)
    sums = dataclasses.replace(sums, df=jnp.where(supported(estimate), sums.df, 1))
    low, high = skewed_score(_share(estimate, reward_range), sums, alpha)
    return _unshare(estimate, low, high, reward_range)


def skewed_score(v: Float[Array, ""], sums: Moments, alpha: float):
    """Both ends for a share v, as `score`, moved by the skewness."""
    variance = v * (1 - v) * sums.sum_p2
    sd = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
    skew = jnp.clip((1 - 2 * v) * sums.cubic, -sd, sd)
    moved = v - (jnp.square(student_quantile(alpha / 2, sums.df)) - 1) / 6 * skew
    return score(jnp.clip(moved, 0, 1), sums.kish, sums.df, alpha)


def clopper_pearson(
    estimate: Estimate, alpha: float, *, reward_range: Range = (0.0, 1.0), ess=kish
) -> Interval:
    """The binomial interval for m v successes in m = ESS trials: α/2 quantiles of Beta(mv,
    m−mv+1), Beta(mv+1, m−mv).

    Clopper & Pearson (1934); exact for 0/1 rewards and equal weights, an approximation otherwise.
    """
    v, m = _share(estimate, reward_range), jnp.maximum(ess(estimate.log_weight), 1)
    low = _binomial_lower(v, m, alpha / 2)
    high = 1 - _binomial_lower(1 - v, m, alpha / 2)
    return _unshare(estimate, low, high, reward_range)


def _binomial_lower(v, m, tail):
    """The tail quantile of Beta(mv, m−mv+1); 0 where v = 0."""
    some = v > 0
    a, b = m * jnp.where(some, v, 0.5), m * (1 - v) + 1
    below = crossing(lambda x: betainc(a, b, x) - tail, jnp.zeros_like(v), jnp.ones_like(v))
    return jnp.where(some, below, 0)


# Empirical likelihood.

"""Intervals for rewards in a known range; two need the largest importance weight as well.

`reward_range` (low, high) is a fact about the platform, never the smallest and largest reward seen; `w_max` bounds the
importance weight (`ess.population_max_weight`). Every interval lies within the range, is the whole range where fewer
than two rows carry weight, follows r ↦ c ± s r exactly, and is equal-tailed. Rewards must respect the range; `diagnose`
counts those that do not.

| | exact for every n | needs | for |
|---|---|---|---|
| `hoeffding`, `empirical_bernstein` | yes | range, w_max, independent rows | V from mean(w (r−c)) |
| `ess_wilson`, `ess_wilson_skew`, `clopper_pearson` | no: ESS stands for n | range | `snips` |
| `cressie_read` | asymptotically, very good for few rows | range, w_max or ∞ | V from w and w r |
| `empirical_likelihood` | asymptotically | nothing | V from the ratio Σwr / Σw |

All but the proportions use only `log_weight` and `reward` of the estimate, as importance weights and rewards, not its
value: they bound V whichever estimator made it, and are not for differences, whose `log_weight` is something else.
`clopper_pearson` and `empirical_likelihood` search for their ends: their gradients are not those of the limits.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import betainc
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.estimators import Estimate, snips
from mopl_jax.estimators.ess import kish, normalise
from mopl_jax.intervals.ess_corrected import ess_exact
from mopl_jax.intervals.interval import Interval, supported
from mopl_jax.intervals.moments import Moments, moments
from mopl_jax.intervals.wald import influence_variance
from mopl_jax.numerics.student import student_quantile

Range = tuple[float, float]


def hoeffding(
    estimate: Estimate,
    alpha: float,
    *,
    w_max: ArrayLike,
    reward_range: Range = (0.0, 1.0),
    baseline: ArrayLike | None = None,
) -> Interval:
    """c + mean(w (r−c)) ± R √(log(2/α) / 2n), R the width of the range of w (r−c) (Hoeffding 1963).

    `baseline` c is the middle of the reward range unless given; 0 gives plain IPS.
    """
    terms, shortest, longest = weighted_terms(estimate, reward_range, w_max, baseline)
    half = (longest - shortest) * jnp.sqrt(jnp.log(2 / alpha) / (2 * terms.shape[0]))
    value = jnp.mean(terms)
    return within(estimate, value - half, value + half, reward_range)


def empirical_bernstein(
    estimate: Estimate,
    alpha: float,
    *,
    w_max: ArrayLike,
    reward_range: Range = (0.0, 1.0),
    baseline: ArrayLike | None = None,
) -> Interval:
    """As `hoeffding` with half-width √(2 s² log(4/α) / n) + 7 R log(4/α) / (3(n−1)), s² the sample variance of the terms.

    Maurer & Pontil (COLT 2009, arXiv 0907.3740, theorem 4), at α/2 for each end.
    """
    terms, shortest, longest = weighted_terms(estimate, reward_range, w_max, baseline)
    n, value, log_term = terms.shape[0], jnp.mean(terms), jnp.log(4 / alpha)
    variance = jnp.sum(jnp.square(terms - value)) / max(n - 1, 1)
    half = jnp.sqrt(2 * variance * log_term / n) + 7 * (longest - shortest) * log_term / (3 * max(n - 1, 1))
    return within(estimate, value - half, value + half, reward_range)


def weighted_terms(
    estimate: Estimate, reward_range: Range, w_max: ArrayLike, baseline: ArrayLike | None = None
) -> tuple[Float[Array, " n"], Float[Array, ""], Float[Array, ""]]:
    """c + w (r−c), (n,), independent with mean V for every fixed c because E w = 1; and the range they lie in."""
    low, high = _range(reward_range, estimate.value)
    heaviest = jnp.asarray(w_max, low.dtype)
    c = 0.5 * (low + high) if baseline is None else jnp.asarray(baseline, low.dtype)
    terms = c + jnp.exp(estimate.log_weight) * (estimate.reward - c)
    return terms, c + jnp.minimum(heaviest * (low - c), 0), c + jnp.maximum(heaviest * (high - c), 0)


def within(estimate: Estimate, low, high, reward_range: Range) -> Interval:
    """[low, high] cut to the reward range; the whole range where the estimate is unsupported or an end is unknown."""
    known = supported(estimate) & ~jnp.isnan(low) & ~jnp.isnan(high)
    least, most = _range(reward_range, estimate.value)
    return Interval(
        jnp.where(known, jnp.clip(low, least, most), least), jnp.where(known, jnp.clip(high, least, most), most)
    )


def _range(reward_range, like):
    """The ends; ValueError where they are numbers that are not in order: every bound would be a point."""
    low, high = reward_range
    if not isinstance(low, jax.Array) and not isinstance(high, jax.Array) and not low < high:
        raise ValueError(f"expected a reward_range (low, high) with low < high, got ({low:g}, {high:g})")
    return jnp.asarray(low, like.dtype), jnp.asarray(high, like.dtype)


def _share(estimate, reward_range):
    """The value's place in the reward range, in [0, 1], as if it were a proportion."""
    low, high = _range(reward_range, estimate.value)
    value = jnp.where(jnp.isnan(estimate.value), low, estimate.value)
    return jnp.clip((value - low) / (high - low), 0, 1)


def _unshare(estimate, low, high, reward_range):
    least, most = _range(reward_range, estimate.value)
    return within(estimate, least + (most - least) * low, least + (most - least) * high, reward_range)


# Proportions, with an effective sample size for n.


def ess_wilson(estimate: Estimate, alpha: float, *, reward_range: Range = (0.0, 1.0), ess=kish) -> Interval:
    """Wilson's score interval with m = ESS for n and t of the Satterthwaite degrees of freedom for z.

    (v + t²/2m ± t √(v(1−v)/m + t²/4m²)) / (1 + t²/m), v the value's place in the range. Right to first order for 0/1
    rewards unrelated to the weights, wide for rewards inside the range (v(1−v) is the largest variance of mean v).
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


def ess_wilson_skew(estimate: Estimate, alpha: float, *, reward_range: Range = (0.0, 1.0)) -> Interval:
    """`ess_wilson` that follows the skewness of 0/1 rewards: from v − (t²−1)/6 · κ in place of v, κ = (1−2v) Σp³/Σp².

    That is the Cornish–Fisher term of (v−V)/sd for v = Σp r with shares p of the weight that tell nothing of r: κ is its
    third cumulant over the second. For equal shares it is the term by which one-sided Wilson bounds are off (Cai, J.
    Stat. Plan. Inference 131, 2005). |κ| ≤ √(v(1−v) Σp²), the sd: equal shares never have more, and where a few heavy
    rows do, the expansion fails. Both ends move towards the nearer end of the range, so that the interval is narrower than
    Wilson's, and neither end misses much more often than the other (`benchmarks/clicks.py`).
    """
    sums = moments(estimate)
    sums = dataclasses.replace(sums, df=jnp.where(supported(estimate), sums.df, 1))
    low, high = skewed_score(_share(estimate, reward_range), sums, alpha)
    return _unshare(estimate, low, high, reward_range)


def skewed_score(v: Float[Array, ""], sums: Moments, alpha: float):
    """Both ends for a share v, as `score`, moved by the skewness."""
    variance = v * (1 - v) * sums.squared
    sd = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
    lean = jnp.clip((1 - 2 * v) * sums.cubic, -sd, sd)
    moved = v - (jnp.square(student_quantile(alpha / 2, sums.df)) - 1) / 6 * lean
    return score(jnp.clip(moved, 0, 1), sums.kish, sums.df, alpha)


def clopper_pearson(estimate: Estimate, alpha: float, *, reward_range: Range = (0.0, 1.0), ess=kish) -> Interval:
    """The binomial interval for m v successes in m = ESS trials: α/2 quantiles of Beta(mv, m−mv+1), Beta(mv+1, m−mv).

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


def crossing(function: Callable, low: Float[Array, ""], high: Float[Array, ""], steps: int | None = None):
    """Where an increasing function on [low, high] turns positive, by bisection down to rounding; carries no gradient."""
    steps = 2 + jnp.finfo(low.dtype).nmant if steps is None else steps

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        beyond = function(middle) > 0
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    low, high = lax.fori_loop(0, steps, halve, (lax.stop_gradient(low), lax.stop_gradient(high)))
    return 0.5 * (low + high)


# Empirical likelihood.


def cressie_read(
    estimate: Estimate,
    alpha: float,
    *,
    reward_range: Range = (0.0, 1.0),
    w_max: ArrayLike = math.inf,
    w_min: ArrayLike = 0.0,
) -> Interval:
    """The least and the largest Σ q w r over reweightings q of the rows with Σ q = 1 and Σ q w = 1, close to q = 1/n.

    Close in the Cressie–Read power −2 (Euclidean) distance, at t²_n. One row is added to the n seen: the extreme reward
    with the largest or the smallest weight that can occur, whichever is worse. In closed form a regression of w r on w,
    read off at w = 1, minus the spread of its residuals times what distance is left.
    Karampatziakis, Langford & Mineiro (NeurIPS 2020, arXiv 1906.03323). Assumptions: independent rows, bounded rewards;
    asymptotic in n. `w_max` = ∞ where weights are unbounded.
    """
    low, high = _range(reward_range, estimate.value)
    w = jnp.exp(estimate.log_weight)
    bounds = jnp.minimum(jnp.asarray(w_min, w.dtype), jnp.min(w)), jnp.maximum(jnp.asarray(w_max, w.dtype), jnp.max(w))
    budget = _distance_at_best(w, *bounds) + jnp.square(student_quantile(alpha / 2, jnp.asarray(w.size, w.dtype)))
    lower = _least_value(w, estimate.reward, low, bounds, budget)
    upper = -_least_value(w, -estimate.reward, -high, bounds, budget)
    return within(estimate, lower, upper, reward_range)


def _distance_at_best(w, w_min, w_max):
    """Σ((n+1)q − 1)² at the closest q with Σ q = Σ q w = 1, the extra weight on the side that the sample lacks."""
    n = w.shape[0]
    extra = jnp.where(jnp.mean(w) < 1, w_max, w_min)
    mean, spread = _with_extra_row(w, jnp.where(jnp.isfinite(extra), extra, 1))
    bounded = (n + 1) * jnp.square(1 - mean) * _safe_inverse(spread)
    return jnp.where(jnp.isfinite(extra), bounded, 1 + 1 / n)


def _least_value(w, reward, worst, bounds, budget):
    """The worse of the two extra rows; the worst reward where neither can be reconciled with Σ q w = 1."""
    w_min, w_max = bounds
    finite = _least_with_extra(w, reward, worst, jnp.where(jnp.isfinite(w_max), w_max, 1), budget)
    largest = jnp.where(jnp.isfinite(w_max), finite, _least_with_unbounded_extra(w, reward, worst, budget))
    least = jnp.minimum(largest, _least_with_extra(w, reward, worst, w_min, budget))
    return jnp.where(jnp.isfinite(least), jnp.maximum(least, worst), worst)


def _least_with_extra(w, reward, worst, extra, budget):
    n = w.shape[0]
    x = w * (reward - worst)  # the extra row's x is zero
    mean_w, var_w = _with_extra_row(w, extra)
    mean_x, var_x = _with_extra_row(x, jnp.zeros_like(extra))
    covariance = (jnp.sum(w * x)) / (n + 1) - mean_w * mean_x
    slope = covariance * _safe_inverse(var_w)
    fitted = mean_x + slope * (1 - mean_w)
    residual = jnp.maximum(var_x - slope * covariance, 0)
    left = budget / (n + 1) - jnp.square(1 - mean_w) * _safe_inverse(var_w)
    return _minus_spread(worst + fitted, residual, left)


def _least_with_unbounded_extra(w, reward, worst, budget):
    """The limit of an infinite extra weight with vanishing q: Σ q w = 1 no longer binds."""
    n = w.shape[0]
    x = w * (reward - worst)
    return _minus_spread(worst + jnp.mean(x), jnp.var(x) * (n / (n + 1)), budget / (n + 1) - 1 / n)


def _minus_spread(centre, square_spread, left):
    reachable = left >= 0
    return jnp.where(reachable, centre - jnp.sqrt(square_spread * jnp.where(reachable, left, 0)), jnp.inf)


def _with_extra_row(x, extra):
    """Mean and variance of n values and one extra."""
    mean = (jnp.sum(x) + extra) / (x.shape[0] + 1)
    return mean, (jnp.sum(jnp.square(x - mean)) + jnp.square(extra - mean)) / (x.shape[0] + 1)


def _safe_inverse(x):
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def empirical_likelihood(
    estimate: Estimate, alpha: float, *, df: float = math.inf, reward_range: Range = (-math.inf, math.inf)
) -> Interval:
    """The values v with −2 log R(v) ≤ t²: R(v) the largest Π n q with Σ q = 1 and Σ q w (r − v) = 0.

    Owen (1988) for the ratio Σqwr / Σqw that SNIPS is; t² = χ²₁ where `df` is inf, Student's t² otherwise. No centring,
    no variance estimate: the ends follow the skewness of the rows, and stay among the rewards seen, which is too
    narrow for few effective rows. Assumptions: independent rows, E w² < ∞. The whole line where rewards do not vary.
    """
    w = normalise(estimate.log_weight) * estimate.reward.shape[0]
    budget = jnp.square(student_quantile(alpha / 2, jnp.asarray(df, w.dtype)))
    centre = snips(estimate.log_weight, estimate.reward)
    lower, upper = (sign * _farthest_value(w, sign * centre.influence, budget) for sign in (-1, 1))
    known = influence_variance(centre) > 0
    low, high = (jnp.where(known, centre.value + end, jnp.nan) for end in (lower, upper))
    return within(estimate, low, high, reward_range)


def _farthest_value(w, residual, budget):
    """The largest shift v with −2 log R ≤ budget, between 0 and the largest residual of a row with weight.

    √(−2 log R) is nearly linear in v, so Newton's method from the normal interval's end needs few steps.
    """
    reach = jnp.max(jnp.where(w > 0, residual / jnp.where(w > 0, w, 1), 0))
    normal = jnp.sqrt(budget * jnp.sum(jnp.square(residual))) / w.shape[0]
    start = jnp.minimum(normal, 0.5 * reach)

    def room(v):
        statistic, slope = _statistic(w, residual - v * w)
        root = jnp.sqrt(statistic)
        return jnp.sqrt(budget) - root, -slope / jnp.where(root > 0, 2 * root, 1)

    return newton_in_bracket(room, start, jnp.zeros_like(reach), reach, steps=20)


def _statistic(w, g):
    """2 Σ log(1 + λg) at its maximum over λ, and its derivative by the shift; inf where 0 is outside the range of g."""
    least, most = jnp.min(g), jnp.max(g)
    inside = (least < 0) & (most > 0)
    slack = 1 - 1 / g.shape[0]  # no q exceeds one, so 1 + λg ≥ 1/n
    low, high = -slack * _safe_inverse(jnp.where(inside, most, 1)), slack * _safe_inverse(jnp.where(inside, -least, 1))
    multiplier = newton_in_bracket(lambda x: _dual_slope(g, x), jnp.zeros_like(low), low, high, steps=24)
    stretched = jnp.where(inside, multiplier * g, 0)
    slope = -2 * multiplier * jnp.sum(w / (1 + stretched))
    return jnp.where(inside, 2 * jnp.maximum(jnp.sum(jnp.log1p(stretched)), 0), jnp.inf), slope


def _dual_slope(g, multiplier):
    """Σ g/(1+λg), decreasing in λ, and its derivative."""
    shares = g / (1 + multiplier * g)
    return jnp.sum(shares), -jnp.sum(jnp.square(shares))


def newton_in_bracket(function: Callable, start, low, high, steps: int):
    """The root on [low, high] of a decreasing `function`, which gives (value, slope); carries no gradient.

    Newton's steps while they stay inside the bracket, which every value narrows; its middle where they do not.
    """

    def step(_, state):
        x, low, high = state
        value, slope = function(x)
        low, high = jnp.where(value > 0, x, low), jnp.where(value > 0, high, x)
        newton = x - value / jnp.where(slope < 0, slope, -1)
        inside = (newton >= low) & (newton <= high)
        return jnp.where(inside, newton, 0.5 * (low + high)), low, high

    return lax.fori_loop(0, steps, step, lax.stop_gradient((start, low, high)))[0]

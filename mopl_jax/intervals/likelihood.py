"""Empirical likelihood: intervals from reweightings of the rows that are close to equal weights."""

import math

import jax.numpy as jnp
from jaxtyping import ArrayLike

from mopl_jax.estimators.ess import normalise
from mopl_jax.estimators.estimate import Estimate, influence_variance, varies
from mopl_jax.estimators.importance import snips
from mopl_jax.intervals.interval import Interval
from mopl_jax.intervals.reward_range import Range, range_ends, within
from mopl_jax.numerics import safe
from mopl_jax.numerics.roots import newton_in_bracket
from mopl_jax.numerics.student import student_quantile


def cressie_read(
    estimate: Estimate,
    alpha: float,
    *,
    reward_range: Range = (0.0, 1.0),
    w_max: ArrayLike = math.inf,
    w_min: ArrayLike = 0.0,
) -> Interval:
    """The extremes of Σ q w r over reweightings q of the rows, Σ q = Σ q w = 1, near q = 1/n.

    Close in the Cressie–Read power −2 (Euclidean) distance, at t²_n. One row is added to the n
    seen: the extreme reward with the largest or the smallest weight that can occur, whichever is
    worse. In closed form a regression of w r on w, read off at w = 1, minus the spread of its
    residuals times what distance is left. Karampatziakis, Langford & Mineiro (NeurIPS 2020,
    arXiv 1906.03323). Assumptions: independent rows, bounded rewards; asymptotic in n. `w_max` =
    ∞ where weights are unbounded. The whole range where no more than rounding is between the ends:
    equal weights and rewards leave the regression nothing.
    """
    low, high = range_ends(reward_range, estimate.value)
    w = jnp.exp(estimate.log_weight)
    bounds = (
        jnp.minimum(jnp.asarray(w_min, w.dtype), jnp.min(w)),
        jnp.maximum(jnp.asarray(w_max, w.dtype), jnp.max(w)),
    )
    budget = _distance_at_best(w, *bounds) + jnp.square(
        student_quantile(alpha / 2, jnp.asarray(w.size, w.dtype))
    )
    lower = _least_value(w, estimate.reward, low, bounds, budget)
    upper = -_least_value(w, -estimate.reward, -high, bounds, budget)
    known = upper - lower > _rounding(w, high - low, budget)
    return within(estimate, jnp.where(known, lower, jnp.nan), upper, reward_range)


_ROUNDINGS = 16.0  # of a residual variance that is 0, as sums of rows make them


def _rounding(w, width, budget):
    """What both ends may be apart where residuals are 0 but for rounding; 0 where one has none."""
    width = jnp.where(jnp.isfinite(width), width, 0)
    square = _ROUNDINGS * jnp.finfo(w.dtype).eps * jnp.mean(jnp.square(w))
    return width * jnp.sqrt(square * budget / (w.shape[0] + 1))


def _distance_at_best(w, w_min, w_max):
    """Σ((n+1)q − 1)² at the closest q with Σ q = Σ q w = 1.

    The extra weight is on the side that the sample lacks.
    """
    n = w.shape[0]
    extra = jnp.where(jnp.mean(w) < 1, w_max, w_min)
    mean, spread = _with_extra_row(w, jnp.where(jnp.isfinite(extra), extra, 1))
    bounded = (n + 1) * jnp.square(1 - mean) * safe.reciprocal(spread)
    return jnp.where(jnp.isfinite(extra), bounded, 1 + 1 / n)


def _least_value(w, reward, worst, bounds, budget):
    """The worse of the two extra rows.

    The worst reward where neither can be reconciled with Σ q w = 1.
    """
    w_min, w_max = bounds
    finite = _least_with_extra(w, reward, worst, jnp.where(jnp.isfinite(w_max), w_max, 1), budget)
    largest = jnp.where(
        jnp.isfinite(w_max), finite, _least_with_unbounded_extra(w, reward, worst, budget)
    )
    least = jnp.minimum(largest, _least_with_extra(w, reward, worst, w_min, budget))
    return jnp.where(jnp.isfinite(least), jnp.maximum(least, worst), worst)


def _least_with_extra(w, reward, worst, extra, budget):
    n = w.shape[0]
    x = w * (reward - worst)  # the extra row's x is zero
    mean_w, var_w = _with_extra_row(w, extra)
    mean_x, var_x = _with_extra_row(x, jnp.zeros_like(extra))
    covariance = (jnp.sum(w * x)) / (n + 1) - mean_w * mean_x
    slope = covariance * safe.reciprocal(var_w)
    fitted = mean_x + slope * (1 - mean_w)
    residual = jnp.maximum(var_x - slope * covariance, 0)
    left = budget / (n + 1) - jnp.square(1 - mean_w) * safe.reciprocal(var_w)
    return _minus_spread(worst + fitted, residual, left)


def _least_with_unbounded_extra(w, reward, worst, budget):
    """The limit of an infinite extra weight with vanishing q: Σ q w = 1 no longer binds."""
    n = w.shape[0]
    x = w * (reward - worst)
    return _minus_spread(worst + jnp.mean(x), jnp.var(x) * (n / (n + 1)), budget / (n + 1) - 1 / n)


def _minus_spread(centre, square_spread, left):
    reachable = left >= 0
    return jnp.where(
        reachable, centre - jnp.sqrt(square_spread * jnp.where(reachable, left, 0)), jnp.inf
    )


def _with_extra_row(x, extra):
    """Mean and variance of n values and one extra."""
    mean = (jnp.sum(x) + extra) / (x.shape[0] + 1)
    return mean, (jnp.sum(jnp.square(x - mean)) + jnp.square(extra - mean)) / (x.shape[0] + 1)


def empirical_likelihood(
    estimate: Estimate,
    alpha: float,
    *,
    df: float = math.inf,
    reward_range: Range = (-math.inf, math.inf),
) -> Interval:
    """The values v with −2 log R(v) ≤ t², R(v) the largest Π n q with Σ q w (r − v) = 0, Σ q = 1.

    Owen (1988) for the ratio Σqwr / Σqw that SNIPS is; t² = χ²₁ where `df` is inf, Student's t²
    otherwise. No centring, no variance estimate: the ends follow the skewness of the rows, and
    stay among the rewards seen, which is too narrow for few effective rows. Assumptions:
    independent rows, E w² < ∞. The whole line where rewards do not vary.
    """
    w = normalise(estimate.log_weight) * estimate.reward.shape[0]
    budget = jnp.square(student_quantile(alpha / 2, jnp.asarray(df, w.dtype)))
    centre = snips(estimate.log_weight, estimate.reward)
    lower, upper = (sign * _farthest_value(w, sign * centre.influence, budget) for sign in (-1, 1))
    known = varies(influence_variance(centre), centre.value)
    low, high = (jnp.where(known, centre.value + end, jnp.nan) for end in (lower, upper))
    return within(estimate, low, high, reward_range)


def _farthest_value(w, residual, budget):
    """The largest shift v with −2 log R ≤ budget.

    It lies between 0 and the largest residual of a row with weight. √(−2 log R) is nearly linear in
    v, so Newton's method from the normal interval's end needs few steps.
    """
    reach = jnp.max(safe.divide(residual, w))
    normal = jnp.sqrt(budget * jnp.sum(jnp.square(residual))) / w.shape[0]
    start = jnp.minimum(normal, 0.5 * reach)

    def room(v):
        statistic, slope = _statistic(w, residual - v * w)
        root = jnp.sqrt(statistic)
        return jnp.sqrt(budget) - root, -slope / safe.positive(2 * root)

    return newton_in_bracket(room, start, jnp.zeros_like(reach), reach, steps=40)


def _statistic(w, g):
    """2 Σ log(1 + λg) at its maximum over λ, and its derivative by the shift.

    Inf where 0 is outside the range of g.
    """
    least, most = jnp.min(g), jnp.max(g)
    inside = (least < 0) & (most > 0)
    slack = 1 - 1 / g.shape[0]  # no q exceeds one, so 1 + λg ≥ 1/n
    low, high = (
        -slack * safe.reciprocal(jnp.where(inside, most, 1)),
        slack * safe.reciprocal(jnp.where(inside, -least, 1)),
    )
    multiplier = newton_in_bracket(
        lambda x: _dual_slope(g, x), jnp.zeros_like(low), low, high, steps=40
    )
    stretched = jnp.where(inside, multiplier * g, 0)
    slope = -2 * multiplier * jnp.sum(w / (1 + stretched))
    return jnp.where(inside, 2 * jnp.maximum(jnp.sum(jnp.log1p(stretched)), 0), jnp.inf), slope


def _dual_slope(g, multiplier):
    """Σ g/(1+λg), decreasing in λ, and its derivative."""
    shares = g / (1 + multiplier * g)
    return jnp.sum(shares), -jnp.sum(jnp.square(shares))

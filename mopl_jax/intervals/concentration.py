"""Bounds that use what is known of the importance weights before a row is seen.

No sample reveals rare heavy weights.

`reward_range` (low, high) is a fact about the platform. All are equal-tailed, hold for every n,
assume independent rows, read `log_weight` as log importance weights, and are the reward range
where fewer than two rows carry weight.

`cantelli` needs d₂ = E w² (`ess.population_d2`); `efron_stein` draws of the weights under the
logging policy; `log_smoothing` nothing, with rewards bounded below for a lower end, above for an
upper one.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.importance import snips
from mopl_jax.intervals.interval import Interval
from mopl_jax.intervals.reward_range import Range, weighted_terms, within
from mopl_jax.numerics import safe

_TYPICAL = 8  # simulated logs averaged for U, which may be any number chosen without the data


def cantelli(
    estimate: Estimate,
    alpha: float,
    *,
    d2: ArrayLike,
    reward_range: Range = (0.0, 1.0),
    baseline: ArrayLike | None = None,
) -> Interval:
    """c + mean(w (r−c)) ± B √((1−δ) d₂ / (δ n)), δ = α/2 for each end, B = sup |r−c|.

    Metelli et al. (POIS, NeurIPS 2018, theorem 4.1): Var(V̂) ≤ B² d₂ / n and Cantelli's
    inequality. `baseline` c is the middle of the range unless given; 0 gives plain IPS. Wide,
    but needs only two moments.
    """
    terms, shortest, longest = weighted_terms(estimate, reward_range, 1.0, baseline)
    c = jnp.asarray(
        0.5 * (reward_range[0] + reward_range[1]) if baseline is None else baseline, terms.dtype
    )
    bound = jnp.maximum(jnp.abs(longest - c), jnp.abs(shortest - c))
    value, delta = jnp.mean(terms), alpha / 2
    half = bound * jnp.sqrt((1 - delta) / delta * jnp.asarray(d2, value.dtype) / terms.shape[0])
    return within(estimate, value - half, value + half, reward_range)


def log_smoothing(
    estimate: Estimate,
    alpha: float,
    *,
    reward_range: Range = (0.0, math.inf),
    smoothing: float | None = None,
) -> Interval:
    """V ≥ (exp(mean log(1 + λ w r) − log(1/δ)/n) − 1) / λ for r ≥ 0, δ = α/2, whatever the weights.

    Markov's inequality for Π(1 + λ w r), whose mean is (1 + λV)ⁿ (Sakhi et al., NeurIPS 2024,
    arXiv 2405.14335). Applied to r − low for the lower end, and to high − r for the upper end
    where `reward_range` is bounded above. `smoothing` λ, in 1/(reward unit), must not depend on
    the data; 1/√n over the width of the range unless given.
    """
    low, high = reward_range
    if smoothing is None:
        width = high - low if math.isfinite(high - low) else 1.0
        smoothing = 1 / (width * math.sqrt(estimate.reward.shape[0]))
    above = (
        low + _smoothed(estimate, estimate.reward - low, alpha / 2, smoothing)
        if low > -math.inf
        else -math.inf
    )
    below = (
        high - _smoothed(estimate, high - estimate.reward, alpha / 2, smoothing)
        if high < math.inf
        else math.inf
    )
    dtype = estimate.value.dtype
    return within(estimate, jnp.asarray(above, dtype), jnp.asarray(below, dtype), reward_range)


def _smoothed(estimate, gain, delta, smoothing):
    """The lower bound for gains ≥ 0, in log space: w may overflow."""
    positive = gain > 0
    log_terms = jnp.where(
        positive, estimate.log_weight + jnp.log(smoothing * jnp.where(positive, gain, 1)), -jnp.inf
    )
    mean = jnp.mean(jnp.logaddexp(log_terms, 0.0))
    return jnp.expm1(mean + jnp.log(delta) / gain.shape[0]) / smoothing


def efron_stein(
    estimate: Estimate,
    alpha: float,
    *,
    draws: Float[Array, "m n"],
    reward_range: Range = (0.0, 1.0),
) -> Interval:
    """V ≥ B (V̂ − ε) for SNIPS and r in [0, 1], ε² = 2 (V + U)(log(1/δ) + ½ log(1 + V/U)).

    δ = α/2 for each end. Kuzborskij, Vernade, György & Szepesvári (AISTATS 2021, arXiv 2006.10460).
    V = Σₖ E[max(wₖ/Z, w′ₖ/Z⁽ᵏ⁾)² | w₁…wₖ], where the later weights are random, Z = Σw, w′ₖ a fresh
    weight and Z⁽ᵏ⁾ the sum with it in place of wₖ; U = E V. The maximum bounds what one row can
    move V̂ by, and replaces the paper's sum. B = min(1, 1/(n E[1/Z⁽⁻ᵏ⁾])) with row k left out pays
    for the bias. The upper end is the same for 1 − r. `draws`: log weights of m ≥ 2 simulated logs
    of n rows under the logging policy, for all three expectations, whose Monte-Carlo error is not
    accounted for. No gradients in `draws`.
    """
    low, high = reward_range
    w, fresh = jnp.exp(estimate.log_weight), jnp.exp(draws)
    spread = _conditional_spread(w, fresh)
    typical = jnp.mean(lax.map(lambda path: _conditional_spread(path, fresh), fresh[:_TYPICAL]))
    error = jnp.sqrt(
        2 * (spread + typical) * (jnp.log(2 / alpha) + 0.5 * jnp.log1p(spread / typical))
    )
    kept = _bias_factor(fresh)
    value = (snips(estimate.log_weight, estimate.reward).value - low) / (high - low)
    lower, upper = (
        low + (high - low) * end for end in (kept * (value - error), 1 - kept * (1 - value - error))
    )
    return within(estimate, lower, upper, reward_range)


def _conditional_spread(w, fresh):
    """Σₖ E[max(wₖ/Z, w′ₖ/Z⁽ᵏ⁾)² | w₁…wₖ].

    The rows after k, and w′ₖ, come from each simulated log in turn.
    """
    seen = jnp.cumsum(w)

    def along(path, other):
        later = jnp.flip(jnp.cumsum(jnp.flip(path))) - path
        total = seen + later
        swapped = total - w + other
        return jnp.sum(jnp.square(jnp.maximum(safe.divide(w, total), safe.divide(other, swapped))))

    return jnp.mean(lax.map(lambda paths: along(*paths), (fresh, jnp.roll(fresh, -1, axis=0))))


def _bias_factor(fresh):
    """min(1, 1/(n E[1/Z⁽⁻ᵏ⁾])), what the bias of SNIPS costs.

    E V̂ ≤ V · n E[1/Z⁽⁻ᵏ⁾], because wₖrₖ/Z ≤ wₖrₖ/Z⁽⁻ᵏ⁾ and these factors are independent.
    """
    left_out = jnp.sum(fresh, axis=1, keepdims=True) - fresh
    inverse = jnp.mean(1 / left_out)
    return jnp.minimum(1, 1 / (fresh.shape[1] * inverse))


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
    """As `hoeffding` with half-width √(2 s² log(4/α) / n) + 7 R log(4/α) / (3(n−1)).

    s² is the sample variance of the terms. Maurer & Pontil (COLT 2009, arXiv 0907.3740, theorem 4),
    at α/2 for each end.
    """
    terms, shortest, longest = weighted_terms(estimate, reward_range, w_max, baseline)
    n, value, log_term = terms.shape[0], jnp.mean(terms), jnp.log(4 / alpha)
    variance = jnp.sum(jnp.square(terms - value)) / max(n - 1, 1)
    half = jnp.sqrt(2 * variance * log_term / n) + 7 * (longest - shortest) * log_term / (
        3 * max(n - 1, 1)
    )
    return within(estimate, value - half, value + half, reward_range)

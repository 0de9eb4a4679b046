"""Confidence sequences: intervals that hold at every n at once.

A growing log may be looked at after each row. Each gives the interval after the last row. The
two exact ones take the rows in the order of their arrival, intersect what all earlier rows
already established, are equal-tailed, and need `reward_range` and `w_max` (see `concentration`);
their assumption is that each row's reward and weight have the same conditional mean given the
past, not independence, so the logging policy may have adapted. Both work on x = (w (r−c) −
least) / (most − least) in [0, 1]; `betting` searches for its ends and carries no gradient.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from mopl_jax.estimators.ess import supported
from mopl_jax.estimators.estimate import Estimate, influence_variance, varies
from mopl_jax.intervals.interval import Interval
from mopl_jax.intervals.reward_range import Range, weighted_terms, within
from mopl_jax.numerics.roots import crossing
from mopl_jax.numerics.shapes import PerRow


def asymptotic_cs(estimate: Estimate, alpha: float, *, tuned_at: int = 1000) -> Interval:
    """V̂ ± σ̂ √(2(nρ²+1)/(n²ρ²) · log(√(nρ²+1)/α)), σ̂² the variance of the influence terms.

    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (Annals of Statistics 2024, arXiv 2103.06476):
    the normal mixture sequence, asymptotically valid at all n together. ρ² = (log(log(e/α²)) − 2
    log α)/m makes it narrowest near m = `tuned_at`, which must be chosen before the data.
    Two-sided: for one side, use this at alpha, not `lower` at 2 alpha. Assumptions: as for
    `normal`, from the first look on.
    """
    n = float(estimate.influence.shape[0])  # whose square no 32-bit integer holds
    rho2 = (jnp.log(jnp.log(math.e / alpha**2)) - 2 * jnp.log(alpha)) / tuned_at
    spread = influence_variance(estimate) * n * n / max(n - 1, 1)
    grown = n * rho2 + 1
    half = jnp.sqrt(spread * 2 * grown / (n * n * rho2) * jnp.log(jnp.sqrt(grown) / alpha))
    known = supported(estimate) & varies(spread / n, estimate.value) & jnp.isfinite(half)
    lower = jnp.where(known, estimate.value - half, -jnp.inf)
    return Interval(lower, jnp.where(known, estimate.value + half, jnp.inf))


def empirical_bernstein_path(
    estimate: Estimate,
    alpha: float,
    *,
    w_max: ArrayLike,
    reward_range: Range = (0.0, 1.0),
    baseline: ArrayLike | None = None,
) -> Interval:
    """The sequence itself, limits (n,), before intersection: x̄_λ ± (log(2/α) + Σ v ψ(λ)) / Σ λ.

    Mapped back to rewards. Waudby-Smith & Ramdas (JRSS B 2024, arXiv 2010.09686, theorem 2): x̄_λ =
    Σλx/Σλ, v = 4(xᵢ − μ̂ᵢ₋₁)², ψ(λ) = (−log(1−λ) − λ)/4, λᵢ = min(½, √(2 log(2/α) / (σ̂²ᵢ₋₁ i
    log(1+i)))), all predictable.
    """
    x, least, most = _unit_terms(estimate, reward_range, w_max, baseline)
    mean, bet = _predictable(x, alpha)
    bet = jnp.minimum(bet, 0.5)
    cost = jnp.cumsum(jnp.square(x - mean) * (-jnp.log1p(-bet) - bet))
    total = jnp.cumsum(bet)
    centre, half = jnp.cumsum(bet * x) / total, (jnp.log(2 / alpha) + cost) / total
    return Interval(
        least + (most - least) * (centre - half), least + (most - least) * (centre + half)
    )


def empirical_bernstein_cs(
    estimate: Estimate,
    alpha: float,
    *,
    w_max: ArrayLike,
    reward_range: Range = (0.0, 1.0),
    baseline: ArrayLike | None = None,
) -> Interval:
    """The intersection of the intervals of `empirical_bernstein_path` up to the last row."""
    path = empirical_bernstein_path(
        estimate, alpha, w_max=w_max, reward_range=reward_range, baseline=baseline
    )
    return within(estimate, jnp.max(path.lower), jnp.min(path.upper), reward_range)


def betting(
    estimate: Estimate,
    alpha: float,
    *,
    w_max: ArrayLike,
    reward_range: Range = (0.0, 1.0),
    baseline: ArrayLike | None = None,
    horizon: int | None = None,
) -> Interval:
    """The means m against which no bet grew: both hedged capitals are below 1/α at every row.

    Capitals ½Π(1 + λ⁺(x−m)) and ½Π(1 − λ⁻(x−m)). Waudby-Smith & Ramdas (JRSS B 2024, arXiv
    2010.09686, theorem 3): λ⁺ = min(λ̇, ½/m), λ⁻ = min(λ̇, ½/(1−m)), λ̇ᵢ as in
    `empirical_bernstein_path`, or √(2 log(2/α) / (σ̂²ᵢ₋₁ N)) to be narrowest at row N = `horizon`.
    Each capital is monotone in m, so the limits are found by bisection. The narrowest exact
    interval here for bounded w r.
    """
    x, least, most = _unit_terms(estimate, reward_range, w_max, baseline)
    _, bet = _predictable(x, alpha, horizon)
    refute = jnp.log(2 / alpha)
    ends = jnp.zeros_like(least), jnp.ones_like(least)
    lower = crossing(lambda m: refute - _best_capital(x, bet, m), *ends)
    upper = 1 - crossing(lambda m: refute - _best_capital(1 - x, bet, m), *ends)
    lower, upper = (least + (most - least) * end for end in (lower, upper))
    return within(estimate, lower, upper, reward_range)


def _best_capital(x, bet, m):
    """Largest logarithm, over the rows, of the capital of bets that the mean exceeds m.

    Decreasing in m.
    """
    stake = jnp.minimum(bet, 0.5 / jnp.maximum(m, jnp.finfo(x.dtype).tiny))
    return jnp.max(jnp.cumsum(jnp.log1p(stake * (x - m))))


def _unit_terms(estimate, reward_range, w_max, baseline) -> tuple[PerRow, Array, Array]:
    terms, least, most = weighted_terms(estimate, reward_range, w_max, baseline)
    return jnp.clip((terms - least) / (most - least), 0, 1), least, most


def _predictable(x, alpha, horizon=None):
    """μ̂ and λ̇ for each row from the rows before it.

    Shrunk mean and variance, started at ½ and ¼.
    """
    row = jnp.arange(1, x.shape[0] + 1, dtype=x.dtype)
    mean = (0.5 + jnp.cumsum(x)) / (row + 1)
    variance = (0.25 + jnp.cumsum(jnp.square(x - mean))) / (row + 1)
    mean, variance = _delayed(mean, 0.5), _delayed(variance, 0.25)
    clock = row * jnp.log1p(row) if horizon is None else horizon
    return mean, jnp.sqrt(2 * jnp.log(2 / alpha) / (variance * clock))


def _delayed(path, start):
    return jnp.concatenate([jnp.full((1,), start, path.dtype), path[:-1]])

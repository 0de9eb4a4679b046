"""Effective sample sizes: how many samples from the target policy the weighted log is worth.

Contract: log importance weights (n,) -> (), invariant to a constant added to the log weights, in
[1, n] wherever a row has positive weight, n iff the weights are equal, and 0 iff no row has
positive weight. Population versions take the two policies.
"""

import math

import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float

from mopl_jax.estimators.divergence import (
    _diagonal,
    _gap_factor,
    population_d2,
    population_max_weight,
)
from mopl_jax.estimators.weight_totals import totals_of_weights
from mopl_jax.numerics import linalg, safe
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.uniform import Uniform


def normalise(log_weight: Float[Array, " n"]) -> Float[Array, " n"]:
    """Self-normalised importance weights p = w / Σw, (n,), summing to one.

    All zero where no row has positive weight. The largest log weight is subtracted first, so that
    shifts by ±700 cannot overflow.
    """
    return totals_of_weights(log_weight).share(log_weight)


# 1 − S₂ at or below this is one row: float32's rounding, in both precisions so that they agree
ONE_ROW = 64 * 2.0**-23


def spread_out(log_weight: Float[Array, " n"]) -> Bool[Array, ""]:
    """Whether at least two rows carry weight, to rounding."""
    return enough(totals_of_weights(log_weight).sum_p2)


def enough(sum_p2: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Whether S₂ = Σp² tells of at least two rows with weight: 0 < S₂ < 1 − `ONE_ROW`."""
    return (sum_p2 > 0) & (1 - sum_p2 > ONE_ROW)


def kish(log_weight: Float[Array, " n"]) -> Float[Array, ""]:
    """Kish's (ℓ2) effective sample size 1 / Σp² (Kish 1965)."""
    return safe.reciprocal(jnp.sum(jnp.square(normalise(log_weight))))


def max_weight(log_weight: Float[Array, " n"]) -> Float[Array, ""]:
    """The ℓ∞ effective sample size 1 / max p, the most cautious of the family."""
    return safe.reciprocal(jnp.max(normalise(log_weight)))


def perplexity(log_weight: Float[Array, " n"]) -> Float[Array, ""]:
    """exp of the entropy of the normalised weights, exp(−Σ p log p)."""
    p = normalise(log_weight)
    entropy = -jnp.sum(p * jnp.log(jnp.where(p > 0, p, 1)))
    return jnp.where(jnp.sum(p) > 0, jnp.exp(entropy), 0)


def renyi(log_weight: Float[Array, " n"], order: float) -> Float[Array, ""]:
    """The Rényi/Hill family (Σ p^order)^{1/(1−order)}, order ≠ 1; order 2 is Kish's, order → ∞ the
    max-weight one.
    """
    p = normalise(log_weight)
    power = jnp.sum(jnp.where(p > 0, jnp.where(p > 0, p, 1) ** order, 0))
    return jnp.where(power > 0, jnp.where(power > 0, power, 1) ** (1 / (1 - order)), 0)


def reward_aware(log_weight: Float[Array, " n"], residual: Float[Array, " n"]) -> Float[Array, ""]:
    """Σ p e² / Σ p² e²: Kish's size when the squared residuals e² (n,) and the weights are
    unrelated; 0 if all e are 0.
    """
    p = normalise(log_weight)
    heavy = jnp.sum(jnp.square(p * residual))
    return jnp.sum(p * jnp.square(residual)) * safe.reciprocal(heavy)


# Population versions: what the log is worth before it is drawn.


@population_d2.register
def _(logging: Gaussian, target: Gaussian):
    """|Σ₀| / √(|2Σ₀−Σπ||Σπ|) · exp(Δᵀ(2Σ₀−Σπ)⁻¹Δ), finite iff Σπ ≺ 2Σ₀."""
    gap = _gap_factor(2 * logging.covariance - target.covariance)
    z = linalg.scale_solve(gap, target.mean - logging.mean)
    log_ratio = 2 * linalg.log_determinant(logging.scale) - linalg.log_determinant(target.scale)
    d2 = jnp.exp(log_ratio - linalg.log_determinant(gap) + linalg.square(z))
    return jnp.where(jnp.isnan(d2), jnp.inf, d2)


@population_d2.register
def _(logging: Uniform, target: Gaussian):
    """Vol (4π)^{−d/2} |Σ|^{−1/2} P(N(μ, Σ/2) in the box): the curse of dimensionality of uniform
    logging in one line.
    """
    scale = _diagonal(target)
    upper, lower = (
        (edge - target.mean) / scale * math.sqrt(2) for edge in (logging.high, logging.low)
    )
    log_inside = jnp.log(norm.cdf(upper) - norm.cdf(lower))
    log_volume = jnp.log(logging.high - logging.low)
    return jnp.exp(jnp.sum(log_volume - 0.5 * math.log(4 * math.pi) - jnp.log(scale) + log_inside))


@population_max_weight.register
def _(logging: Gaussian, target: Gaussian):
    """√(|Σ₀|/|Σπ|) exp(½ Δᵀ(Σ₀−Σπ)⁻¹Δ), finite iff Σπ ≺ Σ₀ (equal policies have w = 1)."""
    delta = target.mean - logging.mean
    z = linalg.scale_solve(_gap_factor(logging.covariance - target.covariance), delta)
    log_ratio = linalg.log_determinant(logging.scale) - linalg.log_determinant(target.scale)
    w_max = jnp.exp(log_ratio + 0.5 * linalg.square(z))
    same = jnp.all(delta == 0) & jnp.all(logging.covariance == target.covariance)
    return jnp.where(same, 1, jnp.where(jnp.isnan(w_max), jnp.inf, w_max))


@population_max_weight.register
def _(logging: Uniform, target: Gaussian):
    """Vol times the largest target density in the box."""
    scale = _diagonal(target)
    nearest = jnp.clip(target.mean, logging.low, logging.high)
    return jnp.exp(
        Gaussian(target.mean, scale).log_density(nearest)
        + jnp.sum(jnp.log(logging.high - logging.low))
    )

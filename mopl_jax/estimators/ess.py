"""Effective sample sizes: how many samples from the target policy the weighted log is worth.

Contract: log importance weights (n,) -> (), invariant to a constant added to the log weights, in
[1, n] wherever a row has positive weight, n iff the weights are equal, and 0 iff no row has
positive weight. What they tend to, n / d₂, is in `divergence`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.weight_totals import totals_of_weights
from mopl_jax.numerics import safe
from mopl_jax.numerics.shapes import Floats, PerRow, Scalar, Truth


def normalise(log_weight: PerRow) -> PerRow:
    """Self-normalised importance weights p = w / Σw, (n,), summing to one.

    All zero where no row has positive weight. The largest log weight is subtracted first, so that
    shifts by ±700 cannot overflow.
    """
    return totals_of_weights(log_weight).share(log_weight)


# 1 − S₂ at or below this is one row: float32's rounding, in both precisions so that they agree
ONE_ROW = 64 * 2.0**-23


def spread_out(log_weight: PerRow) -> Truth:
    """Whether at least two rows carry weight, to rounding."""
    return enough(totals_of_weights(log_weight).sum_p2)


def enough(sum_p2: Floats) -> Bool[Array, "..."]:
    """Whether S₂ = Σp² tells of at least two rows with weight: 0 < S₂ < 1 − `ONE_ROW`."""
    return (sum_p2 > 0) & (1 - sum_p2 > ONE_ROW)


def kish(log_weight: PerRow) -> Scalar:
    """Kish's (ℓ2) effective sample size 1 / Σp² (Kish 1965)."""
    return safe.reciprocal(jnp.sum(jnp.square(normalise(log_weight))))


def max_weight(log_weight: PerRow) -> Scalar:
    """The ℓ∞ effective sample size 1 / max p, the most cautious of the family."""
    return safe.reciprocal(jnp.max(normalise(log_weight)))


def perplexity(log_weight: PerRow) -> Scalar:
    """exp of the entropy of the normalised weights, exp(−Σ p log p)."""
    p = normalise(log_weight)
    entropy = -jnp.sum(p * jnp.log(jnp.where(p > 0, p, 1)))
    return jnp.where(jnp.sum(p) > 0, jnp.exp(entropy), 0)


def renyi(log_weight: PerRow, order: float) -> Scalar:
    """The Rényi/Hill family (Σ p^order)^{1/(1−order)}, order ≠ 1; order 2 is Kish's, order → ∞ the
    max-weight one.
    """
    p = normalise(log_weight)
    power = jnp.sum(jnp.where(p > 0, jnp.where(p > 0, p, 1) ** order, 0))
    return jnp.where(power > 0, jnp.where(power > 0, power, 1) ** (1 / (1 - order)), 0)


def reward_aware(log_weight: PerRow, residual: PerRow) -> Scalar:
    """Σ p e² / Σ p² e²: Kish's size when the squared residuals e² (n,) and the weights are
    unrelated; 0 if all e are 0.
    """
    p = normalise(log_weight)
    heavy = jnp.sum(jnp.square(p * residual))
    return jnp.sum(p * jnp.square(residual)) * safe.reciprocal(heavy)


def supported(estimate: Estimate) -> Truth:
    """False where fewer than two rows carry weight (to rounding): then no variance can be
    estimated.

    Prevents the point interval of a log whose weight sits in one row, where residual and
    variance are both zero.
    """
    return spread_out(estimate.log_weight)

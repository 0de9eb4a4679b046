"""Effective sample sizes: how many samples from the target policy the weighted log is worth.

Contract: log importance weights (n,) -> (), invariant to a constant added to the log weights, in
[1, n] wherever a row has positive weight, n iff the weights are equal, and 0 iff no row has
positive weight. What they tend to, n / d₂, is in `divergence`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mopl_jax.numerics import safe
from mopl_jax.numerics.reduce import WHOLE, Rows


def normalise(log_weight: Float[Array, " n"], rows: Rows = WHOLE) -> Float[Array, " n"]:
    """Self-normalised importance weights p = w / Σw, (n,), summing to one; all zero where no row
    has positive weight.

    The largest log weight is subtracted first, so that shifts by ±700 cannot overflow.
    """
    top = rows.top(log_weight)
    w = jnp.exp(log_weight - jnp.where(jnp.isfinite(top), top, 0))
    total = rows.total(w)
    return safe.divide(w, total)


ONE_ROW = (
    64 * 2.0**-23
)  # 1 − S₂ at or below this is one row: float32's rounding, in both precisions so that they agree


def spread_out(log_weight: Float[Array, " n"], rows: Rows = WHOLE) -> Bool[Array, ""]:
    """Whether at least two rows carry weight, to rounding."""
    return enough(rows.total(jnp.square(normalise(log_weight, rows))))


def enough(squared: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Whether S₂ = Σp² tells of at least two rows with weight: 0 < S₂ < 1 − `ONE_ROW`."""
    return (squared > 0) & (1 - squared > ONE_ROW)


def kish(log_weight: Float[Array, " n"]) -> Float[Array, ""]:
    """Kish's (ℓ2) effective sample size 1 / Σp² (Kish 1965)."""
    return safe.reciprocal(jnp.sum(jnp.square(normalise(log_weight))))


def max_weight(log_weight: Float[Array, " n"]) -> Float[Array, ""]:
    """The ℓ∞ effective sample size 1 / max p, the most cautious of the family."""
    return safe.reciprocal(jnp.max(normalise(log_weight)))


def perplexity(log_weight: Float[Array, " n"]) -> Float[Array, ""]:
    """exp of the entropy of the normalised weights, exp(−Σ p log p)."""
    p = normalise(log_weight)
    entropy = -jnp.sum(p * jnp.log(safe.positive(p)))
    return jnp.where(jnp.sum(p) > 0, jnp.exp(entropy), 0)


def renyi(log_weight: Float[Array, " n"], order: float) -> Float[Array, ""]:
    """The Rényi/Hill family (Σ p^order)^{1/(1−order)}, order ≠ 1; order 2 is Kish's, order → ∞ the
    max-weight one.
    """
    p = normalise(log_weight)
    power = jnp.sum(jnp.where(p > 0, safe.positive(p) ** order, 0))
    return jnp.where(power > 0, safe.positive(power) ** (1 / (1 - order)), 0)


def reward_aware(log_weight: Float[Array, " n"], residual: Float[Array, " n"]) -> Float[Array, ""]:
    """Σ p e² / Σ p² e²: Kish's size when the squared residuals e² (n,) and the weights are
    unrelated; 0 if all e are 0.
    """
    p = normalise(log_weight)
    heavy = jnp.sum(jnp.square(p * residual))
    return jnp.sum(p * jnp.square(residual)) * safe.reciprocal(heavy)

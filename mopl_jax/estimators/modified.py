"""Modified importance weights: log weights in, log weights out, composed with any estimator.

`ips(clipped(log_weight, bound=10.0), reward)` has less variance than `ips`, for bias; the
interval of the result covers the modified value, which is not V.
"""

import jax.numpy as jnp
from jaxtyping import ArrayLike

from mopl_jax.numerics import safe
from mopl_jax.numerics.shapes import PerRow


def clipped(log_weight: PerRow, bound: ArrayLike) -> PerRow:
    """min(w, bound) (Ionides 2008); biased towards 0 for rewards ≥ 0."""
    return jnp.minimum(log_weight, jnp.log(jnp.asarray(bound, log_weight.dtype)))


def harmonic(log_weight: PerRow, mix: ArrayLike) -> PerRow:
    """w / ((1−λ) + λw) with λ = `mix` in [0, 1], bounded by 1/λ (Metelli et al., NeurIPS 2021).

    λ = 0 leaves w, 1 gives 1.
    """
    share = jnp.asarray(mix, log_weight.dtype)
    shrunk = log_weight - jnp.logaddexp(jnp.log1p(-share), jnp.log(share) + log_weight)
    return jnp.where(log_weight == -jnp.inf, log_weight, shrunk)


def log_smoothed(log_weight: PerRow, reward: PerRow, smoothing: ArrayLike) -> PerRow:
    """The weights with which IPS is mean(log(1 + λwr))/λ, λ = `smoothing`, for rewards ≥ 0.

    Sakhi et al., NeurIPS 2024, arXiv 2405.14335. log(1 + x)/x times w, x = λwr; rows without reward
    keep w.
    """
    reward = jnp.asarray(smoothing, reward.dtype) * reward
    log_reward = jnp.log(safe.positive(reward))
    damped = jnp.log(jnp.logaddexp(log_weight + log_reward, 0.0)) - log_reward
    return jnp.where((reward > 0) & (log_weight > -jnp.inf), damped, log_weight)

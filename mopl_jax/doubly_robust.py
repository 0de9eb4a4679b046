"""Doubly robust estimation with a quadratic reward model, whose value under a Gaussian target is known exactly.

Actions are whitened by the target, z = scale⁻¹(a − μ), so that the features 1, zᵢ, zᵢzⱼ have expectations 1, 0, δᵢⱼ: the
model's value q̂(μ) + ½ tr(HΣ) becomes its constant plus its square terms.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Float

from mopl_jax import _linalg
from mopl_jax.estimators import Estimate
from mopl_jax.policies import Gaussian


def doubly_robust(
    log_weight: Float[Array, " n"],
    reward: Float[Array, " n"],
    *,
    action: Float[Array, "n d"],
    target: Gaussian,
    folds: int = 5,
    ridge: float = 1e-3,
) -> Estimate:
    """mean(E_π q̂ + w (r − q̂(a))), each row's q̂ fitted on the other folds (row i is in fold i mod `folds`).

    Dudík, Langford & Li (ICML 2011); cross-fitting as Chernozhukov et al. (2018), which keeps the terms unbiased given
    q̂ for any reward. q̂ is ridge least squares on 1, a and a aᵀ; `ridge` is relative to each feature's mean square.
    A good model removes the variance that the actions explain: with a quadratic reward only that of the noise is left.
    """
    features = jax.vmap(functools.partial(quadratic_features, target))(action)
    fold = jnp.arange(reward.shape[0]) % folds
    coefficients = _fit_without_each_fold(features, reward, fold, folds, ridge)
    predicted = jnp.sum(features * coefficients[fold], axis=1)
    w, gap = jnp.exp(log_weight), reward - predicted
    terms = (coefficients @ expected_features(target, features.dtype))[fold] + w * gap
    value = jnp.mean(terms)
    return Estimate(value, terms - value, log_weight, jnp.mean(w) * gap, reward)


def quadratic_features(target: Gaussian, action: Float[Array, " d"]) -> Float[Array, " f"]:
    """1, z (d), zᵢzⱼ for i ≤ j (d(d+1)/2)."""
    z = _linalg.scale_solve(target.scale, action - target.mean)
    rows, columns = jnp.triu_indices(z.shape[0])
    return jnp.concatenate([jnp.ones(1, z.dtype), z, z[rows] * z[columns]])


def expected_features(target: Gaussian, dtype) -> Float[Array, " f"]:
    """Their expectation under the target: 1, 0, and 1 for squares, 0 for cross products."""
    d = target.mean.shape[0]
    rows, columns = jnp.triu_indices(d)
    return jnp.concatenate([jnp.ones(1, dtype), jnp.zeros(d, dtype), (rows == columns).astype(dtype)])


def _fit_without_each_fold(features, reward, fold, folds, ridge):
    """Coefficients (folds, f): normal equations of all rows minus those of the fold, for features of mean square one."""
    scale = jnp.sqrt(jnp.mean(jnp.square(features), axis=0))
    inverse = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1), 0)
    scaled, centre = features * inverse[None, :], jnp.mean(reward)
    size = features.shape[1]
    penalty = ridge * jnp.eye(size, dtype=features.dtype).at[0, 0].set(1e-6)  # the constant is hardly shrunk
    table = jnp.concatenate([scaled, (reward - centre)[:, None]], axis=1)

    def fit(k):
        kept = (fold != k).astype(features.dtype)
        products = jnp.matmul((scaled * kept[:, None]).T, table, precision="highest")
        gram = products[:, :size] + jnp.maximum(jnp.sum(kept), 1) * penalty
        return cho_solve(cho_factor(gram), products[:, size])

    return (lax.map(fit, jnp.arange(folds)) * inverse[None, :]).at[:, 0].add(centre)

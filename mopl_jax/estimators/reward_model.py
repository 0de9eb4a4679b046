"""Doubly robust estimation with a quadratic reward model, whose value under a Gaussian target is
known exactly.

Actions are whitened by the target, z = scale⁻¹(a − μ), so that the features 1, zᵢ, zᵢzⱼ have
expectations 1, 0, δᵢⱼ: the model's value q̂(μ) + ½ tr(HΣ) becomes its constant plus its square
terms.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.numerics import linalg, quadratic, safe
from mopl_jax.policies.gaussian import Gaussian


def doubly_robust(
    log_weight: Float[Array, " n"],
    reward: Float[Array, " n"],
    *,
    action: Float[Array, "n d"],
    target: Gaussian,
    folds: int = 5,
    ridge: float = 1e-3,
    fold: Int[Array, " n"] | None = None,
) -> Estimate:
    """mean(E_π q̂ + w (r − q̂(a))), each row's q̂ fitted on the other folds.

    Row i is in fold i mod `folds`, or in `fold[i]` (a user's rows belong in one).

    Dudík, Langford & Li (ICML 2011); cross-fitting as Chernozhukov et al. (2018), which keeps
    the terms unbiased given q̂ for any reward. q̂ is ridge least squares on 1, a and a aᵀ;
    `ridge` is relative to each feature's mean square. A good model removes the variance that the
    actions explain: with a quadratic reward only that of the noise is left.
    """
    features = jax.vmap(functools.partial(quadratic_features, target))(action)
    fold = jnp.arange(reward.shape[0]) % folds if fold is None else fold
    centre = jnp.mean(reward)
    coefficients = (
        fit_without_each_fold(products(features, reward - centre, fold, folds), ridge)
        .at[:, 0]
        .add(centre)
    )
    predicted = jnp.sum(features * coefficients[fold], axis=1)
    w, gap = jnp.exp(log_weight), reward - predicted
    terms = (coefficients @ expected_features(target, features.dtype))[fold] + w * gap
    value = jnp.mean(terms)
    return Estimate(value, terms - value, log_weight, jnp.mean(w) * gap, reward)


def quadratic_features(policy: Gaussian, action: Float[Array, " d"]) -> Float[Array, " f"]:
    """The features 1, z, zᵢzⱼ (i ≤ j) of one action in the units of the `policy`."""
    return quadratic.features(linalg.scale_solve(policy.scale, action - policy.mean))


def expected_features(target: Gaussian, dtype) -> Float[Array, " f"]:
    """Their expectation under the target: 1, 0, and 1 for squares, 0 for cross products."""
    d = target.mean.shape[0]
    return quadratic.expected_features(jnp.zeros(d, dtype), jnp.eye(d, dtype=dtype))


def products(
    features: Float[Array, "n f"], reward: Float[Array, " n"], fold: Int[Array, " n"], folds: int
) -> Float[Array, "folds f f+1"]:
    """`quadratic.products` of each fold: they add up over rows."""

    def of(k):
        return quadratic.products(features, reward, (fold == k).astype(features.dtype))

    return lax.map(of, jnp.arange(folds))


def fit_without_each_fold(
    of_folds: Float[Array, "folds f f+1"], ridge: float
) -> Float[Array, "folds f"]:
    """Ridge coefficients for each fold: products of all rows minus its own, with features scaled
    to a mean square of one.

    The first feature is the constant, which counts rows. Rewards should be centred.
    """
    size = of_folds.shape[1]
    total = jnp.sum(of_folds, axis=0)
    unit = safe.reciprocal(safe.sqrt(jnp.diagonal(total[:, :size]) / total[0, 0]))

    def fit(own):
        kept = unit[:, None] * (total - own)
        return unit * quadratic.ridge_solve(kept[:, :size] * unit[None, :], kept[:, size], ridge)

    return lax.map(fit, of_folds)

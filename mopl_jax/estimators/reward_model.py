"""Doubly robust estimation with a quadratic reward model, whose value under a Gaussian target is
known exactly.

Actions are whitened by the target, z = scale⁻¹(a − μ), so that the features 1, zᵢ, zᵢzⱼ have
expectations 1, 0, δᵢⱼ: the model's value q̂(μ) + ½ tr(HΣ) becomes its constant plus its square
terms.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.estimator import Columns, Estimator, Model, fold_of, in_memory
from mopl_jax.estimators.importance import ips
from mopl_jax.estimators.target_features import expected_features, quadratic_features
from mopl_jax.numerics import quadratic, safe
from mopl_jax.numerics.reduce import Monoid
from mopl_jax.numerics.shapes import PerRow, Scalar
from mopl_jax.policies.gaussian import Gaussian

FOLDS, RIDGE = 5, 1e-3  # the ridge is relative to each feature's mean square


def doubly_robust(
    log_weight: PerRow,
    reward: PerRow,
    *,
    action: Float[Array, "n d"],
    target: Gaussian,
    folds: int = FOLDS,
    ridge: float = RIDGE,
    fold: Int[Array, " n"] | None = None,
) -> Estimate:
    """mean(E_π q̂ + w (r − q̂(a))), each row's q̂ fitted on the other folds.

    Row i is in fold i mod `folds`, or in `fold[i]` mod `folds` (a user's rows belong in one).
    See `doubly_robust_of`.
    """
    columns = Columns(reward, (log_weight,), action, fold)
    return in_memory(doubly_robust_of(target, folds, ridge), columns)


def doubly_robust_of(target: Gaussian, folds: int = FOLDS, ridge: float = RIDGE) -> Estimator:
    """The doubly robust estimator of the value of `target`: IPS of what a reward model leaves.

    Dudík, Langford & Li (ICML 2011); cross-fitting as Chernozhukov et al. (2018), which keeps
    the terms unbiased given q̂ for any reward. q̂ is ridge least squares on 1, a and a aᵀ;
    `ridge` is relative to each feature's mean square. A good model removes the variance that the
    actions explain: with a quadratic reward only that of the noise is left. A user's rows are in
    one fold where the log knows its users.
    """

    def features_of(block):
        return jax.vmap(functools.partial(quadratic_features, target))(block.columns.action)

    def summarise(block, log_weight):
        features, reward = features_of(block), block.columns.reward
        kept = block.mask(jnp.ones_like(reward))
        of_folds = products(
            features * kept[:, None], (reward - reward[0]) * kept, fold_of(block, folds), folds
        )
        return Normal(reward[0], of_folds)

    def adjust(coefficients, block):
        fold, features = fold_of(block, folds), features_of(block)
        predicted = jnp.sum(features * coefficients[fold], axis=1)
        expected = coefficients @ expected_features(target, features.dtype)
        return block.columns.reward - predicted, expected[fold]

    model = Model(summarise, Monoid(_merge, _empty), functools.partial(_fit, ridge=ridge), adjust)
    return Estimator(ips.finish, ips.row, model)


class Normal(NamedTuple):
    """Normal equations of each fold, with rewards measured from `centre` ().

    `products` (folds, f, f+1): of the features with each other and with the reward
    """

    centre: Scalar
    products: Float[Array, "folds f f+1"]


def _merge(parts: Normal) -> Normal:
    """The normal equations of all parts, stacked: rewards are measured from the first centre."""
    centre, gap = parts.centre[0], parts.centre - parts.centre[0]
    moved = parts.products.at[..., -1].add(gap[:, None, None] * parts.products[..., 0])
    return Normal(centre, jnp.sum(moved, axis=0))


def _empty(part: Normal) -> Normal:
    return Normal(part.centre, jnp.zeros_like(part.products))


def _fit(normal: Normal, ridge: float) -> Float[Array, "folds f"]:
    """Coefficients for each fold, for rewards centred at their mean: the ridge shrinks to it."""
    total = jnp.sum(normal.products[:, 0], axis=0)
    mean = total[-1] / total[0]
    centred = normal.products.at[..., -1].add(-mean * normal.products[..., 0])
    return fit_without_each_fold(centred, ridge).at[:, 0].add(normal.centre + mean)


def products(
    features: Float[Array, "n f"], reward: PerRow, fold: Int[Array, " n"], folds: int
) -> Float[Array, "folds f f+1"]:
    """`quadratic.products` of each fold: they add up over rows."""

    def of(k):
        return quadratic.products(features, reward, (fold == k).astype(features.dtype))

    return lax.map(of, jnp.arange(folds, dtype=fold.dtype))


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

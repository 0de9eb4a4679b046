"""The quadratic model q(z) = c + bᵀz + ½ zᵀHz: its features, their sums over rows, and its fits.

What a fit needs of a set of rows is one matrix of products (f, f+1), f = 1 + d + d(d+1)/2, which
adds up over blocks, folds and devices. z is an action in the units of a distribution of actions,
scale⁻¹(a − mean): features then have a mean square of about one, which a ridge refers to.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mopl_jax.numerics import linalg, safe
from mopl_jax.numerics.shapes import Matrix, PerRow, Scalar, Vector

# Share of the ridge that falls on the constant: next to nothing, so that levels are not shrunk.
CONSTANT = 1e-6


def size(d: int) -> int:
    """f, the number of features of d weights."""
    return 1 + d + d * (d + 1) // 2


def features(z: Float[Array | np.ndarray, "*n d"]) -> Float[Array, "*n f"]:
    """1, zᵢ and zᵢzⱼ for i ≤ j, of JAX or NumPy arrays."""
    xp = z.__array_namespace__()
    rows, columns = np.triu_indices(z.shape[-1])
    return xp.concat([xp.ones_like(z[..., :1]), z, z[..., rows] * z[..., columns]], axis=-1)


SQUARED = 12  # weights up to which products of two of them are among the few features


def few_features(z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n f"]:
    """`features` of NumPy arrays; of more than `SQUARED` weights 1, zᵢ and zᵢ² alone."""
    if z.shape[1] <= SQUARED:
        return np.asarray(features(z))
    return np.concatenate([np.ones_like(z[:, :1]), z, np.square(z)], axis=1)


TOLD_BY = 2**12  # rows by which it is told whether numbers are a quadratic


def told_by(n: int) -> Int[np.ndarray, " m"]:
    """Up to `TOLD_BY` of n rows, from all over the log, which may be sorted."""
    return np.linspace(0, n - 1, min(TOLD_BY, n)).astype(int)


def left_over(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"]) -> float:
    """The share of the variance of `y` that a quadratic of `x` leaves in some rows; 1 of few.

    For densities: the logarithms of those of one normal policy are a quadratic of its draws.
    """
    some = told_by(len(x))
    x, y = x[some], y[some]
    if len(x) < 2 * size(x.shape[1]):
        return 1.0
    terms = np.asarray(features((x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-300)))
    rest = y - terms @ np.linalg.lstsq(terms, y, rcond=None)[0]
    return float(np.var(rest) / max(np.var(y), 1e-300))


def expected_features(mean: Vector, covariance: Matrix) -> Float[Array, " f"]:
    """E features(z) of a normal z: 1, mᵢ and mᵢmⱼ + Sᵢⱼ for i ≤ j."""
    d = mean.shape[0]
    return features(mean).at[1 + d :].add(covariance[np.triu_indices(d)])


def unpack(coefficients: Any, d: int) -> tuple[Any, Any, Any]:
    """c (), b (d,) and H (d, d) of `coefficients` β (f,), where Hᵢⱼ = βᵢⱼ and Hᵢᵢ = 2βᵢᵢ.

    Of JAX or NumPy arrays.
    """
    rows, columns = np.triu_indices(d)
    place = np.zeros((d, d), int)
    place[rows, columns] = place[columns, rows] = 1 + d + np.arange(rows.size)
    curvature = coefficients[place] * (1 + np.eye(d)).astype(coefficients.dtype)
    return coefficients[0], coefficients[1 : 1 + d], curvature


def products(features: Float[Array, "n f"], reward: PerRow, kept: PerRow) -> Float[Array, "f f+1"]:
    """FᵀF and Fᵀr over the rows, each as often as `kept` says; they add up over rows."""
    table = jnp.concatenate([features, reward[:, None]], axis=1)
    return jnp.matmul((features * kept[:, None]).T, table, precision="highest")


def ridge_solve(
    gram: Float[Array, "f f"], right: Float[Array, "f *k"], ridge: float
) -> Float[Array, "f *k"]:
    """(FᵀF + nΛ)⁻¹ `right` for the `gram` matrix FᵀF of n rows; Λ is diagonal, `ridge` and for the
    constant `CONSTANT` times that.

    Coefficients if `right` is Fᵀr. Rewards should be centred.
    """
    penalty = ridge * jnp.eye(gram.shape[0], dtype=gram.dtype).at[0, 0].set(CONSTANT)
    return linalg.solve_positive(gram + jnp.maximum(gram[0, 0], 1) * penalty, right)


def least_squares(
    features: Float[Array, "n f"], reward: PerRow
) -> tuple[Float[Array, " f"], Float[Array, " f"], Scalar]:
    """Coefficients, their standard errors and the residual standard deviation, without a ridge.

    Standard errors are inf where the features are dependent: the least eigenvalue of FᵀF, its
    diagonal scaled to n, is then lost in the rounding of the largest.
    """
    n, f = features.shape
    scale = safe.positive(jnp.sqrt(jnp.mean(jnp.square(features), axis=0)))
    scaled = features / scale[None]
    sums = products(scaled, reward, jnp.ones_like(reward))
    values, vectors = jnp.linalg.eigh(sums[:, :f])
    independent = values > 8 * f * jnp.finfo(values.dtype).eps * values[-1]
    inverse = safe.reciprocal(jnp.where(independent, values, 0))
    coefficients = vectors @ (inverse * (vectors.T @ sums[:, f]))
    noise = jnp.sqrt(jnp.sum(jnp.square(reward - scaled @ coefficients)) / (n - f))
    error = jnp.where(
        jnp.all(independent), noise * jnp.sqrt(jnp.square(vectors) @ inverse), jnp.inf
    )
    return coefficients / scale, error / scale, noise


def covariance_by_user(
    features: Float[Array, "n f"],
    residual: PerRow,
    cluster: Int[Array, " n"] | None = None,
    users: int = 0,
) -> Float[Array, "f f"]:
    """Covariance of the coefficients of `least_squares` where the rows of each of so many `users`
    depend on one another, each row by itself unless given: of sums of scores (Liang & Zeger,
    Biometrika 1986).
    """
    inverse, sums = jnp.linalg.pinv(features.T @ features), features * residual[:, None]
    units = len(residual) if cluster is None else users
    if cluster is not None:
        sums = jax.ops.segment_sum(sums, cluster, users)
    return inverse @ (sums.T @ sums) @ inverse * (units / max(units - 1, 1))

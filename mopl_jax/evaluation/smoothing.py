"""Smoothing a deterministic target: how much and in which directions, and what it does to the
value.

Little smoothing is faithful and leaves few effective rows, much has many and is another policy.
The curvature of the rewards about the target says what smoothing adds, and so how to share it
among directions and how much of it is worth its rows.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from mopl_jax.estimators import ess
from mopl_jax.intervals.interval import NamedInterval
from mopl_jax.logs import Logs, log_weights
from mopl_jax.numerics import linalg, quadratic, safe
from mopl_jax.numerics.quick_jit import quick_jit
from mopl_jax.numerics.shapes import Matrix, PerRow, Scalar, Vector
from mopl_jax.policies.gaussian import Gaussian

MATERIAL = 0.5  # of half the interval's width: a bias as large moves a nominal 95 % to 92 %
# Of 20, 40, 80 and 150 rows (users) a coefficient, of the curvature's size and of its signed part,
# and of shares that no direction's curvature is below, those of least error on the worlds that
# `benchmarks/bandwidth_worlds.py` names as chosen by.
NEAREST = 150
# Where rewards have hardly any noise, what so wide a surface leaves of them is its own misfit, as
# at a kink: neighbourhoods are halved while that takes a quarter of what is left, down to `FEWEST`.
MISFIT = 0.75  # of the variance about the surface: what is left of it where they are halved again
FEWEST = 8
FLAT = 0.2  # of the largest curvature: a direction without any is smoothed √6 times as far
ERRORS = 2.0  # standard errors of a curvature within which it is not told from none
CHOSEN = 2  # intervals of a chosen kernel are at alpha over this: its shape follows the noise
SIZES = np.geomspace(1.0, 0.01, 24)  # geometric means of deviations that are tried, of logged ones
WIDEST = 1.0  # logged deviations of any direction, with which few rows have all of the weight


class Smoothing(NamedTuple):
    """What was done to a deterministic target, so that it has a density.

    `bandwidth`: standard deviation of the Gaussian around each weight
    `selected`: whether the data chose it
    `bias`: what the smoothing adds to the value, by a quadratic surface of the rewards nearby; NaN
        where there are too few rows for one
    `bias_error`: its standard error
    `covariance`: (d, d) of that Gaussian, where the data chose it
    """

    bandwidth: tuple[float, ...]
    selected: bool
    bias: float
    bias_error: float
    covariance: tuple[tuple[float, ...], ...] | None = None

    def doubt(self, interval: NamedInterval) -> str | None:
        """Why an interval of the smoothed value does not speak of the weights themselves."""
        half = 0.5 * (interval.upper - interval.lower)
        if math.isnan(self.bias):
            return (
                "the value is of the smoothed policy; too few rows tell what smoothing adds to it"
            )
        if abs(self.bias) <= MATERIAL * half:
            return None
        return (
            f"smoothing adds about {self.bias:+.3g} ± {self.bias_error:.1g} to the value, as much"
            " as the interval allows for: it is of the smoothed policy, not of the weights; choose"
            " a smaller --bandwidth"
        )


class Bend(NamedTuple):
    """How rewards bend about some weights: a quadratic surface of the rows nearest to them.

    `unit` (d,): standard deviation of each logged weight, in which the others are
    `curvature` (d, d): second derivatives
    `covariance` (f, f): of the surface's coefficients, in the order of `quadratic.features`
    `noise`: variance of the rewards about the surface
    """

    unit: Vector
    curvature: Matrix
    covariance: Float[Array, "f f"]
    noise: Scalar

    @property
    def error(self) -> Scalar:
        """The standard error of a curvature: √(Σ var Hᵢⱼ / d)."""
        d = len(self.unit)
        rows, columns = np.triu_indices(d)
        each = jnp.diagonal(self.covariance)[1 + d :] * np.where(rows == columns, 4.0, 2.0)
        return jnp.sqrt(jnp.sum(each) / d)

    def added(self, covariance: Matrix) -> tuple[Scalar, Scalar]:
        """½ tr ΣH, what weights of covariance Σ (d, d) about these add to the value, and its
        standard error.
        """
        d = len(self.unit)
        each = covariance / (self.unit[:, None] * self.unit[None])
        share = jnp.zeros(quadratic.size(d), each.dtype).at[1 + d :].set(each[np.triu_indices(d)])
        error = jnp.sqrt(jnp.maximum(share @ self.covariance @ share, 0))
        unknown = jnp.isinf(self.covariance[0, 0])
        return 0.5 * jnp.sum(each * self.curvature), jnp.where(unknown, jnp.inf, error)


@quick_jit("users", "nearest")
def bend_about(
    action: Float[Array, "n d"],
    reward: PerRow,
    weights: Vector,
    rows: ArrayLike = 1.0,
    cluster: Int[Array, " n"] | None = None,
    users: int = 0,
    nearest: float = NEAREST,
) -> Bend:
    """By least squares on the `nearest` rows (users) a coefficient, the nearer ones more (Cleveland
    & Devlin 1988); on all alike where there are no more, and on half as many as long as what the
    surface leaves of the rewards is mostly its misfit. NaN below 3 rows a coefficient, an infinite
    error of weights that depend on one another.

    `rows` (n,): how many each row speaks for. `cluster` (n,): the user of each, 0 … `users` − 1,
    whose rows depend on one another.
    """
    n, d = action.shape
    f, units = quadratic.size(d), n if cluster is None else users
    spread = jnp.std(action, axis=0)
    unit = jnp.where(spread > 0, spread, 1)
    unknown = jnp.full((f, f), jnp.nan, reward.dtype)
    none = Bend(unit, unknown[:d, :d], unknown, unknown[0, 0])
    if n < 3 * f:
        return none
    z = (action - weights[None]) / unit[None]
    far = jnp.sum(jnp.square(z), axis=1)
    known = jnp.sqrt(jnp.broadcast_to(jnp.asarray(rows, reward.dtype), reward.shape))

    def about(share):
        near = safe.sqrt(1 - far / jnp.quantile(far, jnp.minimum(share, 1)))
        root = known * jnp.where(share < 1, near, 1)
        return _bend(unit, z, reward, root, cluster, users)

    def halve(now):
        wide, share, _ = now
        made = about(0.5 * share)
        less = jnp.isinf(wide.noise) | (made.noise < MISFIT * wide.noise)
        return jax.tree.map(lambda x, y: jnp.where(less, x, y), made, wide), 0.5 * share, less

    start = none._replace(noise=jnp.full_like(none.noise, jnp.inf))
    share = jnp.asarray(2 * min(nearest * f / units, 1.0), reward.dtype)
    last = min(FEWEST * f / units, 0.5) if math.isfinite(nearest) else 1.0

    def more(now):
        return now[2] & (0.5 * now[1] >= jnp.minimum(last, 0.5 * share))

    return jax.lax.while_loop(more, halve, (start, share, jnp.asarray(True)))[0]


def _bend(unit, z, reward, root, cluster, users) -> Bend:
    """By the rows at z (n, d), each weighed by the square of its `root`."""
    f, d = quadratic.size(z.shape[1]), z.shape[1]
    kept = jnp.square(root) / jnp.sum(jnp.square(root))
    features, left = root[:, None] * quadratic.features(z), root * (reward - kept @ reward)
    value, error, _ = quadratic.least_squares(features, left)
    residual = left - features @ value
    spare = 1 / jnp.maximum(1 - f * jnp.sum(jnp.square(kept)), 0.5)
    known = spare * quadratic.covariance_by_user(features, residual, cluster, users)
    noise = spare * jnp.sum(jnp.square(residual)) / jnp.sum(jnp.square(root))
    covariance = jnp.where(jnp.all(jnp.isfinite(error)), known, jnp.inf)
    return Bend(unit, quadratic.unpack(value, d)[2], covariance, noise)


@quick_jit()
def least_error(logs: Logs, weights: Vector, bend: Bend) -> Gaussian:
    """N(weights, Σ) of the least estimated error of its value as that of the `weights`: the square
    of ½ tr Σ|H|, the most that the curvature H may add, and the variance, that of the rewards about
    the surface over the effective rows (users).

    Σ has the axes of H, and variances in inverse proportion to |H| along them, as far as it is
    known: of its determinant it then adds least. That is the kernel metric of Lee et al. (KMIS,
    NeurIPS 2022, arXiv 2210.13373) where all curvatures have one sign; curvatures of two signs,
    which it lets cancel, are not known well enough. One of `SIZES` is chosen by trying them all.
    """
    size, axes = linalg.eigh(bend.curvature)
    size = jnp.abs(size)
    flat = safe.positive(size + FLAT * jnp.max(size) + ERRORS * bend.error)
    flat = jnp.where(jnp.isfinite(flat), flat, 1)  # of weights that depend on one another
    share = jnp.exp(jnp.mean(jnp.log(flat))) / flat
    to_weights = bend.unit[:, None] * axes

    def variances(h):
        return jnp.minimum(jnp.square(h) * share, WIDEST**2)

    def kernel(h):
        covariance = (to_weights * variances(h)[None]) @ to_weights.T
        return Gaussian(weights, linalg.cholesky(covariance))

    def error(h):
        p = ess.normalise(log_weights(kernel(h), logs))
        if logs.cluster is not None:
            p = jax.ops.segment_sum(p, logs.cluster, logs.num_clusters)
        noise = jnp.where(jnp.sum(p) > 0, bend.noise * jnp.sum(jnp.square(p)), jnp.inf)
        return jnp.square(0.5 * variances(h) @ size) + noise

    sizes = jnp.asarray(SIZES, weights.dtype)
    return kernel(sizes[jnp.argmin(jax.lax.map(error, sizes))])


def users_of(cluster: Any) -> tuple[Any, int]:
    """The users of rows, numbered without gaps, and how many they are; None and 0 for none."""
    if cluster is None:
        return None, 0
    names, own = np.unique(np.asarray(cluster), return_inverse=True)
    return jnp.asarray(own), len(names)

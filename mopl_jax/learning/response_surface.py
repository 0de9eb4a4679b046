"""The response surface: what a good analyst fits to a log of randomised weights (Box & Wilson
1951), a quadratic, with plane waves where a log speaks for them (`waves`).

Fitted once, in passes over blocks of rows, it serves three ends: it says which policies are worth
certifying, its expectation under a Gaussian is known exactly, and what it leaves of the rewards is
what doubly robust estimation has to weigh.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mopl_jax.numerics import linalg, quadratic
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.roots import crossing
from mopl_jax.numerics.shapes import Count, Matrix, PerRow, Scalar, Vector
from mopl_jax.policies.gaussian import Gaussian

# Rows whose features exist at once: 2 MiB of 250 in float64, which a cache holds.
BLOCK = 1024


@pytree_dataclass()
class Surface:
    """q(a) = φ(z)ᵀ coefficients with z = scale⁻¹(a − mean) of the `reference` policy.

    The features φ are 1, zᵢ and zᵢzⱼ (i ≤ j), and cos κᵀz and sin κᵀz of the `waves` κ: all of them
    have exact expectations under normal policies. `covariance` is that of the coefficients.
    """

    reference: Gaussian
    coefficients: Float[Array, " f"]
    covariance: Float[Array, "f f"]
    waves: Float[Array, "p d"]

    @property
    def quadratic(self) -> tuple[Scalar, Vector, Matrix]:
        """Constant, slope (d,) and curvature (d, d) of the part without waves."""
        d = self.waves.shape[1]
        return quadratic.unpack(self.coefficients[: quadratic.size(d)], d)

    def __call__(self, action: Vector) -> Scalar:
        """q(a) of one action."""
        return jnp.dot(self.features(action), self.coefficients, precision="highest")

    def features(self, action: Vector) -> Float[Array, " f"]:
        """φ of one action."""
        z = linalg.scale_solve(self.reference.scale, action - self.reference.mean)
        phase = self.waves @ z
        return jnp.concatenate([quadratic.features(z), jnp.cos(phase), jnp.sin(phase)])

    def expected_features(self, policy: Gaussian) -> Float[Array, " f"]:
        """E φ(a): E cos κᵀz = cos(κᵀm) exp(−½ κᵀSκ) for z ~ N(m, S)."""
        solve = functools.partial(linalg.scale_solve, self.reference.scale)
        mean = solve(policy.mean - self.reference.mean)
        dense = jnp.diag(policy.scale) if policy.scale.ndim == 1 else policy.scale
        factor = jax.vmap(solve, 1, 1)(dense)
        phase = self.waves @ mean
        damp = jnp.exp(-0.5 * jnp.sum(jnp.square(self.waves @ factor), axis=1))
        plain = quadratic.expected_features(mean, factor @ factor.T)
        return jnp.concatenate([plain, damp * jnp.cos(phase), damp * jnp.sin(phase)])

    def error(self, action: Vector) -> Scalar:
        """The standard error of q(a)."""
        return self._error(self.features(action))

    def known(self, policy: Gaussian) -> tuple[Scalar, Scalar]:
        """E q(a) under a Gaussian policy, and its standard error."""
        return self.expectation(policy), self._error(self.expected_features(policy))

    def _error(self, x):
        return jnp.sqrt(jnp.maximum(x @ self.covariance @ x, jnp.finfo(x.dtype).tiny))

    def expectation(self, policy: Gaussian) -> Scalar:
        """E q(a), exact for a Gaussian policy."""
        return jnp.dot(self.expected_features(policy), self.coefficients, precision="highest")

    def of_rows(self, action: Float[Array, "n d"]) -> PerRow:
        """q(a) of each action, in blocks of rows."""
        return lax.map(self, action, batch_size=BLOCK)


def moments_of(action: Float[Array, "n d"], kept: PerRow | None = None) -> Gaussian:
    """The Gaussian with the mean and covariance of the logged actions (n, d), n > d, each of which
    counts as often as `kept` says, once unless given: the logging policy as it was played.
    """
    kept = jnp.ones_like(action[:, 0]) if kept is None else kept
    size = jnp.sum(kept)
    mean = jnp.sum(action * kept[:, None], axis=0) / size
    centred = action - mean[None, :]
    covariance = jnp.matmul((centred * kept[:, None]).T, centred, precision="highest") / size
    return Gaussian(mean, linalg.cholesky(covariance))


def fit_surface(
    action: Float[Array, "n d"],
    reward: PerRow,
    reference: Gaussian,
    ridge: float = 1e-3,
    kept: PerRow | None = None,
) -> Surface:
    """The quadratic surface: ridge least squares of reward (n,) on 1, z and zzᵀ, each row as
    often as `kept` says, once unless given; `ridge` is relative to a feature's unit of mean square.

    Normal equations summed over blocks of rows: memory does not grow with n. The covariance is
    that of noise with one variance.
    """
    kept = jnp.ones_like(reward) if kept is None else kept
    n, d = jnp.sum(kept), action.shape[1]
    centre = jnp.sum(kept * reward) / n
    size = quadratic.size(d)
    empty = jnp.zeros((size, size), action.dtype)
    surface = Surface(reference, empty[0], empty, jnp.zeros((0, d), action.dtype))
    sums = products(surface, action, reward - centre, kept)
    gram, moment = sums[:, :-1], sums[:, -1]
    each = jnp.concatenate([moment[:, None], jnp.eye(size, dtype=gram.dtype)], axis=1)
    solved = quadratic.ridge_solve(gram, each, ridge)
    found, inverse = solved[:, 0], solved[:, 1:]
    square = jnp.sum(kept * jnp.square(reward - centre))
    left = square - 2 * (moment @ found) + found @ gram @ found
    covariance = jnp.maximum(left, 0) / jnp.maximum(n - size, 1) * inverse
    return dataclasses.replace(surface, coefficients=found.at[0].add(centre), covariance=covariance)


def products(
    surface: Surface,
    action: Float[Array, "n d"],
    reward: PerRow,
    kept: PerRow,
    first: Count | int | None = None,
) -> Float[Array, "f f+1"]:
    """`quadratic.products` of the surface's features at the `first` rows (at all of them, unless
    given), each as often as `kept` says, by blocks.
    """
    n = len(action)
    size = math.ceil(n / math.ceil(n / BLOCK))
    end = n if first is None else first

    def block(i):
        index = i * size + jnp.arange(size)
        row = jnp.minimum(index, n - 1)  # the last block is filled up with rows that do not count
        features = jax.vmap(surface.features)(action[row])
        return quadratic.products(features, reward[row], jnp.where(index < end, kept[row], 0))

    width = surface.coefficients.shape[0]
    start = jnp.zeros((width, width + 1), action.dtype)
    return lax.fori_loop(0, -(-end // size), lambda i, total: total + block(i), start)


def highest(surface: Surface, radius: float) -> Vector:
    """The action (d,) that maximises the surface where |z| ≤ `radius`: the trust-region
    subproblem, solved exactly.

    z = (λ − H)⁻¹b with the least λ ≥ 0, λ ≥ the largest eigenvalue of H, for which |z| ≤ radius
    (Moré & Sorensen 1983), by bisection; the hard case (b orthogonal to the steepest direction,
    probability zero) gives a shorter z.
    """
    _, slope, curvature = surface.quadratic
    value, vector = linalg.eigh(curvature)
    slope = vector.T @ slope
    floor = jnp.maximum(jnp.max(value), 0)
    tiny = jnp.finfo(slope.dtype).eps * (1 + jnp.max(jnp.abs(value)))

    def step(shift):
        return slope / (floor + tiny + shift - value)

    far = jnp.sqrt(jnp.sum(jnp.square(slope))) / radius
    shift = crossing(lambda x: radius**2 - jnp.sum(jnp.square(step(x))), jnp.zeros_like(far), far)
    inside = jnp.sum(jnp.square(step(0))) <= radius * radius
    z = vector @ step(jnp.where(inside, 0, shift))
    return surface.reference.mean + linalg.scale_times(surface.reference.scale, z)

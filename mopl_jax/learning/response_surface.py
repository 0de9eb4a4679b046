"""The quadratic response surface: what a good analyst fits to a log of randomised weights (Box &
Wilson 1951).

Fitted once, in one pass over blocks of rows, it serves three ends: its maximum is a start for
learning, its expectation under a Gaussian is known exactly, and what it leaves of the rewards is
what doubly robust estimation has to weigh.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from mopl_jax.numerics import linalg, quadratic
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.roots import crossing
from mopl_jax.numerics.shapes import Matrix, PerRow, Scalar, Vector
from mopl_jax.policies.gaussian import Gaussian

BLOCK = 8192  # rows whose d(d+3)/2 + 1 features exist at once: 2 MiB in float32 at d = 10


@pytree_dataclass()
class Surface:
    """q(a) = constant + slopeᵀz + ½ zᵀ curvature z with z = scale⁻¹(a − mean) of the `reference`
    policy.

    `covariance` (f, f) is that of the coefficients of the features 1, zᵢ, zᵢzⱼ (i ≤ j), if the
    noise has one variance.
    """

    reference: Gaussian
    constant: Scalar
    slope: Vector
    curvature: Matrix
    covariance: Float[Array, "f f"]

    def __call__(self, action: Vector) -> Scalar:
        """q(a) of one action."""
        z = linalg.scale_solve(self.reference.scale, action - self.reference.mean)
        bent = jnp.matmul(self.curvature, z, precision="highest")
        return self.constant + jnp.dot(self.slope + 0.5 * bent, z, precision="highest")

    def error(self, action: Vector) -> Scalar:
        """The standard error of q(a) where the reward is quadratic."""
        x = _features(self.reference, action)
        return jnp.sqrt(jnp.maximum(x @ self.covariance @ x, jnp.finfo(x.dtype).tiny))

    def expectation(self, policy: Gaussian) -> Scalar:
        """E q(a) = q(μ) + ½ tr(curvature L⁻¹ΣL⁻ᵀ), L the reference's scale: exact for a Gaussian
        policy.
        """
        dense = jnp.diag(policy.scale) if policy.scale.ndim == 1 else policy.scale
        whitened = jax.vmap(lambda column: linalg.scale_solve(self.reference.scale, column), 1, 1)(
            dense
        )
        return self(policy.mean) + 0.5 * jnp.sum(self.curvature * (whitened @ whitened.T))


def moments_of(action: Float[Array, "n d"]) -> Gaussian:
    """The Gaussian with the mean and covariance of the logged actions (n, d), n > d: the logging
    policy as it was played.
    """
    mean = jnp.mean(action, axis=0)
    centred = action - mean[None, :]
    covariance = jnp.matmul(centred.T, centred, precision="highest") / action.shape[0]
    return Gaussian(mean, linalg.cholesky(covariance))


def fit_surface(
    action: Float[Array, "n d"], reward: PerRow, reference: Gaussian, ridge: float = 1e-3
) -> Surface:
    """Ridge least squares of reward (n,) on 1, z and zzᵀ; `ridge` is relative to a feature's
    unit of mean square.

    Normal equations summed over blocks of rows: memory does not grow with n.
    """
    centre = jnp.mean(reward)
    sums = _products(reference, action, reward - centre)
    gram, moment = sums[:, :-1], sums[:, -1]
    each = jnp.concatenate([moment[:, None], jnp.eye(len(gram), dtype=gram.dtype)], axis=1)
    solved = quadratic.ridge_solve(gram, each, ridge)
    found, inverse = solved[:, 0], solved[:, 1:]
    left = jnp.sum(jnp.square(reward - centre)) - 2 * (moment @ found) + found @ gram @ found
    covariance = jnp.maximum(left, 0) / max(len(action) - len(gram), 1) * inverse
    constant, slope, curvature = quadratic.unpack(found, action.shape[1])
    return Surface(reference, centre + constant, slope, curvature, covariance)


def _products(reference, action, reward):
    """`quadratic.products` of all rows by blocks; rows that fill up the last block do not count."""
    n, d = action.shape
    blocks = math.ceil(n / BLOCK)
    size = math.ceil(n / blocks)

    def block(i):
        index = i * size + jnp.arange(size)
        row = jnp.minimum(index, n - 1)
        features = jax.vmap(functools.partial(_features, reference))(action[row])
        return quadratic.products(features, reward[row], (index < n).astype(action.dtype))

    width = quadratic.size(d)
    start = jnp.zeros((width, width + 1), action.dtype)
    return lax.fori_loop(0, blocks, lambda i, total: total + block(i), start)


def _features(reference, action):
    """The features 1, z, zᵢzⱼ of one action in the units of the reference."""
    return quadratic.features(linalg.scale_solve(reference.scale, action - reference.mean))


def lack_of_fit(
    surface: Surface,
    action: Float[Array, "n d"],
    reward: PerRow,
    direction: Vector,
    cluster: Int[Array, " n"] | None = None,
    num_clusters: int | None = None,
) -> Scalar:
    """Is the reward quadratic along a line? χ² with two degrees of freedom where it is, whatever
    the noise, and whatever the rows of one of `num_clusters` users have in common.

    Neyman's smooth test (1937) of what the surface, fitted on these rows, leaves of their
    rewards: its products with the third and fourth Hermite polynomial of the place along
    `direction` (d,), in the reference's units; both are made orthogonal to 1, t, t², and their
    covariance is estimated from the rows. The direction must come from other rows.
    """
    z = jax.vmap(lambda a: linalg.scale_solve(surface.reference.scale, a - surface.reference.mean))(
        action
    )
    length = jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(direction))), jnp.finfo(z.dtype).tiny)
    t = z @ (direction / length)
    low = jnp.stack([jnp.ones_like(t), t, (t**2 - 1) / math.sqrt(2)])
    high = jnp.stack([(t**3 - 3 * t) / math.sqrt(6), (t**4 - 6 * t**2 + 3) / math.sqrt(24)])
    multiply = functools.partial(jnp.matmul, precision="highest")
    high = high - multiply(
        linalg.solve_positive(multiply(low, low.T), multiply(low, high.T)).T, low
    )
    left = high * (reward - jax.vmap(surface)(action))[None, :]
    if cluster is not None:
        left = jax.vmap(lambda terms: jax.ops.segment_sum(terms, cluster, num_clusters))(left)
    covariance = multiply(left, left.T) + jnp.finfo(t.dtype).tiny * jnp.eye(2, dtype=t.dtype)
    total = jnp.sum(left, axis=1)
    return total @ linalg.solve_positive(covariance, total)


def cautious(
    surface: Surface,
    starts: Float[Array, "s d"],
    project: Callable[[Array], Array],
    pessimism: float = 1.0,
) -> Vector:
    """The action (d,) that maximises q − `pessimism` · error, by projected gradient from each
    start; the best of them.

    Where the reward is quadratic, caution shifts the maximum by H⁻¹ t∇error: the expected regret
    grows by a factor of about 1 + t²/(2d) over that of `highest`, and a maximum that is only
    extrapolation is not followed.
    """

    def height(action):
        return surface(action) - pessimism * surface.error(action)

    steepness = jnp.sum(jnp.abs(linalg.eigvalsh(surface.curvature))) + pessimism * surface.error(
        starts[0]
    )
    slope = jax.grad(height)

    def climb(start):
        return lax.fori_loop(0, 200, lambda _, a: project(a + slope(a) / steepness), project(start))

    found = jax.vmap(climb)(starts)
    return found[jnp.argmax(jax.vmap(height)(found))]


def highest(surface: Surface, radius: float) -> Vector:
    """The action (d,) that maximises the surface where |z| ≤ `radius`: the trust-region
    subproblem, solved exactly.

    z = (λ − H)⁻¹b with the least λ ≥ 0, λ ≥ the largest eigenvalue of H, for which |z| ≤ radius
    (Moré & Sorensen 1983), by bisection; the hard case (b orthogonal to the steepest direction,
    probability zero) gives a shorter z.
    """
    value, vector = linalg.eigh(surface.curvature)
    slope = vector.T @ surface.slope
    floor = jnp.maximum(jnp.max(value), 0)
    tiny = jnp.finfo(slope.dtype).eps * (1 + jnp.max(jnp.abs(value)))

    def step(shift):
        return slope / (floor + tiny + shift - value)

    far = jnp.sqrt(jnp.sum(jnp.square(slope))) / radius
    shift = crossing(lambda x: radius**2 - jnp.sum(jnp.square(step(x))), jnp.zeros_like(far), far)
    inside = jnp.sum(jnp.square(step(0))) <= radius * radius
    z = vector @ step(jnp.where(inside, 0, shift))
    return surface.reference.mean + linalg.scale_times(surface.reference.scale, z)


CREDIBLE = 0.05  # least p-value of a credible surface

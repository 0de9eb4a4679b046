"""Planning exploration before traffic is spent: what a log of n rows will be able to say, in
closed form.

The world of a plan: reward = slopeᵀa + noise of standard deviation `noise`; a logging policy π₀,
normal or uniform; a normal target π, and the production policy that it should beat. Everything
is differentiable, and exact for a linear mean reward up to the asymptotics of
self-normalisation, which need effective rows. A curved surface adds to the noise what it bends
over the logging policy. Where the logging policy cannot answer (weights of infinite variance)
variances are inf.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, ArrayLike, Float, Int

from mopl_jax.estimators.divergence import cut_to_box, product
from mopl_jax.numerics import quadratic
from mopl_jax.numerics.pytree import pytree_dataclass, stacked
from mopl_jax.numerics.shapes import Matrix, PerRow, Scalar, Vector
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.policy import Policy
from mopl_jax.policies.uniform import Uniform


def coverage_of_box(logging: Policy, target: Gaussian) -> Scalar:
    """The target's mass where π₀ can play: below 1, SNIPS estimates the target conditional on the
    box.
    """
    if isinstance(logging, Uniform):
        return jnp.prod(cut_to_box(logging, target)[0])
    return jnp.ones(())


# Precision.


def covariance(
    logging: Policy, a: Gaussian, b: Gaussian, slope: Vector, noise: ArrayLike
) -> Scalar:
    """n · asymptotic covariance of the SNIPS values of two policies on the same rows.

    E_π₀[w_a w_b (r−V_a)(r−V_b)] = size · (bᵀΣ̃b + bᵀ(μ̃−μ_a) bᵀ(μ̃−μ_b) + σ²) with b the slope
    and size, μ̃, Σ̃ of `product`.
    """
    both = product(logging, a, b)
    distances = slope @ (both.mean - both.mean_a) * (slope @ (both.mean - both.mean_b))
    return both.size * (slope @ both.covariance @ slope + distances + jnp.square(noise))


def variance(
    logging: Policy,
    target: Gaussian,
    slope: Vector,
    noise: ArrayLike,
    production: Gaussian | None = None,
) -> Scalar:
    """n · asymptotic variance of SNIPS for the target, or for target − production on the same
    rows (Δ-SNIPS).

    The two are normals of the same kind, both with a full covariance or both without.
    """
    if production is None:
        return covariance(logging, target, target, slope, noise)
    pairs = stacked((target, production, target)), stacked((target, production, production))
    alone, theirs, shared = jax.vmap(covariance, (None, 0, 0, None, None))(
        logging, *pairs, slope, noise
    )
    finite = jnp.isfinite(alone) & jnp.isfinite(theirs)
    return jnp.where(finite, alone + theirs - 2 * jnp.where(finite, shared, 0), jnp.inf)


def ess_share(logging: Policy, target: Gaussian) -> Scalar:
    """Population effective sample size over n, 1/d₂, for a target conditional on the box if there
    is one.
    """
    return 1 / product(logging, target, target).size


def power(gain: ArrayLike, standard_error: ArrayLike, alpha: float) -> Scalar:
    """Probability that a gain's one-sided lower bound at level 1 − α exceeds 0: Φ(gain/SE −
    z_α).
    """
    return norm.cdf(jnp.asarray(gain) / standard_error + ndtri(alpha))


def rows_needed(gain: ArrayLike, variance: ArrayLike, alpha: float, power: float) -> Scalar:
    """n = (z_α + z_power)² · `variance` / gain², `variance` being n times that of the estimated
    gain.
    """
    z = jnp.asarray(ndtri(power) - ndtri(alpha))
    return jnp.square(z) * variance / jnp.square(gain)


# Cost.


def exploration_cost(curvature: Matrix, covariance: Matrix) -> Scalar:
    """½ tr(CΣ₀): expected loss of a decision while exploring around the current weights, in
    North Star units.

    On f(a) = f(a₀) + gᵀ(a−a₀) − ½(a−a₀)ᵀC(a−a₀) the slope averages out and the curvature does not.
    """
    return 0.5 * jnp.sum(curvature * covariance)


def certified_regret(
    n: ArrayLike, cost: ArrayLike, variance: ArrayLike, horizon: ArrayLike, alpha: float
) -> Scalar:
    """n · cost + horizon · z_α √(variance / n): loss while exploring, and afterwards by what the
    certificate holds back.

    The lower bound V̂ − z_α SE of the policy one hopes for falls short of its value by z_α SE on
    average, for each of the `horizon` decisions that follow; a policy with a larger lower bound
    is shipped only if it is certified to do better. So this bounds, in expectation, the loss
    against having known and shipped the target at once.
    """
    held_back = -ndtri(alpha) * jnp.sqrt(jnp.asarray(variance) / n)
    return jnp.asarray(n * cost + horizon * held_back)


def best_rows(cost: ArrayLike, variance: ArrayLike, horizon: ArrayLike, alpha: float) -> Scalar:
    """The n of least `certified_regret`, (horizon · z_α √variance / (2 cost))^⅔: the two losses are
    then as 1 to 2.
    """
    return (-ndtri(alpha) * jnp.sqrt(variance) * horizon / (2 * jnp.asarray(cost))) ** (2 / 3)


# The scale of exploration.


def densest_scale(d: int, length: ArrayLike, target_scale: ArrayLike) -> Scalar:
    """The scale s of normal logging N(a₀, s²I) with the most effective rows for the target N(a₀
    + step, h²I), |step| = ℓ.

    log d₂ = d log s² − d log h − (d/2) log(2s²−h²) + ℓ²/(2s²−h²) is stationary where 2d s⁴ −
    (3dh² + 2ℓ²) s² + dh⁴ = 0: s² = (B + √(B² − 8d²h⁴)) / 4d, B = 3dh² + 2ℓ². s = h without a
    step, s ≈ ℓ/√d for a long one.
    """
    h2 = jnp.square(target_scale)
    b = 3 * d * h2 + 2 * jnp.square(length)
    return jnp.sqrt((b + jnp.sqrt(jnp.square(b) - 8 * d**2 * jnp.square(h2))) / (4 * d))


def least(
    function: Callable[[Scalar], Scalar], low: ArrayLike, high: ArrayLike, points: int = 129
) -> Scalar:
    """Where a function of a positive number is least in [low, high]: a grid of ratios, then
    golden sections about its best.

    Values may be inf. The place has no gradient; by the envelope theorem the least value's
    gradient does not need it.
    """
    values = jax.vmap(lambda x: function(jnp.exp(x)))
    grid = jnp.linspace(jnp.log(low), jnp.log(high), points)
    best = jnp.argmin(values(grid))
    step, golden = (jnp.log(high) - jnp.log(low)) / (points - 1), (math.sqrt(5) - 1) / 2

    def shrink(_, ends):
        left, right = ends
        inner = jnp.stack([right - golden * (right - left), left + golden * (right - left)])
        first, second = values(inner)
        lower = first < second
        return jnp.where(lower, left, inner[0]), jnp.where(lower, inner[1], right)

    left, right = jax.lax.fori_loop(0, 50, shrink, (grid[best] - step, grid[best] + step))
    return jax.lax.stop_gradient(jnp.exp(0.5 * (left + right)))


# A pilot.


@pytree_dataclass()
class Surface:
    """What a pilot log tells of the surface at `centre`: slope (d,), noise, curvature C (d, d),
    with standard errors.

    `noise` is what slope and curvature leave unexplained. `inflation` is how many times larger the
    variances of the slope are than those of independent rows, where the pilot knows its users; else
    1. The curvature is NaN where the pilot has too few rows for it.
    """

    slope: Vector
    slope_se: Vector
    noise: Scalar
    curvature: Matrix
    curvature_se: Matrix
    inflation: ArrayLike = 1.0


def surface(
    action: Float[Array, "n d"],
    reward: PerRow,
    centre: Vector,
    cluster: Int[ArrayLike, " n"] | None = None,
) -> Surface:
    """Least squares of the reward on a − centre and its products; only on a − centre below 3
    rows a coefficient.

    ValueError if there are fewer than 3 rows a coefficient even so. Any logging policy will do,
    if it moved every weight. With users, standard errors are of sums of scores by user (Liang &
    Zeger, Biometrika 1986).
    """
    n, d = action.shape
    curved = n >= 3 * quadratic.size(d)
    if n < 3 * (1 + d):
        raise ValueError(
            f"--pilot: expected at least {3 * (1 + d)} rows for {d} weights, got {n}; log more"
        )
    features = quadratic.features(action - centre[None])
    kept = features if curved else features[:, : 1 + d]
    value, error, noise = quadratic.least_squares(kept, reward)
    inflation = jnp.ones(())
    if cluster is not None:
        users = int(jnp.max(cluster)) + 1
        left = reward - kept @ value
        covariance = quadratic.covariance_by_user(kept, left, jnp.asarray(cluster), users)
        by_user = jnp.sqrt(jnp.diagonal(covariance))
        inflation = jnp.maximum(jnp.mean(jnp.square(by_user / error)[1 : 1 + d]), 1)
        error = jnp.maximum(by_user, error)
    unknown = jnp.full(features.shape[1] - kept.shape[1], jnp.nan, features.dtype)
    (_, slope, bend), (_, slope_se, bend_se) = (
        quadratic.unpack(jnp.concatenate([known, unknown]), d) for known in (value, error)
    )
    return Surface(slope, slope_se, noise, -bend, bend_se, inflation)

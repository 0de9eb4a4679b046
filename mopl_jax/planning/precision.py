"""Planning exploration before traffic is spent: what a log of n rows will be able to say, in
closed form.

The world of a plan: reward = slopeᵀa + noise of standard deviation `noise`; a logging policy π₀,
normal or uniform; a normal target π, and the production policy that it should beat. Everything
is differentiable, and exact for a linear mean reward up to the asymptotics of
self-normalisation, which need effective rows. A curved surface adds to the noise what it bends
over the logging policy. Where the logging policy cannot answer (weights of infinite variance)
variances are inf.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.numerics import linalg
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.policy import Policy
from mopl_jax.policies.uniform import Uniform


@pytree_dataclass()
class Product:
    """π_a π_b / π₀ as `size` times a distribution with `mean` (d,) and `covariance` (d, d).

    π_a and π_b are conditional on the support of π₀, where they have `mean_a` and `mean_b`;
    `size` is d₂ if a = b.
    """

    size: Float[Array, ""]
    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]
    mean_a: Float[Array, " d"]
    mean_b: Float[Array, " d"]


@functools.singledispatch
def product(logging: Policy, a: Gaussian, b: Gaussian) -> Product:
    """E_π₀[w_a w_b g] = size · E[g] for every g: all that second moments of importance weighting
    need.
    """
    raise TypeError(f"expected a Gaussian or Uniform logging policy, got {type(logging).__name__}")


@product.register
def _product_on_gaussian(logging: Gaussian, a: Gaussian, b: Gaussian):
    """Precision Pₐ + P_b − P₀; size inf where it is not positive definite, as for Σπ ⪰ 2Σ₀."""
    independent = logging.scale.ndim == a.scale.ndim == b.scale.ndim == 1
    log_size, shift, spread = (_independent if independent else _correlated)(logging, a, b)
    diverges = jnp.isnan(log_size)
    centre = logging.mean + jnp.where(diverges, 0, shift)
    covariance = jnp.where(diverges, logging.covariance, spread)
    return Product(
        jnp.where(diverges, jnp.inf, jnp.exp(log_size)), centre, covariance, a.mean, b.mean
    )


def _correlated(logging, a, b):
    precisions = [jnp.linalg.inv(policy.covariance) for policy in (a, b, logging)]
    precision = precisions[0] + precisions[1] - precisions[2]
    factor = jnp.linalg.cholesky(precision)
    gaps = [policy.mean - logging.mean for policy in (a, b)]
    pull = precisions[0] @ gaps[0] + precisions[1] @ gaps[1]
    spread = jnp.linalg.inv(precision)
    energy = (
        gaps[0] @ precisions[0] @ gaps[0] + gaps[1] @ precisions[1] @ gaps[1] - pull @ spread @ pull
    )
    return (
        _log_scales(logging, a, b) - linalg.log_determinant(factor) - 0.5 * energy,
        spread @ pull,
        spread,
    )


def _independent(logging, a, b):
    """The same, entry by entry: what nearly every plan needs, and quick to compile."""
    precisions = [1 / jnp.square(policy.scale) for policy in (a, b, logging)]
    precision = precisions[0] + precisions[1] - precisions[2]
    precision = jnp.where(precision > 0, precision, jnp.nan)
    gaps = [policy.mean - logging.mean for policy in (a, b)]
    pull = precisions[0] * gaps[0] + precisions[1] * gaps[1]
    energy = (
        precisions[0] * jnp.square(gaps[0])
        + precisions[1] * jnp.square(gaps[1])
        - jnp.square(pull) / precision
    )
    log_size = _log_scales(logging, a, b) - 0.5 * jnp.sum(jnp.log(precision) + energy)
    return log_size, pull / precision, jnp.diag(1 / precision)


def _log_scales(logging, a, b):
    return sum(
        sign * linalg.log_determinant(policy.scale)
        for sign, policy in ((1, logging), (-1, a), (-1, b))
    )


@product.register
def _product_on_box(logging: Uniform, a: Gaussian, b: Gaussian):
    """Volume times a product of normals, both with independent entries, cut to the box."""
    (mass_a, mean_a, _), (mass_b, mean_b, _) = (_cut(logging, p.mean, _diagonal(p)) for p in (a, b))
    scales = jnp.square(_diagonal(a)), jnp.square(_diagonal(b))
    total = scales[0] + scales[1]
    centre = (a.mean * scales[1] + b.mean * scales[0]) / total
    mass, mean, variance = _cut(logging, centre, jnp.sqrt(scales[0] * scales[1] / total))
    overlap = norm.logpdf(a.mean - b.mean, 0, jnp.sqrt(total))
    log_size = jnp.sum(
        jnp.log(logging.high - logging.low) + overlap + jnp.log(mass / (mass_a * mass_b))
    )
    return Product(jnp.exp(log_size), mean, jnp.diag(variance), mean_a, mean_b)


def _cut(box, mean, scale):
    """Mass, mean and variance, each (d,), of independent normals cut to the box."""
    low, high = ((edge - mean) / scale for edge in (box.low, box.high))
    mass = norm.cdf(high) - norm.cdf(low)
    shift = (norm.pdf(low) - norm.pdf(high)) / mass
    bend = (low * norm.pdf(low) - high * norm.pdf(high)) / mass
    return mass, mean + scale * shift, jnp.square(scale) * (1 + bend - jnp.square(shift))


def _diagonal(policy):
    if policy.scale.ndim == 2:
        raise ValueError(
            "expected a diagonal target for uniform logging, got a full covariance; use"
            " Gaussian.diagonal"
        )
    return policy.scale


def coverage_of_box(logging: Policy, target: Gaussian) -> Float[Array, ""]:
    """The target's mass where π₀ can play: below 1, SNIPS estimates the target conditional on the
    box.
    """
    return (
        jnp.prod(_cut(logging, target.mean, _diagonal(target))[0])
        if isinstance(logging, Uniform)
        else jnp.ones(())
    )


# Precision.


def covariance(
    logging: Policy, a: Gaussian, b: Gaussian, slope: Float[Array, " d"], noise: ArrayLike
) -> Float[Array, ""]:
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
    slope: Float[Array, " d"],
    noise: ArrayLike,
    production: Gaussian | None = None,
) -> Float[Array, ""]:
    """n · asymptotic variance of SNIPS for the target, or for target − production on the same
    rows (Δ-SNIPS).

    The two are normals of the same kind, both with a full covariance or both without.
    """
    if production is None:
        return covariance(logging, target, target, slope, noise)
    pairs = (_stack(target, production, target), _stack(target, production, production))
    alone, theirs, shared = jax.vmap(covariance, (None, 0, 0, None, None))(
        logging, *pairs, slope, noise
    )
    finite = jnp.isfinite(alone) & jnp.isfinite(theirs)
    return jnp.where(finite, alone + theirs - 2 * jnp.where(finite, shared, 0), jnp.inf)


def _stack(*policies):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *policies)


def ess_share(logging: Policy, target: Gaussian) -> Float[Array, ""]:
    """Population effective sample size over n, 1/d₂, for a target conditional on the box if there
    is one.
    """
    return 1 / product(logging, target, target).size


def power(gain: ArrayLike, standard_error: ArrayLike, alpha: float) -> Float[Array, ""]:
    """Probability that a gain's one-sided lower bound at level 1 − α exceeds 0: Φ(gain/SE −
    z_α).
    """
    return norm.cdf(jnp.asarray(gain) / standard_error + ndtri(alpha))


def rows_needed(
    gain: ArrayLike, variance: ArrayLike, alpha: float, power: float
) -> Float[Array, ""]:
    """n = (z_α + z_power)² · `variance` / gain², `variance` being n times that of the estimated
    gain.
    """
    z = jnp.asarray(ndtri(power) - ndtri(alpha))
    return jnp.square(z) * variance / jnp.square(gain)


# Cost.


def exploration_cost(
    curvature: Float[Array, "d d"], covariance: Float[Array, "d d"]
) -> Float[Array, ""]:
    """½ tr(CΣ₀): expected loss of a decision while exploring around the current weights, in
    North Star units.

    On f(a) = f(a₀) + gᵀ(a−a₀) − ½(a−a₀)ᵀC(a−a₀) the slope averages out and the curvature does not.
    """
    return 0.5 * jnp.sum(curvature * covariance)


def certified_regret(
    n: ArrayLike, cost: ArrayLike, variance: ArrayLike, horizon: ArrayLike, alpha: float
) -> Float[Array, ""]:
    """n · cost + horizon · z_α √(variance / n): loss while exploring, and afterwards by what the
    certificate holds back.

    The lower bound V̂ − z_α SE of the policy one hopes for falls short of its value by z_α SE on
    average, for each of the `horizon` decisions that follow; a policy with a larger lower bound
    is shipped only if it is certified to do better. So this bounds, in expectation, the loss
    against having known and shipped the target at once.
    """
    held_back = -ndtri(alpha) * jnp.sqrt(jnp.asarray(variance) / n)
    return jnp.asarray(n * cost + horizon * held_back)


def best_rows(
    cost: ArrayLike, variance: ArrayLike, horizon: ArrayLike, alpha: float
) -> Float[Array, ""]:
    """The n of least `certified_regret`, (horizon · z_α √variance / (2 cost))^⅔: the two losses are
    then as 1 to 2.
    """
    return (-ndtri(alpha) * jnp.sqrt(variance) * horizon / (2 * jnp.asarray(cost))) ** (2 / 3)


# The scale of exploration.


def densest_scale(d: int, length: ArrayLike, target_scale: ArrayLike) -> Float[Array, ""]:
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
    function: Callable[[Float[Array, ""]], Float[Array, ""]],
    low: ArrayLike,
    high: ArrayLike,
    points: int = 129,
) -> Float[Array, ""]:
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

    `noise` is what slope and curvature leave unexplained. The curvature is NaN where the pilot
    has too few rows for it.
    """

    slope: Float[Array, " d"]
    slope_se: Float[Array, " d"]
    noise: Float[Array, ""]
    curvature: Float[Array, "d d"]
    curvature_se: Float[Array, "d d"]


def surface(
    action: Float[Array, "n d"], reward: Float[Array, " n"], centre: Float[Array, " d"]
) -> Surface:
    """Least squares of the reward on a − centre and its products; only on a − centre below 3
    rows a coefficient.

    ValueError if there are fewer than 3 rows a coefficient even so. Any logging policy will do,
    if it moved every weight.
    """
    n, d = action.shape
    rows, columns = jnp.triu_indices(d)
    curved = n >= 3 * (1 + d + rows.shape[0])
    if n < 3 * (1 + d):
        raise ValueError(
            f"expected at least {3 * (1 + d)} rows of pilot for {d} weights, got {n}; log more"
        )
    x = action - centre[None]
    products = x[:, rows] * x[:, columns] * jnp.where(rows == columns, 0.5, 1)[None]
    features = jnp.concatenate(
        [jnp.ones((n, 1), x.dtype), x] + ([products] if curved else []), axis=1
    )
    value, error, noise = _least_squares(features, reward)

    def matrix(entries):
        empty = jnp.full((d, d), jnp.nan, x.dtype)
        return (
            empty.at[rows, columns].set(entries).at[columns, rows].set(entries) if curved else empty
        )

    slope = slice(1, 1 + d)
    return Surface(
        value[slope], error[slope], noise, matrix(-value[1 + d :]), matrix(error[1 + d :])
    )


def _least_squares(features, reward):
    """Coefficients, their standard errors (inf where the features are dependent) and the residual
    standard deviation.
    """
    n, k = features.shape
    size = jnp.sqrt(jnp.mean(jnp.square(features), axis=0))
    scaled = features / jnp.where(size > 0, size, 1)[None]
    values, vectors = jnp.linalg.eigh(scaled.T @ scaled)
    independent = values > 8 * k * jnp.finfo(values.dtype).eps * values[-1]
    inverse = jnp.where(independent, 1 / jnp.where(independent, values, 1), 0)
    coefficients = vectors @ (inverse * (vectors.T @ (scaled.T @ reward)))
    noise = jnp.sqrt(jnp.sum(jnp.square(reward - scaled @ coefficients)) / (n - k))
    error = jnp.where(
        jnp.all(independent), noise * jnp.sqrt(jnp.square(vectors) @ inverse), jnp.inf
    )
    return coefficients / jnp.where(size > 0, size, 1), error / jnp.where(size > 0, size, 1), noise

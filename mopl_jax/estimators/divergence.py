"""What a log is worth before it is drawn: moments of importance weights in closed form.

Target policies are Gaussian; the logging policy π₀ is Gaussian or uniform on a box. Or all are
clipped at the same bounds, where weights are those of what is played. Moments
that diverge are inf. Compiled, each formula is one call; step by step it takes seconds to start.
"""

import functools

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from mopl_jax.numerics import linalg
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Matrix, Scalar, Vector
from mopl_jax.policies.bounded import ClippedNormal, pooled
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.policy import Policy
from mopl_jax.policies.uniform import Uniform


@pytree_dataclass()
class Product:
    """π_a π_b / π₀ as `size` times a distribution with `mean` and `covariance`.

    π_a and π_b are conditional on the support of π₀, where they have the means `mean_a` and
    `mean_b`; `size` is d₂ if a = b.
    """

    size: Scalar
    mean: Vector
    covariance: Matrix
    mean_a: Vector
    mean_b: Vector


@functools.singledispatch
def product(logging: Policy, a: Gaussian, b: Gaussian) -> Product:
    """E_π₀[w_a w_b g] = size · E[g] for every g: the second moments of importance weighting."""
    raise TypeError(f"expected a Gaussian or Uniform logging policy, got {type(logging).__name__}")


@product.register(Gaussian)
@jax.jit
def gaussian_product(logging: Gaussian, a: Gaussian, b: Gaussian) -> Product:
    """A normal with mean m + TG⁻¹δ and covariance ½(T + TG⁻¹T), if G is positive definite.

    π_a π_b is proportional to N(m, T/2) with m = (μ_a+μ_b)/2 − DM⁻¹ν and T = M − DM⁻¹D, where
    M = (Σ_a+Σ_b)/2, D = (Σ_a−Σ_b)/2, ν = (μ_a−μ_b)/2. Dividing by π₀ leaves G = 2Σ₀ − T and
    δ = m − μ₀: size = |Σ₀| / √(|M||G|) · exp(δᵀG⁻¹δ − νᵀM⁻¹ν), inf unless G ≻ 0. Nothing is
    lost in a difference where a = b: then T = M = Σ_a, and G ≻ 0 iff Σ_a ≺ 2Σ₀.
    """
    if logging.scale.ndim == a.scale.ndim == b.scale.ndim == 1:
        each, mean, variance = _independent(logging, a, b)
        log_size, covariance = jnp.sum(each), jnp.diag(variance)
    else:
        log_size, mean, covariance = _correlated(logging, a, b)
    diverges = jnp.isnan(log_size)
    return Product(
        jnp.where(diverges, jnp.inf, jnp.exp(log_size)),
        jnp.where(diverges, logging.mean, mean),
        jnp.where(diverges, logging.covariance, covariance),
        a.mean,
        b.mean,
    )


def _correlated(logging, a, b):
    """NaN where a matrix is not positive definite."""
    multiply = functools.partial(jnp.matmul, precision="highest")
    middle, apart = 0.5 * (a.covariance + b.covariance), 0.5 * (a.covariance - b.covariance)
    factor = jnp.linalg.cholesky(middle)
    bend = multiply(linalg.invert_lower(factor), apart)
    step = linalg.scale_solve(factor, 0.5 * (a.mean - b.mean))
    twice = middle - multiply(bend.T, bend)
    centre = 0.5 * (a.mean + b.mean) - multiply(bend.T, step)
    gap = jnp.linalg.cholesky(2 * logging.covariance - twice)
    pull = multiply(linalg.invert_lower(gap), twice)
    shift = linalg.scale_solve(gap, centre - logging.mean)
    log_scales = 2 * linalg.log_determinant(logging.scale) - linalg.log_determinant(factor)
    log_size = log_scales - linalg.log_determinant(gap) + linalg.square(shift) - linalg.square(step)
    covariance = 0.5 * (twice + multiply(pull.T, pull))
    return log_size, centre + multiply(pull.T, shift), covariance


def _independent(logging, a, b):
    """Log size, mean and variance of independent weights, each (d,): what nearly every plan needs,
    and quick to compile.
    """
    middle, twice, centre = _joint(a, b)
    gap = 2 * jnp.square(logging.scale) - twice
    gap = jnp.where(gap > 0, gap, jnp.nan)
    shift, step = centre - logging.mean, 0.5 * (a.mean - b.mean)
    log_size = (
        2 * jnp.log(logging.scale)
        - 0.5 * (jnp.log(middle) + jnp.log(gap))
        + (jnp.square(shift) / gap - jnp.square(step) / middle)
    )
    return log_size, centre + twice / gap * shift, 0.5 * twice * (1 + twice / gap)


def _joint(a, b):
    """M, T and m of `gaussian_product`, each (d,), for independent entries."""
    variance_a, variance_b = jnp.square(a.scale), jnp.square(b.scale)
    middle, apart = 0.5 * (variance_a + variance_b), 0.5 * (variance_a - variance_b)
    centre = 0.5 * (a.mean + b.mean) - apart / middle * (0.5 * (a.mean - b.mean))
    return middle, middle - apart * apart / middle, centre


@product.register(ClippedNormal)
@jax.jit
def clipped_product(logging: ClippedNormal, a: ClippedNormal, b: ClippedNormal) -> Product:
    """Of policies clipped at the same bounds, of the weights as they are played: at a bound the
    ratio of probabilities, P_a P_b / P₀, and between the bounds what `gaussian_product` is there.

    inf where that diverges without the bounds.
    """
    each, mean, variance = _independent(logging.normal, a.normal, b.normal)
    diverges = jnp.isnan(jnp.sum(each))
    each, mean = (jnp.where(diverges, x, y) for x, y in ((0, each), (logging.normal.mean, mean)))
    scale = jnp.where(diverges, logging.normal.scale, jnp.sqrt(jnp.where(diverges, 1, variance)))
    low, high = map(_at_bound, logging.log_atoms, a.log_atoms, b.log_atoms)
    sizes, mean, variance = pooled(
        Gaussian(mean, scale), each, (low, high), logging.low, logging.high
    )
    size = jnp.where(diverges, jnp.inf, jnp.exp(jnp.sum(sizes)))
    return Product(size, mean, jnp.diag(variance), a.mean, b.mean)


def _at_bound(logging, a, b):
    """log P_a P_b / P₀ of each weight, −inf where there is no bound."""
    known = jnp.isfinite(logging)
    logging, a, b = (jnp.where(known, x, 0) for x in (logging, a, b))
    return jnp.where(known, a + b - logging, -jnp.inf)


@product.register(Uniform)
@jax.jit
def box_product(logging: Uniform, a: Gaussian, b: Gaussian) -> Product:
    """The box's volume times a product of normals with independent entries, cut to the box."""
    (mass_a, mean_a, _), (mass_b, mean_b, _) = (cut_to_box(logging, policy) for policy in (a, b))
    log_size, mean, variance = _in_box(logging, a, b)
    log_masses = jnp.sum(jnp.log(mass_a * mass_b))
    return Product(jnp.exp(log_size - log_masses), mean, jnp.diag(variance), mean_a, mean_b)


@jax.jit
def _in_box(logging, a, b):
    """log E_π₀[w_a w_b], and mean and variance (d,) of what π_a π_b is in the box."""
    middle, twice, centre = _joint(a, b)
    mass, mean, variance = cut_to_box(logging, Gaussian(centre, jnp.sqrt(0.5 * twice)))
    overlap = norm.logpdf(a.mean - b.mean, 0, jnp.sqrt(2 * middle))
    log_volume = jnp.log(logging.high - logging.low)
    return jnp.sum(log_volume + overlap + jnp.log(mass)), mean, variance


def cut_to_box(box: Uniform, policy: Gaussian) -> tuple[Vector, Vector, Vector]:
    """Mass, mean and variance, each (d,), of a diagonal Gaussian `policy` cut to the `box`."""
    mean, scale = policy.mean, _diagonal(policy)
    low, high = ((edge - mean) / scale for edge in (box.low, box.high))
    mass = norm.cdf(high) - norm.cdf(low)
    shift = (norm.pdf(low) - norm.pdf(high)) / mass
    bend = (low * norm.pdf(low) - high * norm.pdf(high)) / mass
    return mass, mean + scale * shift, jnp.square(scale) * (1 + bend - jnp.square(shift))


def population_d2(logging: Policy, target: Gaussian) -> Scalar:
    """d₂ = E_π₀[w²], the second moment of the importance weight; population ESS is n / d₂.

    Gaussian logging, any covariance: |Σ₀| / √(|2Σ₀−Σ||Σ|) · exp(Δᵀ(2Σ₀−Σ)⁻¹Δ), Δ = μ − μ₀, and
    inf unless Σ ≺ 2Σ₀. A box, with a diagonal target: Vol (4π)^{−d/2} |Σ|^{−1/2} times the mass
    of N(μ, Σ/2) in the box, the curse of dimensionality of uniform logging in one line.
    """
    if isinstance(logging, Uniform):
        _diagonal(target)
        return jnp.exp(_in_box(logging, target, target)[0])
    return product(logging, target, target).size


@functools.singledispatch
def population_max_weight(logging: Policy, target: Gaussian) -> Scalar:
    """w_max = sup π/π₀, the largest importance weight that can occur; inf where there is none.

    Logging is Gaussian, or uniform with a diagonal target.
    """
    raise TypeError(f"expected a Gaussian or Uniform logging policy, got {type(logging).__name__}")


@population_max_weight.register(Gaussian)
@jax.jit
def gaussian_max_weight(logging: Gaussian, target: Gaussian) -> Scalar:
    """√(|Σ₀|/|Σπ|) exp(½ Δᵀ(Σ₀−Σπ)⁻¹Δ), finite iff Σπ ≺ Σ₀ (equal policies have w = 1)."""
    delta = target.mean - logging.mean
    gap = jnp.linalg.cholesky(logging.covariance - target.covariance)  # NaN where not definite
    z = linalg.scale_solve(gap, delta)
    log_ratio = linalg.log_determinant(logging.scale) - linalg.log_determinant(target.scale)
    w_max = jnp.exp(log_ratio + 0.5 * linalg.square(z))
    same = jnp.all(delta == 0) & jnp.all(logging.covariance == target.covariance)
    return jnp.where(same, 1, jnp.where(jnp.isnan(w_max), jnp.inf, w_max))


@population_max_weight.register(ClippedNormal)
@jax.jit
def clipped_max_weight(logging: ClippedNormal, target: ClippedNormal) -> Scalar:
    """The largest ratio at a bound, or where that of the densities is largest between them."""
    mine, theirs = target.normal, logging.normal
    gap = jnp.square(theirs.scale) - jnp.square(mine.scale)
    peak = (mine.mean * jnp.square(theirs.scale) - theirs.mean * jnp.square(mine.scale)) / gap
    peak = jnp.clip(jnp.where(gap > 0, peak, mine.mean), logging.low, logging.high)
    places = jnp.stack([peak, logging.low, logging.high])
    each = [norm.logpdf(places, x.mean[None], x.scale[None]) for x in (mine, theirs)]
    away = jnp.stack([jnp.zeros_like(gap), theirs.mean - mine.mean, mine.mean - theirs.mean])
    endless = (gap < 0)[None] | ((gap == 0)[None] & (away > 0))
    beyond = jnp.where(endless, jnp.inf, -jnp.inf)
    between = jnp.where(jnp.isfinite(places), each[0] - each[1], beyond)
    pairs = zip(logging.log_atoms, target.log_atoms, strict=True)
    atoms = [jnp.where(jnp.isfinite(p), q - p, -jnp.inf) for p, q in pairs]
    return jnp.exp(jnp.sum(jnp.max(jnp.concatenate([between, jnp.stack(atoms)]), axis=0)))


@population_max_weight.register(Uniform)
@jax.jit
def box_max_weight(logging: Uniform, target: Gaussian) -> Scalar:
    """The box's volume times the largest target density in the box."""
    diagonal = Gaussian(target.mean, _diagonal(target))
    nearest = jnp.clip(target.mean, logging.low, logging.high)
    log_volume = jnp.sum(jnp.log(logging.high - logging.low))
    return jnp.exp(diagonal.log_density(nearest) + log_volume)


def _diagonal(target):
    if target.scale.ndim == 2:
        raise ValueError(
            "expected a diagonal target for uniform logging, got a full covariance; use"
            " Gaussian.diagonal"
        )
    return target.scale

"""Exchange rates: what a unit of each signal's effect is worth in the North Star, β of
y = βᵀx + direct effect, from many weak tests.

All are one formula. With T = Σ n ΔΔᵀ / Σ n of the tests and their noise V = Σ n S / Σ n,

    β(κ) = (T − κV)ₓₓ⁻¹ (T − κV)ₓᵧ

is, for κ = 0, the regression of measured effects, which noise that the metrics share biases; for
κ = 1, total covariance; for κ the smallest eigenvalue of V⁻¹T, limited-information maximum
likelihood (LIML). Bibaut, Chou, Ejdemyr & Kallus, Learning the covariance of treatment effects
across many weak experiments (KDD 2024, arXiv 2402.17637). κ = 1 is the jackknife too: ΔΔᵀ − S is
the mean of xxᵀ over pairs of distinct users of the arms.

LIML is best where the signals carry all of the effect, and useless where they do not; the test of
direct effects, whose statistic is that eigenvalue, chooses.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import chi2
from jaxtyping import Array, Float

from mopl_jax.metrics.objectives import Allowed, History, Objective, PerDifference, Square, Weights
from mopl_jax.numerics import safe
from mopl_jax.numerics.shapes import Scalar

# Of the test that chooses, and Fuller's constant, by which estimates have moments however weak the
# tests: of 0.1, 0.15, 0.2, 0.5 and 4, 6, 8 the pair with the smallest worst ratio to the better of
# LIML and total covariance on random worlds (`python -m benchmarks exchange_rate`). A wrong choice
# of LIML costs without bound, one of total covariance little.
LEVEL, FULLER = 0.15, 6.0
SIGNIFICANT = 0.05  # of the test where it is told


class Moments(NamedTuple):
    """Second moments of measured effects and of their noise, the North Star first, then k signals.

    `total`, `noise`: T and V.
    `tests`: how many tests they come from.
    """

    total: Float[Array, "m m"]
    noise: Float[Array, "m m"]
    tests: Scalar


class Direct(NamedTuple):
    """A test that no treatment has an effect on the North Star beside those on the signals.

    `statistic`: Σ (γᵀΔ)²/(γᵀSγ) for γ = (1, −β), β by LIML: χ² without direct effects.
    `df`: its degrees of freedom, tests less signals.
    `p_value`: small where there are direct effects.
    """

    statistic: Scalar
    df: Scalar
    p_value: Scalar


def moments(history: History, include: PerDifference, allowed: Allowed) -> Moments:
    """T and V of tests weighed by their users, without A/A; what is not `allowed` has no part."""
    share = jnp.where(history.null, 0, include)
    weight = safe.divide(share * history.size, jnp.sum(share * history.size))
    total = jnp.einsum("e,ei,ej->ij", weight, history.effect, history.effect)
    noise = jnp.einsum("e,eij->ij", weight, history.covariance)
    kept = allowed.at[history.north_star].set(True)
    both = kept[:, None] & kept[None, :]
    # What has no part is a signal of its own with an effect far beyond noise.
    alone = jnp.diag(jnp.where(kept, 0.0, 1.0))
    return Moments(
        jnp.where(both, total, ALONE * alone), jnp.where(both, noise, alone), jnp.sum(share)
    )


ALONE = 1e6


def eigenvalues(total: Square, noise: Square) -> Float[Array, " m"]:
    """The eigenvalues of V⁻¹T, from the smallest: 1 in a direction of noise alone."""
    root = jnp.linalg.cholesky(noise)
    half = jnp.linalg.solve(root, total)
    return jnp.linalg.eigvalsh(jnp.linalg.solve(root, half.T))


def k_class(found: Moments, north_star: int, kappa: Scalar) -> Weights:
    """β(κ) in the places of the signals, 0 in that of the North Star."""
    left = found.total - kappa * found.noise
    signal = jnp.arange(left.shape[0]) != north_star
    both = signal[:, None] & signal[None, :]
    matrix = jnp.where(both, left, jnp.eye(left.shape[0], dtype=left.dtype))
    return jnp.linalg.solve(matrix, jnp.where(signal, left[:, north_star], 0))


def smallest(found: Moments, north_star: int) -> tuple[Scalar, Scalar]:
    """The smallest eigenvalue of V⁻¹T, and that of the signals alone, which is not below it."""
    signals = jnp.delete(jnp.arange(found.total.shape[0]), north_star, assume_unique_indices=True)
    inner = (x[signals][:, signals] for x in (found.total, found.noise))
    return eigenvalues(found.total, found.noise)[0], eigenvalues(*inner)[0]


def direct_effects(history: History, include: PerDifference, allowed: Allowed) -> Direct:
    """The test of direct effects (Sargan's, with noise that is known)."""
    found = moments(history, include, allowed)
    north = history.north_star
    beta = k_class(found, north, smallest(found, north)[0])
    return _direct(history, include, found.tests, beta)


@jax.jit
def p_value(history: History, allowed: Allowed) -> Scalar:
    """p-value of the test of direct effects, of all tests."""
    return direct_effects(history, jnp.ones_like(history.sign), allowed).p_value


def _direct(history, include, tests, beta):
    gamma = -beta.at[history.north_star].set(-1.0)
    z = jnp.square(history.effect @ gamma)
    noise = jnp.einsum("i,eij,j->e", gamma, history.covariance, gamma)
    share = jnp.where(history.null, 0, include)
    statistic = jnp.sum(share * safe.divide(z, noise))
    df = jnp.maximum(tests - jnp.sum((beta != 0).astype(beta.dtype)), 1.0)
    return Direct(statistic, df, chi2.sf(statistic, df))


# Objectives: contracts of `objectives`, for histories in its standard units.


def naive(history: History, include: PerDifference, allowed: Allowed) -> Weights:
    """κ = 0: the regression of measured effects on measured effects."""
    return _at(history, include, allowed, lambda least, inner, m: jnp.zeros(()))


def total_covariance(history: History, include: PerDifference, allowed: Allowed) -> Weights:
    """κ = 1: noise subtracted; right with direct effects as well, if they are no part of x."""
    return _at(history, include, allowed, lambda least, inner, m: jnp.ones(()))


def liml(history: History, include: PerDifference, allowed: Allowed) -> Weights:
    """κ the smallest eigenvalue: the least noise that makes effects lie in a plane."""
    return _at(history, include, allowed, lambda least, inner, m: least)


def falling(level: float = LEVEL) -> Callable[[Scalar], Scalar]:
    """1 where a p-value is `level` or more, and from there in proportion to it to 0."""
    return lambda p: jnp.minimum(1.0, p / level)


USUAL = falling()


def choosing(share: Callable[[Scalar], Scalar] = USUAL, fuller: float = FULLER) -> Objective:
    """LIML to the `share` that the p-value of the test of direct effects leaves it, and total
    covariance for the rest; no more of LIML than its eigenvalue is apart from the next, in standard
    errors √(2/e), as that is where LIML has no direction.

    Both with Fuller's constant: κ stays that over e below the eigenvalue at which β has no moments.
    """

    def objective(history: History, include: PerDifference, allowed: Allowed) -> Weights:
        found = moments(history, include, allowed)
        north, tests = history.north_star, jnp.maximum(found.tests, 1.0)
        least, inner = smallest(found, north)
        p_value = _direct(history, include, found.tests, k_class(found, north, least)).p_value
        apart = jnp.minimum(1.0, (inner - least) * jnp.sqrt(tests / 2))
        carried = apart * share(p_value)  # how far signals carry all the effect
        subtract = jnp.minimum(1.0, inner - fuller / tests)
        kappa = carried * (least - fuller / tests) + (1 - carried) * subtract
        return _kept(k_class(found, north, kappa), allowed, north)

    return objective


tested: Objective = choosing()


def cross_fold(history: History, include: PerDifference, allowed: Allowed) -> Weights:
    """β of products of effects among users that do not overlap, whose noise needs no subtracting.

    Of `History.halves`; nothing where no test has them.
    """
    if history.halves is None:
        return jnp.zeros_like(history.effect[0])
    known = ~jnp.isnan(history.halves).any(axis=(1, 2))
    first, second = jnp.moveaxis(jnp.where(known[:, None, None], history.halves, 0), 1, 0)
    weight = jnp.where(known & ~history.null, include, 0) * history.size
    product = jnp.einsum("e,ei,ej->ij", safe.divide(weight, jnp.sum(weight)), first, second)
    found = moments(history, include, allowed)
    kept = allowed.at[history.north_star].set(True)
    both = kept[:, None] & kept[None, :]
    total = jnp.where(both, (product + product.T) / 2, found.total)
    beta = k_class(found._replace(total=total), history.north_star, jnp.zeros(()))
    return _kept(beta, allowed, history.north_star)


def _at(history, include, allowed, kappa):
    found = moments(history, include, allowed)
    value = kappa(*smallest(found, history.north_star), found)
    return _kept(k_class(found, history.north_star, value), allowed, history.north_star)


def _kept(beta, allowed, north_star):
    signal = allowed & (jnp.arange(beta.shape[0]) != north_star)
    return jnp.where(signal & jnp.isfinite(beta).all(), beta, 0)


NAMED: dict[str, Objective] = {
    "total_covariance": total_covariance,
    "liml": liml,
    "tested": tested,
    "cross_fold": cross_fold,
}

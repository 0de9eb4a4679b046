"""Intervals whose variance, or degrees of freedom, know the effective sample size (MOPL, arXiv 2405.02141).

The published correction inflates the variance when ESS is low and fades as it grows; its formula is not public, so every
reading has a name. `ess` is Kish's (ℓ2) by default; `with_max_weight` puts the ℓ∞ one in its place. Formulas are for
SNIPS with normalised weights p, residuals e, S_k = Σpᵏ; `Estimate` makes them serve the other estimators. Each function
gives (variance, degrees of freedom); `Wald` makes it an interval.
"""

import functools

import jax.numpy as jnp

from mopl_jax.ess import kish, max_weight, normalise
from mopl_jax.estimators import Estimate
from mopl_jax.intervals.asymptotic import influence_variance
from mopl_jax.intervals.interval import Wald


@Wald
def ess_bessel(estimate: Estimate, ess=kish):
    """Bessel's correction with ESS for n: Σp²e² · ESS/(ESS−1), normal quantile. Fades, but under-corrects."""
    return _bessel(estimate, ess(estimate.log_weight)), jnp.inf


@Wald
def ess_rescaled(estimate: Estimate, ess=kish):
    """The sample variance of the influence over ESS: n Σp²e² / ESS. Does not fade: too wide by √(n/ESS) for ever."""
    n = estimate.influence.shape[0]
    return n * influence_variance(estimate) / jnp.maximum(ess(estimate.log_weight), 1), jnp.inf


@Wald
def ess_kish(estimate: Estimate, ess=kish):
    """The weighted variance of the rewards over ESS−1: Σpe²/(ESS−1). Right where e² and the weights are unrelated."""
    return _kish(estimate, ess(estimate.log_weight)), jnp.inf


@Wald
def ess_student(estimate: Estimate, ess=kish):
    """`ess_bessel` with the Student quantile of ESS−1 degrees of freedom."""
    size = _above_one(ess(estimate.log_weight))
    return _bessel(estimate, size), size - 1


@Wald
def ess_exact(estimate: Estimate):
    """Unbiased under the working model (constant mean and variance): Σp²e²/(1−2p+S₂), Satterthwaite's t.

    SNIPS is a weighted least-squares intercept with leverage p, and E e² = σ²(1−2p+S₂). Degrees of freedom as Bell &
    McCaffrey (2002). Equal weights give the textbook t interval exactly.
    """
    return _exact(estimate)


@Wald
def ess_safe(estimate: Estimate):
    """`ess_kish` with the degrees of freedom of `ess_exact`: wide where the heavy rows happen to fit."""
    return _kish(estimate, kish(estimate.log_weight)), _exact(estimate)[1]


def with_max_weight(interval: Wald) -> Wald:
    """The ℓ∞ version: 1 / max p as the effective sample size."""
    return Wald(functools.partial(interval.moments, ess=max_weight))


def _above_one(size):
    """ESS with the smallest excess over one that leaves ESS−1 meaningful; unsupported estimates are caught later."""
    return jnp.maximum(size, 1 + jnp.finfo(size.dtype).eps)


def _bessel(estimate, size):
    return influence_variance(estimate) * size / (_above_one(size) - 1)


def _kish(estimate, size):
    return jnp.sum(normalise(estimate.log_weight) * jnp.square(estimate.residual)) / (_above_one(size) - 1)


def _exact(estimate):
    """Variance and degrees of freedom in O(n): the quadratic form's trace and squared trace through power sums of p."""
    p = normalise(estimate.log_weight)
    s2 = jnp.sum(p * p)
    expected = jnp.square(1 - p) + (s2 - p * p)
    inverse = jnp.where(expected > 0, 1 / jnp.where(expected > 0, expected, 1), 0)
    variance = jnp.sum(jnp.square(estimate.influence / p.shape[0]) * inverse)
    g = p * p * inverse
    g0, g1, g2 = jnp.sum(g), jnp.sum(g * p), jnp.sum(g * p * p)
    diagonal = jnp.sum(g * g * (1 - 4 * p + 2 * s2))
    spread = s2 * s2 * g0 * g0 - 4 * s2 * g0 * g1 + 2 * g0 * g2 + 2 * g1 * g1 + diagonal
    return variance, s2 * s2 / jnp.where(spread > 0, spread, 1)

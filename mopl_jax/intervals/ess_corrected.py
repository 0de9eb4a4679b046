"""Intervals whose variance, or degrees of freedom, know the effective sample size (MOPL, arXiv 2405.02141).

The published correction inflates the variance when ESS is low and fades as it grows; its formula is not public, so every
reading has a name. `ess` is Kish's (ℓ2) by default; `with_max_weight` puts the ℓ∞ one in its place. Formulas are for
SNIPS with normalised weights p, residuals e, S_k = Σpᵏ; `Estimate` makes them serve the other estimators. Each formula
gives (variance, degrees of freedom); `Wald` makes it an interval.
"""

import functools
import operator

import jax.numpy as jnp

from mopl_jax.intervals.interval import Wald
from mopl_jax.intervals.moments import Moments

_kish, _max_weight = operator.attrgetter("kish"), operator.attrgetter("max_weight")


@Wald
def ess_bessel(sums: Moments, ess=_kish):
    """Bessel's correction with ESS for n: Σp²e² · ESS/(ESS−1), normal quantile. Fades, but under-corrects."""
    return _bessel(sums, ess(sums)), jnp.inf


@Wald
def ess_rescaled(sums: Moments, ess=_kish):
    """The sample variance of the influence over ESS: n Σp²e² / ESS. Does not fade: too wide by √(n/ESS) for ever."""
    return sums.n * sums.influence / ess(sums), jnp.inf


@Wald
def ess_kish(sums: Moments, ess=_kish):
    """The weighted variance of the rewards over ESS−1: Σpe²/(ESS−1). Right where e² and the weights are unrelated."""
    return sums.residual / _less_one(ess(sums)), jnp.inf


@Wald
def ess_student(sums: Moments, ess=_kish):
    """`ess_bessel` with the Student quantile of ESS−1 degrees of freedom."""
    return _bessel(sums, ess(sums)), _less_one(ess(sums))


@Wald
def ess_exact(sums: Moments):
    """Unbiased under the working model (constant mean and variance): Σp²e²/(1−2p+S₂), Satterthwaite's t.

    SNIPS is a weighted least-squares intercept with leverage p, and E e² = σ²(1−2p+S₂). Degrees of freedom as Bell &
    McCaffrey (2002). Equal weights give the textbook t interval exactly.
    """
    return sums.exact, _satterthwaite(sums)


@Wald
def ess_safe(sums: Moments):
    """`ess_kish` with the degrees of freedom of `ess_exact`: wide where the heavy rows happen to fit."""
    return sums.residual / _less_one(sums.kish), _satterthwaite(sums)


def with_max_weight(interval: Wald) -> Wald:
    """The ℓ∞ version: 1 / max p as the effective sample size."""
    return Wald(functools.partial(interval.formula, ess=_max_weight))


def _less_one(size):
    """ESS−1, at least rounding; where ESS is one the pivot is unsupported whatever stands here."""
    return jnp.maximum(size - 1, jnp.finfo(size.dtype).eps)


def _bessel(sums, size):
    return sums.influence * size / _less_one(size)


def _satterthwaite(sums):
    """(tr A)² / tr A² of the quadratic form that the variance estimate is, A = (I−1pᵀ)ᵀ diag(g) (I−1pᵀ), in O(n)."""
    s2 = sums.squared
    spread = s2 * s2 * sums.g0**2 - 4 * s2 * sums.g0 * sums.g1 + 2 * sums.g0 * sums.g2 + 2 * sums.g1**2 + sums.gg
    return s2 * s2 / jnp.where(spread > 0, spread, 1)

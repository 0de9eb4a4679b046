"""Intervals whose variance, or degrees of freedom, know the effective sample size.

MOPL, arXiv 2405.02141. The published correction inflates the variance when ESS is low and fades
as it grows; its formula is not public, so every reading has a name. `ess` is Kish's (ℓ2) by
default; `with_max_weight` puts the ℓ∞ one in its place. Formulas are for SNIPS with normalised
weights p, residuals e, S_k = Σpᵏ; `Estimate` makes them serve the other estimators. Each formula
gives (variance, degrees of freedom), `ess_skew` a skew as well; `Wald` makes it an interval.
"""

import functools

import jax.numpy as jnp

from mopl_jax.estimators.ess import ONE_ROW
from mopl_jax.intervals.formulas import Wald
from mopl_jax.intervals.moments import Moments
from mopl_jax.numerics import safe
from mopl_jax.numerics.shapes import Batch


def _kish(sums):
    """Kish's (ℓ2) effective sample size and its excess over one, (1/S₂, (1−S₂)/S₂)."""
    return _size(sums.sum_p2, sums.one_minus_sum_p2)


def _max_weight(sums):
    """The ℓ∞ effective sample size and its excess over one, (1/max p, (1−max p)/max p)."""
    return _size(sums.max_p, sums.one_minus_max_p)


def _size(share, rest):
    """Where nothing is left beside one row the pivot is unsupported, whatever stands here."""
    share = safe.positive(share)
    return 1 / share, jnp.maximum(rest, 0.25 * ONE_ROW) / share


@Wald
def ess_bessel(sums: Moments, ess=_kish):
    """Bessel's correction with ESS for n: Σp²e² · ESS/(ESS−1), normal quantile.

    Fades, but under-corrects.
    """
    return _bessel(sums, *ess(sums)), jnp.inf


@Wald
def ess_rescaled(sums: Moments, ess=_kish):
    """The sample variance of the influence over ESS: n Σp²e² / ESS.

    Does not fade: too wide by √(n/ESS) for ever.
    """
    return sums.n * sums.influence / ess(sums)[0], jnp.inf


@Wald
def ess_kish(sums: Moments, ess=_kish):
    """The weighted variance of the rewards over ESS−1: Σpe²/(ESS−1).

    Right where e² and the weights are unrelated.
    """
    return sums.residual / ess(sums)[1], jnp.inf


@Wald
def ess_student(sums: Moments, ess=_kish):
    """`ess_bessel` with the Student quantile of ESS−1 degrees of freedom."""
    return _bessel(sums, *ess(sums)), ess(sums)[1]


@Wald
def ess_exact(sums: Moments):
    """Unbiased under the working model (constant mean and variance): Σp²e²/(1−2p+S₂).

    With Satterthwaite's t. SNIPS is a weighted least-squares intercept with leverage p, and E e² =
    σ²(1−2p+S₂). Degrees of freedom as Bell & McCaffrey (2002). Equal weights give the textbook t
    interval exactly.
    """
    return sums.exact, sums.df


@Wald
def ess_safe(sums: Moments):
    """`ess_kish` with the degrees of freedom of `ess_exact`.

    Wide where the heavy rows happen to fit.
    """
    return sums.residual / _kish(sums)[1], sums.df


# Effective terms until which `ess_skew` takes the cautious side, and how far it then goes; chosen
# by benchmarks/calibration.py.
FEW_TERMS = 8.0
STRETCH = 1.0


@Wald
def ess_skew(sums: Moments, few_terms: float = FEW_TERMS, stretch: float = STRETCH):
    """`ess_exact` for skewed or heavy-tailed rewards, cautious while few terms decide.

    Caution f = min(1, m / effective terms), with m = `few_terms` and min(1/S₂, 1/Σx⁴) effective
    terms: as many rows make the value, and as many its variance. It fades to the central limit.
    Variance: Σp²e²/(1−2p+S₂), raised by the share f of what `ess_safe` has more. Degrees of freedom
    ν: 2/ν = 2/ν_exact + (Σx⁴ − 3 Σp⁴/S₂²)₊, the relative variance of the variance estimate as the
    fourth moment shows it. The longer tail is stretched by λ = (1 + c f) Σx³/3, see `Pivot`: with
    f = 0 the t² term of the second-order (Edgeworth) correction of Student's t for a skewed mean on
    that side (Johnson, JASA 1978; Hall, JRSS B 1992), with f = 1 and c = `stretch` more, because a
    few terms understate the skewness of all. For SNIPS the expansion has one term more, −t²
    Σp²e/√Σp²e², which is left out: where rewards rise with the weight it would shorten the stretch,
    where they fall with it the stretch is too short by it. The short side is never shortened,
    because a sample that has not seen the tail underestimates it. m and c were chosen on half of
    the worlds of the study of differences and held on the others (docs/intervals.md).
    """
    few = caution(sums, few_terms)
    excess = jnp.maximum(sums.residual / _kish(sums)[1] - sums.exact, 0)
    variance = sums.exact + few * excess
    heavier = jnp.maximum(sums.kurtosis - 3 * sums.quartic, 0)
    df = 2 / (2 / safe.positive(sums.df) + heavier)
    skew = (1 + stretch * few) * sums.skewness / 3
    return variance, jnp.where(sums.df > 0, df, sums.df), skew


def caution(sums: Moments, few_terms: float = FEW_TERMS) -> Batch:
    """min(1, m / effective terms), the fewer of 1/S₂ and 1/Σx⁴: 1 while few terms decide."""
    size = _kish(sums)[0]
    return jnp.minimum(1, few_terms / jnp.minimum(size, 1 / safe.positive(sums.kurtosis)))


def with_max_weight(interval: Wald) -> Wald:
    """The ℓ∞ version: 1 / max p as the effective sample size."""
    made = Wald(functools.partial(interval.formula, ess=_max_weight))
    made.__doc__ = f"ℓ∞ ESS: {interval.__doc__}"
    return made


def _bessel(sums, size, less_one):
    return sums.influence * size / less_one

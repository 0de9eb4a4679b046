"""`Moments`: the sums over rows that variance-based intervals are formulas in, each taken once."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from mopl_jax.estimators.ess import enough
from mopl_jax.estimators.estimate import Estimate, varies
from mopl_jax.estimators.estimator import Member, given
from mopl_jax.estimators.weight_totals import WeightTotals
from mopl_jax.numerics import safe
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.reduce import ADD, Stage, Whole, run_passes, whole_block
from mopl_jax.numerics.shapes import Batch, PerBlockRow, Scalar


@pytree_dataclass()
class Moments:
    """Sums of an estimate's normalised weights p, influence ψ and residuals e over its n rows.

    Complements to one are sums over the rows other than the heaviest: float32 holds them however
    near one row is to all.

    `n`: rows
    `value`: the estimate
    `sum_p2`: S₂ = Σp²
    `one_minus_sum_p2`: 1 − S₂
    `max_p`: max p
    `one_minus_max_p`: 1 − max p
    `influence`: Σψ²/n², which is Σp²e² for SNIPS
    `residual`: Σpe²
    `hc2`, `hc3`: Σψ²/n² over 1−p and over (1−p)²
    `exact`: Σψ²/n² over 1−2p+S₂
    `df`: the Satterthwaite degrees of freedom of `exact`
    `skewness`, `kurtosis`: Σx³ and Σx⁴ of the terms x whose squares `exact` adds, with Σx² = 1; 0
        where the value does not vary
    `cubic`: Σp³/S₂
    `quartic`: Σp⁴/S₂²
    `light_p2`: Σu², for the weights u ∝ p^¾, by which lighter rows count for more
    `light_square`, `light_skew`: Σu(e − Σue)², and Σu(e − Σue)³ over its power 1.5, 0 where they
        are of few digits
    """

    n: Batch
    value: Batch
    sum_p2: Batch
    one_minus_sum_p2: Batch
    max_p: Batch
    one_minus_max_p: Batch
    influence: Batch
    residual: Batch
    hc2: Batch
    hc3: Batch
    exact: Batch
    df: Batch
    skewness: Batch
    kurtosis: Batch
    cubic: Batch
    quartic: Batch
    light_p2: Batch
    light_square: Batch
    light_skew: Batch

    @property
    def kish(self) -> Batch:
        """The ℓ2 effective sample size, at least one."""
        return 1 / safe.positive(self.sum_p2)


@pytree_dataclass()
class Halves:
    """Of a difference of two policies.

    `share`: s, the weight that the two do not share
    `first`, `second`: the moments of the rows that the first, that the second plays more often
    """

    share: Batch
    first: Moments
    second: Moments


def moments_of(estimate: Estimate) -> Moments:
    """The moments of an estimate in memory."""
    rows = given(lambda columns: columns)
    return run_passes(Whole(whole_block(estimate)), (*rows.stages, moments_stage(rows)))


def moments_stage(member: Member) -> Stage:
    """The pass after which the state is the moments of `member`."""

    def summarise(state, block):
        rows = member.rows(state, block)
        heavy = state.totals.is_heaviest(block, rows.log_weight)
        p, influence = state.totals.share(rows.log_weight), rows.influence / state.totals.num_rows
        return sums_of(state.totals, p, heavy, influence, rows.residual)

    return Stage(summarise, ADD, lambda state, sums: joined(state.totals, sums, state.value))


class Sums(NamedTuple):
    """Sums over rows; those of two sets of rows add up, given the totals of both.

    `third`, `fourth` are powers of terms over max p, and `cubic`, `quartic` of p over max p: the
    powers of 1/n would vanish in float32. With g = p²/(1−2p+S₂), the heaviest row left out: `g0`,
    `g1`, `g2` are Σg, Σgp, Σgp²; `own` and `across` what Satterthwaite's formula needs besides.
    `light` is Σu, and `light2` Σu², `light_e` … `light_e3` Σue … Σue³, for u = (p / max p)^¾.
    `lead` counts the rows that are left out.
    """

    lead: Scalar
    influence: Scalar
    residual: Scalar
    hc2: Scalar
    hc3: Scalar
    exact: Scalar
    g0: Scalar
    g1: Scalar
    g2: Scalar
    own: Scalar
    across: Scalar
    third: Scalar
    fourth: Scalar
    cubic: Scalar
    quartic: Scalar
    light: Scalar
    light2: Scalar
    light_e: Scalar
    light_e2: Scalar
    light_e3: Scalar


def sums_of(
    totals: WeightTotals,
    p: PerBlockRow,
    heavy: Bool[Array, " m"],
    influence: PerBlockRow,
    residual: PerBlockRow,
) -> Sums:
    """The sums over some rows of normalised weight `p`, influence over n `influence`, `residual`.

    `heavy` marks the one heaviest of all rows, or all that lead. A row of p = ψ = 0 adds nothing.
    """
    s2, max_p = totals.sum_p2, totals.max_p
    known = enough(s2)  # elsewhere the sums mean nothing; they must only have finite gradients
    rest = jnp.where(heavy, 0, p)
    one_minus_p = jnp.where(known, jnp.where(heavy, totals.one_minus_max_p, 1 - p), 1)
    others = jnp.where(heavy, totals.rest_p2, s2 - p * p)
    expected = jnp.where(known, jnp.square(one_minus_p) + others, 1)
    term, inverse = jnp.square(influence), safe.reciprocal(expected)
    unit = safe.reciprocal(max_p)
    x, u = influence * jnp.sqrt(inverse) * unit, p * unit
    light = safe.sqrt(u) * safe.sqrt(safe.sqrt(u))
    return Sums(
        lead=jnp.sum(jnp.where(heavy, jnp.ones_like(p), 0)),
        influence=jnp.sum(term),
        residual=jnp.sum(p * jnp.square(residual)),
        hc2=jnp.sum(term * safe.reciprocal(one_minus_p)),
        hc3=jnp.sum(term * jnp.square(safe.reciprocal(one_minus_p))),
        exact=jnp.sum(term * inverse),
        **{name: jnp.sum(each) for name, each in _of_others(totals, rest, inverse).items()},
        third=jnp.sum(x**3),
        fourth=jnp.sum(x**4),
        cubic=jnp.sum(u**3),
        quartic=jnp.sum(u**4),
        light=jnp.sum(light),
        light2=jnp.sum(jnp.square(light)),
        light_e=jnp.sum(light * residual),
        light_e2=jnp.sum(light * jnp.square(residual)),
        light_e3=jnp.sum(light * residual**3),
    )


def _of_others(totals, p, inverse) -> dict:
    """The terms of rows that do not stand apart; `inverse` is 1/(1−2p+S₂)."""
    g, s2 = p * p * inverse, totals.sum_p2
    away = totals.rest_p2 - totals.max_p * totals.one_minus_max_p - p
    own = g * g * (1 - 4 * p + 2 * s2)
    return {"g0": g, "g1": g * p, "g2": g * p * p, "own": own, "across": g * jnp.square(away)}


def _but_one(totals, sums: Sums) -> Sums:
    """The sums with the terms of all rows that lead but one, where several do."""
    max_p, more = totals.max_p, jnp.where(sums.lead > 0, sums.lead - 1, jnp.nan)
    expected = jnp.square(totals.one_minus_max_p) + totals.rest_p2
    terms = _of_others(totals, max_p, safe.reciprocal(expected))
    return sums._replace(**{name: getattr(sums, name) + more * x for name, x in terms.items()})


def joined(totals: WeightTotals, sums: Sums, value: Scalar) -> Moments:
    """The moments from the totals and the sums over all rows."""
    if totals.heaviest is None:
        sums = _but_one(totals, sums)
    max_p, s2 = totals.max_p, totals.sum_p2
    some = lax.stop_gradient(varies(sums.exact, value))
    unit = max_p * safe.reciprocal(safe.sqrt(jnp.where(some, sums.exact, 0)))
    heaviest = jnp.square(max_p) * safe.reciprocal(s2)
    return Moments(
        n=totals.num_rows,
        value=value,
        sum_p2=s2,
        one_minus_sum_p2=totals.one_minus_max_p * (1 + max_p) - totals.rest_p2,
        max_p=max_p,
        one_minus_max_p=totals.one_minus_max_p,
        influence=sums.influence,
        residual=sums.residual,
        hc2=sums.hc2,
        hc3=sums.hc3,
        exact=sums.exact,
        df=_satterthwaite(totals, sums),
        skewness=sums.third * unit**3,
        kurtosis=sums.fourth * unit**4,
        cubic=sums.cubic * max_p * heaviest,
        quartic=sums.quartic * jnp.square(heaviest),
        **_of_lighter(sums),
    )


def _of_lighter(sums) -> dict:
    """Central moments of the residuals by u; none where the mean is so far off, and the third one,
    of its power 1.5, has so few digits.
    """
    one = safe.reciprocal(sums.light)
    mean, square = sums.light_e * one, sums.light_e2 * one
    central = square - jnp.square(mean)
    known = central > jnp.finfo(square.dtype).eps ** 0.25 * square
    deviation = safe.reciprocal(safe.sqrt(jnp.where(known, central, 0)))
    cube = sums.light_e3 * one - mean * (2 * central + square)
    return {
        "light_p2": sums.light2 * jnp.square(one),
        "light_square": jnp.where(known, central, 0),
        "light_skew": cube * deviation * deviation * deviation,
    }


def _satterthwaite(totals, sums):
    """(tr A)² / tr A² of the quadratic form that the variance estimate is, in O(n).

    A = (I−1pᵀ)ᵀ diag(g) (I−1pᵀ), and tr A² = Σ gᵢgⱼ (δᵢⱼ − pᵢ − pⱼ + S₂)². The heaviest row stands
    apart: its terms cancel near one row, the others' (p ≤ ½) do not. Its 1−2p+S₂ is
    (1−max p)² + Σ'p², and S₂ − max p is Σ'p² − max p (1−max p), with Σ' over the other rows.
    """
    s2, max_p = totals.sum_p2, totals.max_p
    g0, g1, g2 = sums.g0, sums.g1, sums.g2
    expected = jnp.where(enough(s2), jnp.square(totals.one_minus_max_p) + totals.rest_p2, 1)
    among = s2 * s2 * g0 * g0 - 4 * s2 * g0 * g1 + 2 * g0 * g2 + 2 * g1 * g1 + sums.own
    across = 2 * max_p * max_p * safe.reciprocal(expected) * sums.across
    return s2 * s2 * safe.reciprocal(max_p**4 + across + among)

"""`Moments`: the sums over rows that the variance-based intervals are formulas in, each taken
once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mopl_jax.estimators.ess import enough, normalise
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.reduce import WHOLE, Rows


@pytree_dataclass()
class Moments:
    """Sums of an estimate's normalised weights p, influence ψ and residuals e over its n rows,
    S₂ = Σp².

    `squared` S₂ · `spare` 1−S₂ · `largest` max p · `slack` 1−max p · `influence` Σψ²/n² (Σp²e²
    for SNIPS) · `residual` Σpe² · `hc2`, `hc3` Σψ²/n² over 1−p and (1−p)² · `exact` Σψ²/n² over
    1−2p+S₂ · `df` its Satterthwaite degrees of freedom · `skewness` Σx³ and `kurtosis` Σx⁴ of
    the terms x, scaled to Σx² = 1, whose squares `exact` adds · `cubic` Σp³/S₂ · `quartic`
    Σp⁴/S₂². Complements to one are sums over the other rows: float32 holds them however near one
    row is to all.
    """

    n: Float[Array, "*batch"]
    value: Float[Array, "*batch"]
    squared: Float[Array, "*batch"]
    spare: Float[Array, "*batch"]
    largest: Float[Array, "*batch"]
    slack: Float[Array, "*batch"]
    influence: Float[Array, "*batch"]
    residual: Float[Array, "*batch"]
    hc2: Float[Array, "*batch"]
    hc3: Float[Array, "*batch"]
    exact: Float[Array, "*batch"]
    df: Float[Array, "*batch"]
    skewness: Float[Array, "*batch"]
    kurtosis: Float[Array, "*batch"]
    cubic: Float[Array, "*batch"]
    quartic: Float[Array, "*batch"]

    @property
    def kish(self) -> Float[Array, "*batch"]:
        """The ℓ2 effective sample size, at least one."""
        return 1 / jnp.where(self.squared > 0, self.squared, 1)


class Shares(NamedTuple):
    """What the sums need to know of all normalised weights: `largest` max p, `slack` Σp and `rest2`
    Σp² over the others.
    """

    largest: Float[Array, ""]
    slack: Float[Array, ""]
    rest2: Float[Array, ""]

    @property
    def squared(self) -> Float[Array, ""]:
        """S₂."""
        return self.largest * self.largest + self.rest2


class Sums(NamedTuple):
    """Sums over rows: of two sets of rows they add up, given the `Shares` of both together.

    `third` and `fourth` powers are of terms over max p, `cubic` and `quartic` of p over max p:
    the powers of 1/n would vanish in float32.
    """

    influence: Float[Array, ""]
    residual: Float[Array, ""]
    hc2: Float[Array, ""]
    hc3: Float[Array, ""]
    exact: Float[Array, ""]
    g0: Float[Array, ""]
    g1: Float[Array, ""]
    g2: Float[Array, ""]
    own: Float[Array, ""]
    across: Float[Array, ""]
    third: Float[Array, ""]
    fourth: Float[Array, ""]
    cubic: Float[Array, ""]
    quartic: Float[Array, ""]


def moments(estimate: Estimate, rows: Rows = WHOLE) -> Moments:
    """The sums of an estimate in two passes over its rows: p, max p and S₂ first, what needs them
    second.
    """
    p, n = normalise(estimate.log_weight, rows), rows.count(estimate.influence)
    heavy = rows.heaviest(estimate.log_weight)
    rest = jnp.where(heavy, 0, p)
    shares = Shares(rows.total(jnp.where(heavy, p, 0)), rows.total(rest), rows.total(rest * rest))
    parts = jax.tree.map(
        rows.add, sums(shares, p, heavy, estimate.influence / n, estimate.residual)
    )
    return joined(shares, parts, n, estimate.value)


def sums(
    shares: Shares,
    p: Float[Array, " n"],
    heavy: Bool[Array, " n"],
    influence: Float[Array, " n"],
    residual: Float[Array, " n"],
) -> Sums:
    """The sums over some rows; `heavy` is the one heaviest of all rows, `influence` is ψ/n. A row
    of p = ψ = 0 adds nothing.
    """
    s2 = shares.squared
    known = enough(s2)  # elsewhere the sums mean nothing; they must only have finite gradients
    rest = jnp.where(heavy, 0, p)
    short = jnp.where(known, jnp.where(heavy, shares.slack, 1 - p), 1)
    expected = jnp.where(known, jnp.square(short) + jnp.where(heavy, shares.rest2, s2 - p * p), 1)
    term, inverse = jnp.square(influence), _reciprocal(expected)
    g = rest * rest * inverse
    unit = _reciprocal(shares.largest)
    x, u = influence * jnp.sqrt(inverse) * unit, p * unit
    return Sums(
        influence=jnp.sum(term),
        residual=jnp.sum(p * jnp.square(residual)),
        hc2=jnp.sum(term * _reciprocal(short)),
        hc3=jnp.sum(term * jnp.square(_reciprocal(short))),
        exact=jnp.sum(term * inverse),
        g0=jnp.sum(g),
        g1=jnp.sum(g * rest),
        g2=jnp.sum(g * rest * rest),
        own=jnp.sum(g * g * (1 - 4 * rest + 2 * s2)),
        across=jnp.sum(g * jnp.square(shares.rest2 - shares.largest * shares.slack - rest)),
        third=jnp.sum(x**3),
        fourth=jnp.sum(x**4),
        cubic=jnp.sum(u**3),
        quartic=jnp.sum(u**4),
    )


def joined(shares: Shares, parts: Sums, n: Float[Array, ""], value: Float[Array, ""]) -> Moments:
    """The moments from the sums over all rows."""
    largest, slack, rest2 = shares
    scale = _reciprocal(parts.exact) * largest * largest
    root = jnp.sqrt(jnp.where(scale > 0, scale, 1))
    heaviest = largest * largest * _reciprocal(shares.squared)
    return Moments(
        n=n,
        value=value,
        squared=shares.squared,
        spare=slack * (1 + largest) - rest2,
        largest=largest,
        slack=slack,
        influence=parts.influence,
        residual=parts.residual,
        hc2=parts.hc2,
        hc3=parts.hc3,
        exact=parts.exact,
        df=_satterthwaite(shares, parts),
        skewness=parts.third * scale * root,
        kurtosis=parts.fourth * scale * scale,
        cubic=parts.cubic * largest * heaviest,
        quartic=parts.quartic * jnp.square(heaviest),
    )


def _reciprocal(x):
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def _satterthwaite(shares, parts):
    """(tr A)² / tr A² of the quadratic form that the variance estimate is, A = (I−1pᵀ)ᵀ diag(g)
    (I−1pᵀ), in O(n).

    tr A² = Σ gᵢgⱼ (δᵢⱼ − pᵢ − pⱼ + S₂)², the heaviest row apart: its terms cancel near one row,
    the rest's (p ≤ ½) do not. Gₖ = Σgpᵏ without that row, whose 1−2p+S₂ is slack² + rest2 and
    whose S₂ − p is rest2 − largest · slack.
    """
    largest, slack, rest2 = shares
    s2, (g0, g1, g2) = shares.squared, (parts.g0, parts.g1, parts.g2)
    expected = jnp.where(enough(s2), slack * slack + rest2, 1)
    among = s2 * s2 * g0 * g0 - 4 * s2 * g0 * g1 + 2 * g0 * g2 + 2 * g1 * g1 + parts.own
    across = 2 * largest * largest * _reciprocal(expected) * parts.across
    spread = largest**4 + across + among
    return s2 * s2 * _reciprocal(spread)

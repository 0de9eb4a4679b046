"""`Moments`: the sums over rows that the variance-based intervals are formulas in, each taken once."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mopl_jax._record import record
from mopl_jax.ess import enough, normalise
from mopl_jax.estimators import Estimate


@record()
class Moments:
    """Sums of an estimate's normalised weights p, influence ψ and residuals e over its n rows, S₂ = Σp².

    `squared` S₂ · `spare` 1−S₂ · `largest` max p · `slack` 1−max p · `influence` Σψ²/n² (Σp²e² for SNIPS) · `residual`
    Σpe² · `hc2`, `hc3` Σψ²/n² over 1−p and (1−p)² · `exact` Σψ²/n² over 1−2p+S₂ · `df` its Satterthwaite degrees of
    freedom. Complements to one are sums over the other rows: float32 holds them however near one row is to all.
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

    @property
    def kish(self) -> Float[Array, "*batch"]:
        """The ℓ2 effective sample size, at least one."""
        return 1 / jnp.where(self.squared > 0, self.squared, 1)


def moments(estimate: Estimate) -> Moments:
    """The sums of an estimate in two passes over its rows: p, max p and S₂ first, what needs them second."""
    p, n = normalise(estimate.log_weight), estimate.influence.shape[0]
    heavy = jnp.arange(n) == jnp.argmax(estimate.log_weight)
    rest = jnp.where(heavy, 0, p)
    largest, slack, rest2 = jnp.max(p), jnp.sum(rest), jnp.sum(rest * rest)
    s2 = largest * largest + rest2
    known = enough(s2)  # elsewhere the sums mean nothing; they must only have finite gradients
    short = jnp.where(known, jnp.where(heavy, slack, 1 - p), 1)
    expected = jnp.where(known, jnp.square(short) + jnp.where(heavy, rest2, s2 - p * p), 1)
    term, inverse = jnp.square(estimate.influence / n), _reciprocal(expected)
    return Moments(
        n=jnp.asarray(n, p.dtype),
        value=estimate.value,
        squared=s2,
        spare=slack * (1 + largest) - rest2,
        largest=largest,
        slack=slack,
        influence=jnp.sum(term),
        residual=jnp.sum(p * jnp.square(estimate.residual)),
        hc2=jnp.sum(term * _reciprocal(short)),
        hc3=jnp.sum(term * jnp.square(_reciprocal(short))),
        exact=jnp.sum(term * inverse),
        df=_satterthwaite(
            rest,
            rest * rest * inverse,
            largest,
            s2,
            rest2 - largest * slack,
            jnp.where(known, slack * slack + rest2, 1),
        ),
    )


def _reciprocal(x):
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def _satterthwaite(p, g, largest, s2, gap, expected):
    """(tr A)² / tr A² of the quadratic form that the variance estimate is, A = (I−1pᵀ)ᵀ diag(g) (I−1pᵀ), in O(n).

    tr A² = Σ gᵢgⱼ (δᵢⱼ − pᵢ − pⱼ + S₂)², the heaviest row apart: its terms cancel near one row, the rest's (p ≤ ½) do
    not. `p` and `g` are zero on that row; `gap` is S₂ − max p and `expected` is 1−2p+S₂ there.
    """
    g0, g1, g2 = jnp.sum(g), jnp.sum(g * p), jnp.sum(g * p * p)
    among = s2 * s2 * g0 * g0 - 4 * s2 * g0 * g1 + 2 * g0 * g2 + 2 * g1 * g1 + jnp.sum(g * g * (1 - 4 * p + 2 * s2))
    across = 2 * largest * largest * _reciprocal(expected) * jnp.sum(g * jnp.square(gap - p))
    spread = largest**4 + across + among
    return s2 * s2 * _reciprocal(spread)

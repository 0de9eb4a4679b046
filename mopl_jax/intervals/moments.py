"""`Moments`: the sums over rows that the variance-based intervals are formulas in, each taken once."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mopl_jax._record import record
from mopl_jax.ess import normalise
from mopl_jax.estimators import Estimate


@record()
class Moments:
    """Sums of an estimate's normalised weights p, influence ψ and residuals e over its n rows, S₂ = Σp².

    `squared` S₂ · `largest` max p · `influence` Σψ²/n² (Σp²e² for SNIPS) · `residual` Σpe² · `hc2`, `hc3` Σψ²/n² over 1−p
    and (1−p)² · `exact` Σψ²/n² over 1−2p+S₂ · `g0`, `g1`, `g2` Σgpᵏ with g = p²/(1−2p+S₂) · `gg` Σg²(1−4p+2S₂).
    """

    n: Float[Array, "*batch"]
    value: Float[Array, "*batch"]
    squared: Float[Array, "*batch"]
    largest: Float[Array, "*batch"]
    influence: Float[Array, "*batch"]
    residual: Float[Array, "*batch"]
    hc2: Float[Array, "*batch"]
    hc3: Float[Array, "*batch"]
    exact: Float[Array, "*batch"]
    g0: Float[Array, "*batch"]
    g1: Float[Array, "*batch"]
    g2: Float[Array, "*batch"]
    gg: Float[Array, "*batch"]

    @property
    def kish(self) -> Float[Array, "*batch"]:
        """The ℓ2 effective sample size, at least one."""
        return 1 / jnp.where(self.squared > 0, self.squared, 1)

    @property
    def max_weight(self) -> Float[Array, "*batch"]:
        """The ℓ∞ effective sample size, at least one."""
        return 1 / jnp.where(self.largest > 0, self.largest, 1)


def moments(estimate: Estimate) -> Moments:
    """The sums of an estimate in two passes over its rows: p and S₂ first, what needs them second."""
    p, n = normalise(estimate.log_weight), estimate.influence.shape[0]
    term, s2 = jnp.square(estimate.influence / n), jnp.sum(p * p)
    slack = jnp.where(p < 1, 1 - p, 1)
    expected = jnp.square(1 - p) + (s2 - p * p)
    inverse = jnp.where(expected > 0, 1 / jnp.where(expected > 0, expected, 1), 0)
    g = p * p * inverse
    return Moments(
        n=jnp.asarray(n, p.dtype),
        value=estimate.value,
        squared=s2,
        largest=jnp.max(p),
        influence=jnp.sum(term),
        residual=jnp.sum(p * jnp.square(estimate.residual)),
        hc2=jnp.sum(term / slack),
        hc3=jnp.sum(term / jnp.square(slack)),
        exact=jnp.sum(term * inverse),
        g0=jnp.sum(g),
        g1=jnp.sum(g * p),
        g2=jnp.sum(g * p * p),
        gg=jnp.sum(g * g * (1 - 4 * p + 2 * s2)),
    )

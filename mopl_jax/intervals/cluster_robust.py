"""The interval that is unbiased under a working model of what the rows of one user share."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from mopl_jax.estimators.ess import normalise
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.intervals.formulas import Pivot
from mopl_jax.intervals.interval import Interval
from mopl_jax.numerics import safe


def cluster_exact(
    estimate: Estimate,
    alpha: float,
    *,
    cluster: Int[Array, " n"],
    num_clusters: int,
    correlation: ArrayLike = 1.0,
) -> Interval:
    """Unbiased where rewards of one user have the given intra-cluster `correlation`.

    P the weight of a cluster, u = Σpe its influence, τ = (1−ρ) Σp² + ρ P², T = Στ the variance
    of SNIPS over σ²: E u² = σ² (τ(1−2P) + P²T), so the variance Σ u² τ / (τ(1−2P) + P²T) is
    unbiased; t of its Satterthwaite degrees of freedom. ρ = 0 is Bell & McCaffrey (2002); ρ = 1
    is `ess_exact` of `clustered`; one row a cluster gives `ess_exact` for every ρ. The variance
    is robust: a wrong ρ matters only where few clusters carry the weight; then too small a ρ
    under-covers (.91 where 3 of 63 users make two thirds of the rows and ρ is .9, not 0), too
    large a one is wide.
    """

    return cluster_pivot(estimate, cluster, num_clusters, correlation).interval(alpha)


def cluster_pivot(
    estimate: Estimate, cluster: Int[Array, " n"], num_clusters: int, correlation: ArrayLike = 1.0
) -> Pivot:
    """The value, variance and degrees of freedom of `cluster_exact`."""

    def total(x):
        return jax.ops.segment_sum(x, cluster, num_clusters)

    p = normalise(estimate.log_weight)
    share = total(p)
    rho = jnp.asarray(correlation, p.dtype)
    tau = (1 - rho) * total(p * p) + rho * share * share
    variance, df = _exact(share, tau, total(estimate.influence) / p.shape[0])
    several = 1 - jnp.sum(share * share) > 64 * jnp.finfo(p.dtype).eps
    return Pivot(estimate.value, jnp.where(several, variance, jnp.nan), df, jnp.zeros_like(df))


def _exact(share: Float[Array, " g"], tau: Float[Array, " g"], u: Float[Array, " g"]):
    """Variance and degrees of freedom in O(g) for g clusters.

    u = (I − P1ᵀ)t with t independent of variance τ, so Cov(u) is low-rank.
    """
    t = jnp.sum(tau)
    expected = tau * (1 - share) + share * (share * t - tau)
    f = safe.divide(tau, expected)
    a, b, c = jnp.sum(f * tau * tau), jnp.sum(f * share * share), jnp.sum(f * share * tau)
    diagonal = jnp.sum(jnp.square(f * tau) * (1 - 4 * share) + 2 * jnp.square(f * share) * tau * t)
    spread = 2 * a * b + jnp.square(b * t) + 2 * c * c - 4 * b * c * t + diagonal
    return jnp.sum(f * u * u), t * t / safe.positive(spread)

"""Users that repeat in a log: the independent unit is the cluster, not the row.

`clustered` turns an estimate over rows into the same estimate over clusters; every interval of the package then serves
unchanged (`normal` becomes the cluster-robust interval of Liang & Zeger 1986, `hc3` the leave-one-cluster-out jackknife,
the bootstrap of `snips` the cluster bootstrap). Its effective sample size counts clusters.

Assumption: clusters independent, enough effective clusters. Within a cluster anything may be dependent.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from mopl_jax.estimators import Estimate
from mopl_jax.estimators.ess import normalise
from mopl_jax.intervals.interval import Interval, Pivot


def clustered(estimate: Estimate, cluster: Int[Array, " n"], num_clusters: int) -> Estimate:
    """The estimate as a mean over G clusters: value unchanged, every per-row field summed or averaged within `cluster`.

    With P the sum of the normalised weights of a cluster: influence (G/n) Σψ, weight (G/n) Σw (mean as before, so a bound
    on it is (G/n) w_max times the largest cluster), residual Σpe / P, reward Σpr / P. SNIPS of the new weights and
    rewards is SNIPS of the rows; IPS likewise. `cluster` holds numbers 0 … num_clusters−1, not checked; each should occur.

    As for the working model of `ess_exact`, the weighted mean reward has the same variance in every cluster: true for
    clusters of equal size, and for unequal ones where the rows of a user say the same thing; `cluster_exact` has others.
    """

    def total(x):
        return jax.ops.segment_sum(x, cluster, num_clusters)

    p = normalise(estimate.log_weight)
    columns = p, estimate.influence, p * estimate.residual, p * estimate.reward
    totals = jnp.stack([total(column) for column in columns])
    n = estimate.influence.shape[0]
    return of_clusters(estimate.value, totals, jax.nn.logsumexp(estimate.log_weight) - jnp.log(n), n)


def of_clusters(
    value: Float[Array, ""], totals: Float[Array, "4 g"], log_mean_weight: Float[Array, ""], n: int
) -> Estimate:
    """`clustered` from the sums over each cluster: of p, ψ, pe and pr, n rows in all."""
    share, influence, residual, reward = totals
    inverse = jnp.where(share > 0, 1 / jnp.where(share > 0, share, 1), 0)
    log_share = jnp.where(share > 0, jnp.log(jnp.where(share > 0, share, 1)), -jnp.inf)
    g = share.shape[0]
    return Estimate(
        value=value,
        influence=influence * (g / n),
        log_weight=log_share + log_mean_weight + jnp.log(g),
        residual=residual * inverse,
        reward=reward * inverse,
    )


def cluster_exact(
    estimate: Estimate, alpha: float, *, cluster: Int[Array, " n"], num_clusters: int, correlation: ArrayLike = 1.0
) -> Interval:
    """Unbiased under the working model that rewards of one user have the given intra-cluster `correlation`.

    P the weight of a cluster, u = Σpe its influence, τ = (1−ρ) Σp² + ρ P², T = Στ the variance of SNIPS over σ²:
    E u² = σ² (τ(1−2P) + P²T), so the variance Σ u² τ / (τ(1−2P) + P²T) is unbiased; t of its Satterthwaite degrees of
    freedom. ρ = 0 is Bell & McCaffrey (2002); ρ = 1 is `ess_exact` of `clustered`; one row a cluster gives `ess_exact`
    for every ρ. The variance is robust: a wrong ρ matters only where few clusters carry the weight; then too small a ρ
    under-covers (.91 where 3 of 63 users make two thirds of the rows and ρ is .9, not 0), too large a one is wide.
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
    """Variance and degrees of freedom, O(g): u = (I − P1ᵀ)t with t independent of variance τ, so Cov(u) is low-rank."""
    t = jnp.sum(tau)
    expected = tau * (1 - share) + share * (share * t - tau)
    f = jnp.where(expected > 0, tau / jnp.where(expected > 0, expected, 1), 0)
    a, b, c = jnp.sum(f * tau * tau), jnp.sum(f * share * share), jnp.sum(f * share * tau)
    diagonal = jnp.sum(jnp.square(f * tau) * (1 - 4 * share) + 2 * jnp.square(f * share) * tau * t)
    spread = 2 * a * b + jnp.square(b * t) + 2 * c * c - 4 * b * c * t + diagonal
    return jnp.sum(f * u * u), t * t / jnp.where(spread > 0, spread, 1)

"""Users that repeat in a log: the independent unit is the cluster, not the row.

`clustered` turns an estimate over rows into the same estimate over clusters; every interval of
the package then serves unchanged (`normal` becomes the cluster-robust interval of Liang & Zeger
1986, `hc3` the leave-one-cluster-out jackknife, the bootstrap of `snips` the cluster bootstrap).
Its effective sample size counts clusters.

Assumption: clusters independent, enough effective clusters. Within a cluster anything may be
dependent.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mopl_jax.estimators.ess import normalise
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.numerics import safe


def clustered(estimate: Estimate, cluster: Int[Array, " n"], num_clusters: int) -> Estimate:
    """The estimate as a mean over G clusters: value unchanged, every per-row field summed or
    averaged within `cluster`.

    With P the sum of the normalised weights of a cluster: influence (G/n) Σψ, weight (G/n) Σw
    (mean as before, so a bound on it is (G/n) w_max times the largest cluster), residual Σpe /
    P, reward Σpr / P. SNIPS of the new weights and rewards is SNIPS of the rows; IPS likewise.
    `cluster` holds numbers 0 … num_clusters−1, not checked; each should occur.

    As for the working model of `ess_exact`, the weighted mean reward has the same variance in
    every cluster: true for clusters of equal size, and for unequal ones where the rows of a user
    say the same thing; `cluster_exact` has others.
    """

    def total(x):
        return jax.ops.segment_sum(x, cluster, num_clusters)

    p = normalise(estimate.log_weight)
    columns = p, estimate.influence, p * estimate.residual, p * estimate.reward
    totals = jnp.stack([total(column) for column in columns])
    n = estimate.influence.shape[0]
    return of_clusters(
        estimate.value, totals, jax.nn.logsumexp(estimate.log_weight) - jnp.log(n), n
    )


def of_clusters(
    value: Float[Array, ""], totals: Float[Array, "4 g"], log_mean_weight: Float[Array, ""], n: int
) -> Estimate:
    """`clustered` from the sums over each cluster: of p, ψ, pe and pr, n rows in all."""
    share, influence, residual, reward = totals
    inverse = safe.reciprocal(share)
    g = share.shape[0]
    return Estimate(
        value=value,
        influence=influence * (g / n),
        log_weight=safe.log(share) + log_mean_weight + jnp.log(g),
        residual=residual * inverse,
        reward=reward * inverse,
    )

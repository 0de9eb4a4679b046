"""Users that repeat in a log: the independent unit is the cluster, not the row.

`clustered` turns an estimate over rows into the same estimate over clusters; every interval of
the package then serves unchanged (`normal` becomes the cluster-robust interval of Liang & Zeger
1986, `hc3` the leave-one-cluster-out jackknife, the bootstrap of `snips` the cluster bootstrap).
Its effective sample size counts clusters.

Assumption: clusters independent, enough effective clusters. Within a cluster anything may be
dependent.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.estimator import Member, given
from mopl_jax.estimators.weight_totals import WeightTotals
from mopl_jax.numerics import safe
from mopl_jax.numerics.reduce import ADD, Block, Stage, Whole, run_passes, whole_block


def clustered(estimate: Estimate, cluster: Int[Array, " n"], num_clusters: int) -> Estimate:
    """The estimate of n rows as a mean over G clusters, with the same value.

    Every field of a row is summed or averaged within its `cluster`. With P the sum of the
    normalised weights of a cluster: influence (G/n) Σψ, weight (G/n) Σw (its mean is that of the
    rows, so a bound on it is (G/n) w_max times the largest cluster), residual Σpe / P, reward
    Σpr / P. SNIPS of the new weights and rewards is SNIPS of the rows; IPS likewise. `cluster`
    holds numbers 0 … num_clusters − 1, not checked; each should occur.

    As for the working model of `ess_exact`, the weighted mean reward has the same variance in
    every cluster: true for clusters of equal size, and for unequal ones where the rows of a user
    say the same thing; `cluster_exact` has others.
    """
    rows = given(lambda columns: columns[0])
    stage = cluster_stage(rows, num_clusters, lambda block: block.columns[1])
    return run_passes(Whole(whole_block((estimate, cluster))), (*rows.stages, stage))


def cluster_stage(
    member: Member,
    num_clusters: int,
    cluster_of: Callable[[Block], Array] = lambda block: block.columns.cluster,
) -> Stage:
    """The pass after which the state is the clustered estimate of `member`."""

    def summarise(state, block):
        rows, cluster = member.rows(state, block), cluster_of(block)
        p = state.totals.share(rows.log_weight)
        columns = p, rows.influence, p * rows.residual, p * rows.reward
        return sums_by_cluster(block, columns, cluster, num_clusters)

    return Stage(summarise, ADD, lambda state, sums: of_clusters(state.value, sums, state.totals))


def sums_by_cluster(
    block: Block, columns: Sequence[Array], cluster: Int[Array, " m"], num_clusters: int
) -> Float[Array, "k g"]:
    """The sums of k columns (m,) of a block over each cluster."""
    kept = jnp.stack([block.mask(column) for column in columns])
    return jax.vmap(lambda x: jax.ops.segment_sum(x, cluster, num_clusters))(kept)


def of_clusters(
    value: Float[Array, ""], sums: Float[Array, "4 g"], totals: WeightTotals
) -> Estimate:
    """The clustered estimate from the sums of p, ψ, pe and pr over each cluster."""
    share, influence, residual, reward = sums
    g = share.shape[0]
    log_mean_weight = totals.log_sum - jnp.log(totals.num_rows)
    return Estimate(
        value=value,
        influence=influence * (g / totals.num_rows),
        log_weight=safe.log(share) + log_mean_weight + jnp.log(g),
        residual=safe.divide(residual, share),
        reward=safe.divide(reward, share),
    )

"""Logs spread by rows over the devices of a mesh, of one process or of many.

`spread(logs, mesh)` puts each process's rows on its devices. `moments(spread, policy, estimator)`
are then the sums of which a value, its effective sample size and every `Wald` interval are
formulas, the same on every process; they have gradients, so `bound` can be maximised.
`read_own_rows` gives a process its share of a Parquet file's row groups. Where the log knows its
users, the independent unit is the user here too.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from mopl_jax.estimators.cluster import cluster_stage
from mopl_jax.estimators.estimator import member
from mopl_jax.estimators.registry import Choice, bind_estimator
from mopl_jax.intervals.formulas import Wald
from mopl_jax.intervals.moments import Moments, moments_of, moments_stage
from mopl_jax.io.read import read_logs
from mopl_jax.logs import Logs, check, check_unsampled, log_weights
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.reduce import Shards, run_passes, shard_block
from mopl_jax.policies.policy import Policy


@pytree_dataclass(static=("mesh", "num_clusters"))
class Spread:
    """A log on the k devices of a mesh, which have as many places for rows each.

    `logs`: the rows, and copies of the last row of a process in places that are left
    `num_valid` (k,): how many rows of the log each device has; they come first
    `mesh`: the devices
    `num_clusters`: how many users there are; None where the log does not know them
    """

    logs: Logs
    num_valid: Int[Array, " k"]
    mesh: Mesh
    num_clusters: int | None = None


def spread(logs: Logs, mesh: Mesh) -> Spread:
    """This process's rows on its devices of `mesh`, beside those of the other processes.

    ValueError as `logs.check`, and for users in several processes, which number them apart.
    """
    n, own = len(check(logs).reward), len(mesh.local_devices)
    if logs.cluster is not None and jax.process_count() > 1:
        raise ValueError(
            "expected a log without users for several processes, as each numbers its own; "
            "spread it over the devices of one process"
        )
    length = -(-int(np.max(process_allgather(np.int32(n)))) // own)
    num_valid = np.clip(n - length * np.arange(own), 0, length).astype(np.int32)
    by_row = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))

    def place(column):
        filled = np.asarray(column)[np.minimum(np.arange(length * own), n - 1)]
        return jax.make_array_from_process_local_data(by_row, jnp.asarray(filled))

    return Spread(
        jax.tree.map(place, logs),
        jax.make_array_from_process_local_data(by_row, num_valid),
        mesh,
        None if logs.cluster is None else int(np.max(logs.cluster)) + 1,
    )


@functools.partial(jax.jit, static_argnames="estimator")
def moments(spread: Spread, policy: Policy, estimator: Choice = "snips") -> Moments:
    """The moments of a policy's value over all rows, those of one device to rounding."""

    def of_shard(policy, logs, num_valid):
        of_policy = member(
            bind_estimator(estimator, policy), lambda block: log_weights(policy, block.columns)
        )
        place = Shards(shard_block(logs, num_valid[0], axis), axis)
        if spread.num_clusters is None:
            return run_passes(place, (*of_policy.stages, moments_stage(of_policy)))
        by_user = cluster_stage(of_policy, spread.num_clusters)
        return moments_of(run_passes(place, (*of_policy.stages, by_user)))

    axis = spread.mesh.axis_names[0]
    by_row, everywhere = PartitionSpec(axis), PartitionSpec()
    over_shards = jax.shard_map(
        of_shard,
        mesh=spread.mesh,
        in_specs=(everywhere, by_row, by_row),
        out_specs=everywhere,
        check_vma=False,
    )
    return over_shards(policy, spread.logs, spread.num_valid)


def bound(
    spread: Spread, policy: Policy, interval: Wald, alpha: float, estimator: Choice = "snips"
) -> Float[Array, ""]:
    """The one-sided lower bound of a policy's value at level alpha, the objective of learning.

    It has gradients.
    """
    return interval.at(moments(spread, policy, estimator)).interval(2 * alpha).lower


def read_own_rows(path: Path | str, **roles: Any) -> Logs:
    """This process's share of a Parquet file, whole row groups; `roles` as `read_logs`.

    ValueError if there are too few row groups.
    """
    file = pq.ParquetFile(path)
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    if len(sizes) < jax.process_count():
        raise ValueError(
            f"{path}: expected a row group for each of {jax.process_count()} processes, got "
            f"{len(sizes)}; write it with a smaller row_group_size"
        )
    own = share(sizes, jax.process_index(), jax.process_count())
    return check_unsampled(read_logs(file.read_row_groups(list(own)), **roles), "read_own_rows")


def share(sizes: Sequence[int], process: int, processes: int) -> range:
    """The consecutive row groups of one process: every group has one owner, no process none.

    Rows are nearly equal.
    """
    after = np.cumsum(sizes)
    edges = [
        int(np.argmin(np.abs(after - after[-1] * k / processes))) + 1 for k in range(1, processes)
    ]
    starts = [0]
    for k, edge in enumerate(edges, 1):
        starts.append(min(max(edge, starts[-1] + 1), len(sizes) - processes + k))
    return range(starts[process], [*starts, len(sizes)][process + 1])

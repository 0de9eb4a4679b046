"""A log as blocks of one size, so that one compiled body serves all of it; and one pass over
them.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mopl_jax.io.log_reader import Rows
from mopl_jax.policies.policy import Policy

SIZE = 2**15  # rows of a block: a few megabytes at ten objectives


class Block(NamedTuple):
    """`SIZE` rows from number `start` on; those that are not `kept` only fill up."""

    start: Int[Array, ""]
    kept: Bool[Array, " m"]
    rows: Rows


Blocks = Callable[[], Iterable[Block]]
Weigh = Callable[[Block], Float[Array, " m"]]


def blocks(chunks: Iterable[Rows]) -> Iterator[Block]:
    """Chunks of at most `SIZE` rows, filled up with copies of their last row."""
    start = 0
    for rows in chunks:
        n = len(rows.reward)
        fill = np.minimum(np.arange(SIZE), n - 1)
        filled = rows if n == SIZE else jax.tree.map(lambda column, fill=fill: column[fill], rows)
        yield Block(jnp.asarray(start), jnp.arange(SIZE) < n, jax.tree.map(jnp.asarray, filled))
        start += n


def weigh_by(policy: Policy | None) -> Weigh:
    """Log importance weights of a block under `policy`, or of its target column if None; −inf in
    the rows that fill up.
    """
    return functools.partial(_weigh, policy)


@jax.jit
def _weigh(policy: Any, block: Block) -> Array:
    rows = block.rows
    log_target = rows.log_target if policy is None else jax.vmap(policy.log_density)(rows.action)
    return jnp.where(
        block.kept, jnp.asarray(log_target) - jnp.asarray(rows.log_propensity), -jnp.inf
    )


def weigh_all_one(block: Block) -> Float[Array, " m"]:
    """The log weights of the logging policy itself: zero."""
    return jnp.where(block.kept, 0.0, -jnp.inf)


def sweep(blocks: Blocks, updates: Sequence[Callable], carries: Sequence[Any]) -> list[Any]:
    """One pass over the log: every carry through its `update(carry, block) -> carry`."""
    carries = list(carries)
    for block in blocks():
        carries = [update(carry, block) for update, carry in zip(updates, carries, strict=True)]
    return carries


def fold_of(block: Block, folds: int) -> Int[Array, " m"]:
    """The fold of each row: its cluster's, or its own."""
    own = block.start + jnp.arange(block.kept.shape[0])
    return (own if block.rows.cluster is None else jnp.asarray(block.rows.cluster)) % folds

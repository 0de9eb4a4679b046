"""A log as blocks of one size, so that one compiled body serves all of it."""

from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax.io.log_reader import Rows
from mopl_jax.numerics.reduce import Block

SIZE = 2**15  # rows of a block: a few megabytes at ten objectives


EACH = 8  # users for each row of a block: the sums of all users are gone through for every block


def size_for(users: int) -> int:
    """Rows of the blocks of a pass that sums by user: so many that time grows as the rows, and not
    as rows times users.
    """
    return max(SIZE, users // EACH)


def blocks(chunks: Iterable[Rows], num_rows: int, size: int = SIZE) -> Iterator[Block]:
    """Chunks of at most `size` rows of a log of `num_rows`, filled up with copies of their last."""
    start = 0
    for rows in chunks:
        n = len(rows.reward)
        fill = np.minimum(np.arange(size), n - 1)
        filled = rows if n == size else jax.tree.map(lambda column, fill=fill: column[fill], rows)
        columns = jax.tree.map(jnp.asarray, filled)
        yield Block(columns, jnp.asarray(start), jnp.asarray(num_rows), jnp.asarray(n))
        start += n

"""`Replicates`: what a sweep finds on each synthetic log."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from mopl_jax.numerics.pytree import pytree_dataclass


@pytree_dataclass()
class Replicates:
    """Results per replicate: `value` and Kish `ess` (r, n); interval ends `lower` and `upper` (r,
    n, interval).
    """

    value: Float[Array, "r n"]
    ess: Float[Array, "r n"]
    lower: Float[Array, "r n i"]
    upper: Float[Array, "r n i"]


Cell = tuple[str, str]  # estimand, estimator


def concatenate(parts: Sequence[dict[Cell, Replicates]]) -> dict[Cell, Replicates]:
    """Batches joined along the replicates."""
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def count(results: dict[Cell, Replicates]) -> int:
    """How many replicates a batch holds."""
    return len(next(iter(results.values())).value)

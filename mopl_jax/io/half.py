"""Two parts of a log by its users: a sample of them to hold in memory, and all others to pass over.

A hash of a user's number (of a row's, without users; in a query engine of the user, or of what the
row says) picks the sample, so that each pass picks the same and no list of users is kept.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from mopl_jax.io.source import Source
from mopl_jax.numerics.pytree import entries

BITS = 20  # of an engine's hash that are looked at


class Half(NamedTuple):
    """The users, or rows, that are picked.

    `share`: of all users, in (0, 1)
    `seed`: another one picks others
    `others`: whether it is those that are not in the sample
    """

    share: float
    seed: int
    others: bool = False

    def has(self, number: Int[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """Whether each of some users is of this half."""
        x = np.asarray(number).astype(np.uint64) + np.uint64(self.seed % 2**32) * np.uint64(2**32)
        for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):  # SplitMix64
            x = (x ^ (x >> np.uint64(30))) * np.uint64(factor)
        x ^= x >> np.uint64(31)
        return (x < np.uint64(self.share * 2.0**64)) != self.others

    def picker(self) -> Callable[[Any], Any]:
        """A function that leaves of successive rows those of this half, users numbered anew."""
        start, order = 0, np.zeros(0, np.int64)

        def pick(rows):
            nonlocal start, order
            n, users = len(rows.reward), rows.cluster
            unit = start + np.arange(n) if users is None else users
            start += n
            if users is not None:
                if len(order) <= users.max(initial=-1):
                    order = np.cumsum(self.has(np.arange(2 * users.max() + 2))) - 1
                rows = rows._replace(cluster=order[users])
            kept = self.has(unit)
            return entries(rows, kept)

        return pick


def table_halves(source: Source, columns: Any, half: Half) -> tuple[Source, Source]:
    """The sources of the sample and of all others, of a table in a query engine."""
    from mopl_jax.io.table_source import table_source  # on demand: ibis

    table = source.table
    if columns.cluster is not None:
        key = table[columns.cluster].cast("string") + f"#{half.seed}"
    else:
        factors = np.random.default_rng(half.seed).uniform(1, 2, 1 + len(columns.action))
        names = (columns.reward, *columns.action)
        terms = [
            table[name].cast("float64") * float(x) for name, x in zip(names, factors, strict=True)
        ]
        key = functools.reduce(operator.add, terms)
    picked = (key.hash() & (2**BITS - 1)) < int(half.share * 2**BITS)
    one, other = (
        table_source(table.filter(each))._replace(name=source.name, remarks=source.remarks)
        for each in (picked, ~picked)
    )
    return one, other

"""What the rewards and actions of a log in a query engine look like, in its first rows."""

import functools
import math
import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from mopl_jax.diagnostics.appearance import KEPT, Appearance
from mopl_jax.io.precision import DECIMALS
from mopl_jax.warehouse.queries import rounded

LOOKED_AT = 2**20  # first rows of a log, whose appearance is that of the log
MODAL = 2**15  # first rows of a log, whose median reward is what all rewards are compared to


class Repeats(NamedTuple):
    """How often rows repeat, as `sketch.Sketch` says it: the share that is the same as an earlier
    one, the pairs that are the same, and how many different ones there are.
    """

    repeated: float
    pairs: float
    distinct: float


def modal_reward(log: Any) -> float:
    """The median reward of the first rows; not every engine knows a median."""
    import ibis

    first, n = log.queries.table.limit(MODAL), min(log.n, MODAL)
    ranked = first.select(x=first.reward, rank=ibis.row_number().over(order_by=first.reward))
    middle = ranked.filter(ranked.rank.between((n - 1) // 2, n // 2))
    return float(np.mean([row["x"] for row in log.queries.rows(middle)]))


def appearance_of(log: Any) -> Appearance:
    """What a log in an engine looks like, by its first rows, counted there."""
    first, seen = log.queries.table.limit(LOOKED_AT), Appearance()
    seen.n = min(log.n, LOOKED_AT)
    _count(log, first, "reward", seen.reward)
    names = () if log.rows.action is None else log.rows.action.names
    if not names:
        return seen
    seen.action = [type(seen.reward)() for _ in names]
    for name, values in zip(names, seen.action, strict=True):
        _count(log, first, name, values)
    seen.actions = repeats(log, first, names)
    total = functools.reduce(operator.add, [first[name] for name in names])
    asked = {"low": total.min(), "high": total.max()}
    for name in names:
        asked |= {f"{name}_{k}": rounded(first[name], k).all() for k in range(DECIMALS + 1)}
    (found,) = log.queries.rows(first.aggregate(**asked))
    seen.sums = found["low"], found["high"]
    seen.decimals = [
        next((k for k in range(DECIMALS + 1) if found[f"{name}_{k}"] is not False), math.inf)
        for name in names
    ]
    return seen


def _count(log, table, name, values):
    """The different values of a column at both ends, and how many rows have each."""
    import ibis

    counts = table.group_by(value=table[name]).aggregate(count=table.count())
    ranked = counts.mutate(
        low=ibis.row_number().over(order_by=counts.value),
        different=counts.count().over(),
    )
    ends = (ranked.low < KEPT) | (ranked.low >= ranked.different - KEPT)
    found = log.queries.rows(ranked.filter(ends).order_by("value"))
    values.value = np.array([row["value"] for row in found])
    values.count = np.array([float(row["count"]) for row in found])
    values.many = bool(found[0]["different"] > 2 * KEPT)


def repeats(log: Any, table: Any, names: Iterable[str]) -> Repeats:
    """How often the rows of a table have the same in all columns `names`."""
    counts = table.group_by(list(names)).aggregate(n=table.count())
    pairs = (counts.n.cast("float64") * (counts.n - 1) / 2).sum()
    asked = {"rows": counts.n.sum(), "distinct": counts.count(), "pairs": pairs}
    (found,) = log.queries.rows(counts.aggregate(**asked))
    return Repeats(1 - found["distinct"] / found["rows"], found["pairs"], found["distinct"])

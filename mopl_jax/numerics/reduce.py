"""Passes over the rows of a log, wherever the rows lie.

A computation over rows is a sequence of stages. A `Stage` summarises the rows of a `Block`, merges
the summaries of several blocks into the summary of all rows, and turns it into the state that the
next stage starts from. A place applies a stage to all of its rows:

| place | its blocks | summaries meet by |
|---|---|---|
| `Whole` | one, in memory | nothing to merge |
| `Stream` | one after the other, read anew in every pass | a fold |
| `Shards` | one on each device of a mesh axis | `all_gather` |
| `Prefixes` | the tiles of the prefixes of one log | prefix by prefix, for all prefixes at once |

A place knows nothing of estimators, and a stage nothing of places.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int


class Block(NamedTuple):
    """Consecutive rows of a log.

    `columns`: a record of arrays (m, …)
    `start` (): the number of the first row in the log; None where rows have no order, in a query
    engine
    `num_rows` (): how many rows the log has
    `num_valid` (): how many of the m are rows of the log; those after them only fill up. None: all
    """

    columns: Any
    start: Int[Array, ""] | np.int32 | None
    num_rows: Int[Array, ""] | int
    num_valid: Int[Array, ""] | None = None

    def number(self, size: int) -> Int[Array, " m"]:
        """The number of each of the `size` = m rows in the log; ValueError without an order."""
        if self.start is None:
            raise ValueError(
                "a query engine has rows in no order, which this estimator needs for its folds;"
                " choose snips, ips or beta_ips"
            )
        return self.start + jnp.arange(size, dtype=jnp.asarray(self.start).dtype)

    def mask(self, x: Float[Array, " m"], otherwise: float = 0.0) -> Float[Array, " m"]:
        """`x` (m,) in rows of the log, and `otherwise` in those that fill up."""
        if self.num_valid is None:
            return x
        valid = jnp.arange(x.shape[0], dtype=self.num_valid.dtype) < self.num_valid
        return jnp.where(valid, x, otherwise)


def whole_block(columns: Any, ordered: bool = True) -> Block:
    """All rows of a log as one block; `columns` is a record of arrays (n, …) and of scalars."""
    num_rows = next(x.shape[0] for x in jax.tree.leaves(columns) if x.ndim)
    return Block(columns, np.int32(0) if ordered else None, num_rows)


def shard_block(columns: Any, num_valid: Int[Array, ""], axis: str) -> Block:
    """The rows of one device along `axis` of a mesh, after those of the devices before it."""
    each = lax.all_gather(num_valid, axis)
    before = jnp.arange(each.shape[0], dtype=num_valid.dtype) < lax.axis_index(axis)
    start = jnp.sum(jnp.where(before, each, 0), dtype=num_valid.dtype)
    return Block(columns, start, jnp.sum(each, dtype=num_valid.dtype), num_valid)


class Monoid(NamedTuple):
    """How summaries meet.

    `merge`: summaries stacked along a first axis -> the summary of all of them
    `empty`: a summary -> the summary of no rows, of the same shapes
    """

    merge: Callable[[Any], Any]
    empty: Callable[[Any], Any]


ADD = Monoid(
    lambda parts: jax.tree.map(lambda x: jnp.sum(x, axis=0), parts),
    lambda part: jax.tree.map(jnp.zeros_like, part),
)


NOTHING = Monoid(lambda parts: (), lambda part: ())


def together(*monoids: Monoid) -> Monoid:
    """The monoid of tuples of summaries."""

    merges, empties = zip(*monoids, strict=True)
    return Monoid(*(lambda parts, f=f: _by_position(f, parts) for f in (merges, empties)))


def _by_position(functions, parts):
    return tuple(f(part) for f, part in zip(functions, parts, strict=True))


def of_each(monoid: Monoid) -> Monoid:
    """The monoid of lists of summaries."""
    return Monoid(*(lambda parts, f=f: list(map(f, parts)) for f in monoid))


class Stage(NamedTuple):
    """One pass over the rows.

    `summarise`: (state, block) -> the summary of a block
    `monoid`: how the summaries of several blocks meet
    `finish`: (state, summary of all rows) -> the state after the pass
    """

    summarise: Callable[[Any, Block], Any]
    monoid: Monoid
    finish: Callable[[Any, Any], Any]


def run_passes(place: Any, stages: Sequence[Stage], state: Any = None) -> Any:
    """The state after all `stages`, each applied to the rows of `place`."""
    for stage in stages:
        state = place.apply(stage, state)
    return state


def beside(*sequences: Sequence[Stage]) -> tuple[Stage, ...]:
    """Several sequences of stages in the passes of the longest; their states are a tuple."""
    passes = max(map(len, sequences))
    return tuple(_abreast([stages[k : k + 1] for stages in sequences]) for k in range(passes))


def _abreast(stages):
    """The stage whose state is a tuple; a sequence that has ended keeps its state."""

    def each(function, states, *more):
        states = (None,) * len(stages) if states is None else states
        return tuple(map(function, stages, states, *more))

    def summarise(states, block):
        return each(lambda stage, state: stage[0].summarise(state, block) if stage else (), states)

    def finish(states, parts):
        return each(lambda stage, *x: stage[0].finish(*x) if stage else x[0], states, parts)

    monoids = [stage[0].monoid if stage else NOTHING for stage in stages]
    return Stage(summarise, together(*monoids), finish)


def _stack(*parts):
    return jax.tree.map(lambda *x: jnp.stack(x), *parts)


class Whole(NamedTuple):
    """All rows in memory."""

    block: Block

    def apply(self, stage: Stage, state: Any) -> Any:
        """The state after the pass."""
        return stage.finish(state, stage.summarise(state, self.block))


class Stream(NamedTuple):
    """Blocks of one size, one after the other; `open` reads them anew for every pass."""

    open: Callable[[], Iterable[Block]]

    def apply(self, stage: Stage, state: Any) -> Any:
        """The state after the pass: every block in one compiled body."""
        summarise = jax.jit(stage.summarise)
        merge = jax.jit(lambda *parts: stage.monoid.merge(_stack(*parts)))
        total = None
        for block in self.open():
            part = summarise(state, block)
            total = part if total is None else merge(total, part)
        return jax.jit(stage.finish)(state, total)


class Shards(NamedTuple):
    """The block of one device along `axis` of a mesh; every device gets the state of all rows."""

    block: Block
    axis: str

    def apply(self, stage: Stage, state: Any) -> Any:
        """The state after the pass."""
        part = stage.summarise(state, self.block)
        return stage.finish(state, stage.monoid.merge(lax.all_gather(part, self.axis)))


class Prefixes(NamedTuple):
    """The first n rows of a log, for several n: states and summaries have a first axis over n.

    Each prefix is cut into tiles of one shape, so that one compiled body serves them all.

    `tiles`: the blocks of all prefixes, stacked
    `prefix` (t,): the number of the prefix that a tile belongs to
    """

    tiles: Block
    prefix: np.ndarray

    def apply(self, stage: Stage, state: Any) -> Any:
        """The states after the pass."""
        of_tile = jax.tree.map(lambda x: x[self.prefix], state)
        parts = jax.vmap(stage.summarise)(of_tile, self.tiles)
        empty = stage.monoid.empty(parts)

        def merge(own):
            kept = jax.tree.map(
                lambda x, y: jnp.where(own.reshape(-1, *[1] * (x.ndim - 1)), x, y), parts, empty
            )
            return stage.monoid.merge(kept)

        own = jnp.asarray(self.prefix[None, :] == np.arange(self.prefix[-1] + 1)[:, None])
        return jax.vmap(stage.finish)(state, jax.vmap(merge)(own))


def prefixes(columns: Any, sizes: Sequence[int]) -> Prefixes:
    """The prefixes of ascending `sizes` of a log in memory; `columns` has arrays (n, …).

    A tile has 512 rows, or a 64th of a longer log: that bounds what the last tile of each prefix
    wastes.
    """
    length = min(sizes[-1], max(512, math.ceil(sizes[-1] / 64)))
    tiles = [(k, i) for k, n in enumerate(sizes) for i in range(math.ceil(n / length))]
    prefix, index = np.array(tiles, np.int32).T

    def cut(x):
        padded = jnp.pad(x[: sizes[-1]], [(0, -sizes[-1] % length)] + [(0, 0)] * (x.ndim - 1))
        return padded.reshape(-1, length, *x.shape[1:])[index]

    start, num_rows = index * np.int32(length), np.asarray(sizes, np.int32)[prefix]
    block = Block(
        jax.tree.map(cut, columns),
        jnp.asarray(start),
        jnp.asarray(num_rows),
        jnp.asarray(num_rows - start),
    )
    return Prefixes(block, prefix)

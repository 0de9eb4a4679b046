"""Where a log's rows lie: in one vector, or in parts whose sums and maxima are joined.

Estimators and moments are written for one vector of rows and take every sum and maximum over
rows through a `Rows`. For `WHOLE` these are the plain reductions. `over_prefixes` cuts many
prefixes into tiles that one compiled body serves; `shard` is one device's part. Rows that only
fill up a part come after its `here` own and have log weight −inf.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class Rows(NamedTuple):
    """The first `here` rows at hand are number `start` and on of `n`; `add` and `most` join sums
    and maxima of the parts.

    None: the rows at hand are all.
    """

    n: Int[Array, ""] | None = None
    start: Int[Array, ""] | np.int32 = np.int32(0)
    here: Int[Array, ""] | None = None
    add: Callable = lambda part: part
    most: Callable = lambda part: part

    def count(self, x: Float[Array, " m"]) -> Float[Array, ""]:
        """How many rows there are, in the dtype of `x`."""
        return jnp.asarray(x.shape[0] if self.n is None else self.n, x.dtype)

    def total(self, x: Float[Array, " m"]) -> Float[Array, ""]:
        """The sum over all rows."""
        return self.add(jnp.sum(x))

    def top(self, x: Float[Array, " m"]) -> Float[Array, ""]:
        """The maximum over all rows, without gradient."""
        return self.most(jnp.max(lax.stop_gradient(x)))

    def first(self, x: Float[Array, " m"]) -> Float[Array, ""]:
        """The entry of the first row."""
        return (
            x[0] if self.n is None else self.total(self.kept(jnp.where(self._number(x) == 0, x, 0)))
        )

    def kept(self, x: Float[Array, " m"], otherwise: float = 0.0) -> Float[Array, " m"]:
        """`x`, and `otherwise` in the rows that only fill up."""
        return x if self.here is None else jnp.where(_index(x) < self.here, x, otherwise)

    def heaviest(self, log_weight: Float[Array, " m"]) -> Bool[Array, " m"]:
        """The one row of largest weight; the first of several."""
        number = self._number(log_weight)
        heavy = self.kept(log_weight, -jnp.inf) == self.top(log_weight)
        return number == -self.most(jnp.max(jnp.where(heavy, -number, jnp.iinfo(number.dtype).min)))

    def _number(self, x):
        return self.start + _index(x)


def _index(x):
    return jnp.arange(x.shape[0], dtype=jnp.int32)


WHOLE = Rows()


def shard(here: Int[Array, ""], axis: str) -> Rows:
    """The part of the rows that one device along a mesh's `axis` has; no gradient passes through a
    maximum.
    """
    each = lax.all_gather(here, axis)
    before = jnp.arange(each.shape[0], dtype=here.dtype) < lax.axis_index(axis)
    start = jnp.sum(jnp.where(before, each, 0), dtype=here.dtype)
    join = lambda collective: lambda part: collective(part, axis)  # noqa: E731
    return Rows(jnp.sum(each, dtype=here.dtype), start, here, join(lax.psum), join(lax.pmax))


def over_prefixes(function: Callable, sizes: Sequence[int], *vectors: Float[Array, " n"]):
    """`function(rows, *prefixes)`, made of sums and maxima over `rows`, stacked over the
    prefixes of ascending `sizes`.

    Prefixes are cut into tiles of one shape, so that one compiled body serves them all: 512
    rows, or a 64th of a longer log, which bounds what the last tile of each prefix wastes.
    """
    length = min(sizes[-1], max(512, math.ceil(sizes[-1] / 64)))
    tiles = [(k, i) for k, n in enumerate(sizes) for i in range(math.ceil(n / length))]
    size, index = np.array(tiles, np.int32).T
    cut = [
        jnp.pad(x[: sizes[-1]], (0, -sizes[-1] % length)).reshape(-1, length)[index]
        for x in vectors
    ]
    of_tile = lambda k, start, *x: function(_tile(sizes, k, start), *x)  # noqa: E731
    made = jax.vmap(of_tile, axis_name="tile")(
        jnp.asarray(size), jnp.asarray(index * np.int32(length)), *cut
    )
    first = np.searchsorted(size, range(len(sizes)))
    return jax.tree.map(lambda x: x[first], made)


def _tile(sizes, k, start):
    """Rows of a tile of prefix number `k`: what its tiles sum to is told apart from what those of
    others do.
    """
    mine = jnp.arange(len(sizes), dtype=jnp.int32) == k

    def join(collective, part, least):
        each = collective(jnp.where(mine, part, least), "tile")
        return jnp.sum(
            jnp.where(mine, each, 0), dtype=each.dtype
        )  # looking it up is slower, and hides from the compiler what is equal

    add = lambda part: join(lax.psum, part, 0)  # noqa: E731
    most = lambda part: join(lax.pmax, part, _least(part.dtype))  # noqa: E731
    n = jnp.asarray(sizes, jnp.int32)[k]
    return Rows(n, start, n - start, add, most)


def _least(dtype):
    return -jnp.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min

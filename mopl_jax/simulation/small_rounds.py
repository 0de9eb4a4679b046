"""Small rounds that all teach: each explores around the weights that a surface of all rows so far
takes for the best.

A few hundred users tell little, but of all weights around those that are played, and the next ones
are played around better weights. The surface is quadratic, with a level of each round's own, so
that what changed between rounds favours nothing; slopes and bends have the prior variances of the
largest evidence, so that noise moves nothing far. No round is tested, and none certifies.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.random import fold_in
from jax.sharding import Mesh
from jaxtyping import ArrayLike, Float

from mopl_jax.learning.evidence import Posterior, most_evident
from mopl_jax.logs import Logs
from mopl_jax.numerics import quadratic
from mopl_jax.numerics.shapes import OneKey
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.simulation import online
from mopl_jax.simulation.online import Recommender

POOL = 4000  # weights among which the next ones are chosen

Choice = Callable[[Posterior, np.random.Generator], ArrayLike]


class Search(NamedTuple):
    """How small rounds explore.

    `users`: of a round
    `scale`: standard deviation of the exploration
    `radius`: how far the next weights may be from the last, in `scale`
    """

    users: int
    scale: float
    radius: float


class Searched(NamedTuple):
    """After a small round: its rows, what played them, and the `weights` (d,) that all rows so far
    make the best.
    """

    logs: Logs
    logging: Gaussian
    weights: Float[np.ndarray, " d"]


def believed(posterior: Posterior, rng: np.random.Generator) -> ArrayLike:
    """The surface's coefficients as they are believed to be (greedy)."""
    return posterior.mean


def search(
    platform: Recommender,
    start: Float[np.ndarray, " d"],
    key: OneKey,
    rounds: int,
    how: Search,
    metric: Float[np.ndarray, " k"] | None = None,
    mesh: Mesh | None = None,
    earlier: Sequence[Logs] = (),
    choose: Choice = believed,
) -> Iterator[Searched]:
    """So many small rounds from the weights `start` (d,); rows of `earlier` rounds teach too.

    Weights keep their length. `choose` picks the coefficients that are followed.
    """
    now, rng = np.asarray(start, float), np.random.default_rng(np.asarray(jax.random.key_data(key)))
    known = [_products(logs, start, how.scale) for logs in earlier]
    for number in range(rounds):
        logging = Gaussian.diagonal(jnp.asarray(now, jnp.float32), how.scale)
        traffic = online.play(platform, logging, fold_in(key, number), (0, how.users), mesh)
        logs = online.log(traffic, logging, metric)
        known = [jax.tree.map(lambda *x: sum(x), *known, _products(logs, start, how.scale))]
        surface = jax.device_get(_most_evident(*map(jnp.asarray, known[0]), now.size))
        now = _next(choose(surface, rng), now, start, how, rng)
        yield Searched(logs, logging, now)


def _products(logs, start, scale):
    """Sums over rows, less their means, of the products of slopes and bends with each other and
    with the reward, and of the reward's square; the number of rows.
    """
    features = quadratic.features((np.asarray(logs.action, float) - start) / scale)[:, 1:]
    table = np.concatenate([features, np.asarray(logs.reward, float)[:, None]], axis=1)
    table = table - table.mean(axis=0)
    sums = table.T @ table
    return sums[:-1], sums[-1, -1], len(table) - 1.0


@functools.partial(jax.jit, static_argnames="d")
def _most_evident(table, square, n, d):
    group = np.repeat([1, 2], [d, len(table) - d])  # nothing is in the group that is not shrunk
    return most_evident(table, square, n, group)


def _next(coefficients, now, start, how, rng):
    """The best of weights as long as the first ones, at most the radius away; these, if none is."""
    away = rng.normal(size=(POOL, now.size))
    away *= how.radius * how.scale * rng.random((POOL, 1)) / np.linalg.norm(away, axis=1)[:, None]
    pool = np.concatenate([now[None], now + away])
    pool *= np.linalg.norm(start) / np.linalg.norm(pool, axis=1, keepdims=True)
    features = quadratic.features((pool - start) / how.scale)[:, 1:]
    return pool[np.argmax(features @ np.asarray(coefficients, float))]

"""The reference cell of the speed studies: its world, and this package's contenders for it."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._by_hand import ALPHA, MEAN, NOISE, SCALE, SIZES, TRUTH, D
from mopl_jax.coverage import engine
from mopl_jax.coverage.world import Grid, World
from mopl_jax.numerics import devices
from mopl_jax.policies import Gaussian
from mopl_jax.simulation.environments import Environment, Linear, Normal

GRID = Grid(SIZES, ("snips",), ("normal",), ALPHA)
MEMORY = 48 * 2**20  # bytes for a batch, as the command's default on CPU


def world() -> World:
    """The reference world in five dimensions."""
    reward = Linear(jnp.full(D, 1 / D), jnp.asarray(0.0))
    environment = Environment(reward, Normal(jnp.asarray(NOISE)))
    target = Gaussian.diagonal(jnp.full(D, MEAN), SCALE)
    return World("speed", D, environment, Gaussian.diagonal(jnp.zeros(D), 1.0), {"target": target})


def mopl(replicates, seed):
    """This package, on a mesh of one device a core."""
    mesh = devices.start()
    size = 2 * engine.chunk(SIZES[-1]) * mesh.size
    batches = engine.run(jax.random.key(seed), world(), GRID, (0, replicates), size, mesh)
    hits = [_hits(cell) for batch in batches for cell in batch.values()]
    return np.sum(hits, axis=0), replicates * SIZES[-1]


def _hits(cell):
    return ((cell.lower <= TRUTH) & (cell.upper >= TRUTH)).sum(axis=0)[:, 0]


def draws_only(replicates, seed):
    """The normals of this package's sweep, drawn and thrown away: the floor under its time."""
    mesh = devices.start()
    size, n = 2 * engine.chunk(SIZES[-1]) * mesh.size, SIZES[-1]
    for start in range(0, replicates, size):
        keys = engine.batch_keys(jax.random.key(seed), start, size, mesh)
        action = engine.draw_batch(keys, world().logging, n, mesh)
        reward = engine.reward_batch(keys, world().environment, action, mesh)
        jax.block_until_ready((action, reward))
    return None, replicates * n


def seconds(function: Callable, replicates: int, seed: int) -> tuple:
    """Wall time of a contender, its hits and rows."""
    started = time.perf_counter()
    hits, rows = function(replicates, seed)
    return time.perf_counter() - started, hits, rows

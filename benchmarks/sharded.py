"""How long does one step of learning take on a million rows? Value and gradient of a lower
bound, on one device and on two.

d = 10, `ess_exact`, gradient with respect to mean and scale. `read` sums the log's columns; the
floor is the log's bytes at the memory bandwidth of a copy. Rounds are interleaved, and the
fastest of each counts. Values on two devices are compared with those on one.
"""

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks import _study
from mopl_jax import intervals
from mopl_jax.evaluation import sharded
from mopl_jax.logs import Logs
from mopl_jax.numerics import devices
from mopl_jax.policies import Gaussian

SIZES = {"n": 10**6, "rounds": 15}
QUICK = {"n": 10**4, "rounds": 2}
D = 10


def log(n: int) -> Logs:
    """Rows of a linear world under a standard normal policy."""
    rng = np.random.default_rng(0)
    action = rng.standard_normal((n, D), np.float32)
    reward = action.mean(axis=1) + np.float32(0.25) * rng.standard_normal(n, np.float32)
    policy = Gaussian.diagonal(np.zeros(D, np.float32), 1.0)
    log_propensity = jax.vmap(policy.log_density)(jnp.asarray(action))
    return Logs(jnp.asarray(action), log_propensity, jnp.asarray(reward))


@jax.jit
def step(spread, policy):
    """The lower bound and its gradient."""
    return jax.value_and_grad(
        lambda policy: sharded.bound(spread, policy, intervals.ess_exact, 0.05)
    )(policy)


@jax.jit
def evaluate(spread, policy):
    """The moments alone."""
    return sharded.moments(spread, policy)


@jax.jit
def read(spread, _):
    """Every column once."""
    return jax.tree.map(jnp.sum, spread.logs)


TASKS = {"read": read, "evaluate": evaluate, "step": step}


def bandwidth(n: int, rounds: int) -> float:
    """Bytes a second of a large copy, read and written, on one core."""
    source = np.ones(n * D, np.float32)
    target, took = np.empty_like(source), []
    for _ in range(rounds):
        started = time.perf_counter()
        np.copyto(target, source)
        took.append(time.perf_counter() - started)
    return 2 * source.nbytes / min(took)


def run(options) -> _study.Rows:
    """Milliseconds of each task on one device and on two; floor and worst difference beside."""
    devices.start("2")
    policy, logs = Gaussian.diagonal(jnp.full(D, 0.1), 0.8), log(options.n)
    spreads = {k: sharded.spread(logs, Mesh(np.array(jax.devices()[:k]), ("r",))) for k in (1, 2)}
    cells = list(itertools.product(spreads, TASKS))
    took = {cell: [] for cell in cells}
    for _, (k, name) in itertools.product(range(options.rounds + 1), cells):
        started = time.perf_counter()
        jax.block_until_ready(TASKS[name](spreads[k], policy))
        took[k, name].append(time.perf_counter() - started)
    rows = [{"task": n, "devices": k, "milliseconds": 1e3 * min(took[k, n])} for k, n in cells]
    size = 4 * options.n * (D + 2)
    return _study.Rows(
        rows,
        n=options.n,
        d=D,
        bytes=size,
        bandwidth_floor_milliseconds=1e3 * size / bandwidth(options.n, options.rounds),
        worst_relative_difference=_worst(
            *(jax.device_get(step(spread, policy)) for spread in spreads.values())
        ),
    )


def _worst(one, two):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return max(float(np.max(np.abs(a - b) / np.abs(a))) for a, b in pairs)


def table(rows: _study.Rows) -> str:
    """Milliseconds, the floor and the difference."""
    floor, worst = (
        rows.about[key] for key in ("bandwidth_floor_milliseconds", "worst_relative_difference")
    )
    return (
        f"{_study.plain(rows)}\n\nThe bytes of the log at the bandwidth of a copy: {floor:.2f} ms;"
        f" two devices differ from one by {worst:.1e}."
    )

"""How long does one step of learning take on a million rows? Value and gradient of a lower
bound, on one device and on two.

d = 10, `ess_exact`, gradient with respect to mean and scale. `read` sums the log's columns; the
floor is the log's bytes at the memory bandwidth of a copy. Rounds are interleaved, and the
fastest of each counts. Values on two devices are compared with those on one.
"""

import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mopl_jax import intervals
from mopl_jax.evaluation import sharded
from mopl_jax.io import storage
from mopl_jax.logs import Logs
from mopl_jax.numerics import devices
from mopl_jax.policies import Gaussian

RESULTS = Path(__file__).parent / "results"
N, D, ROUNDS = 10**6, 10, 15


def log() -> Logs:
    """A million rows of a linear world under a standard normal policy."""
    rng = np.random.default_rng(0)
    action = rng.standard_normal((N, D), np.float32)
    reward = action.mean(axis=1) + np.float32(0.25) * rng.standard_normal(N, np.float32)
    log_propensity = jax.vmap(Gaussian.diagonal(np.zeros(D, np.float32), 1.0).log_density)(
        jnp.asarray(action)
    )
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


def bandwidth() -> float:
    """Bytes a second of a large copy, read and written, on one core."""
    source = np.ones(N * D, np.float32)
    target, took = np.empty_like(source), []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        np.copyto(target, source)
        took.append(time.perf_counter() - started)
    return 2 * source.nbytes / min(took)


def main() -> None:
    """Print milliseconds and write results/sharded.json."""
    devices.start("2")
    policy, logs = Gaussian.diagonal(jnp.full(D, 0.1), 0.8), log()
    spreads = {k: sharded.spread(logs, Mesh(np.array(jax.devices()[:k]), ("r",))) for k in (1, 2)}
    timed = {"read": read, "evaluate": evaluate, "step": step}
    took = {(name, k): [] for k in spreads for name in timed}
    for _ in range(ROUNDS + 1):
        for k, spread in spreads.items():
            for name, function in timed.items():
                started = time.perf_counter()
                jax.block_until_ready(function(spread, policy))
                took[name, k].append(time.perf_counter() - started)
    one, two = (jax.device_get(step(spread, policy)) for spread in spreads.values())
    worst = max(
        float(np.max(np.abs(a - b) / np.abs(a)))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    )
    table = {f"{name}, {k} devices": 1e3 * min(times) for (name, k), times in took.items()}
    floor = 1e3 * 4 * N * (D + 2) / bandwidth()
    document = storage.provenance(n=N, d=D, bytes=4 * N * (D + 2)) | {
        "milliseconds": table,
        "bandwidth_floor_milliseconds": floor,
        "worst_relative_difference": worst,
    }
    print("\n".join(f"{name:22} {time:8.2f} ms" for name, time in table.items()))
    print(
        f"the bytes of the log at the bandwidth of a copy: {floor:.2f} ms; two devices differ from"
        f" one by {worst:.1e}"
    )
    (RESULTS / "sharded.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()

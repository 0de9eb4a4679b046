"""How long does a million rows take? One log of n = 1,000,000 rows, d = 10, learnt in float64, as
by the command: compile and run time, memory.
"""

import functools
import resource
import time

import jax
import jax.numpy as jnp

from mopl_jax.learning.proposal import propose
from mopl_jax.logs import Logs
from mopl_jax.policies import Gaussian

SIZES = {"n": 1_000_000}
QUICK = {"n": 2000}
D = 10


@functools.partial(jax.jit, static_argnames="n")
def log(n: int) -> Logs:
    """A reward that saturates in one direction, noise of standard deviation 0.5, logging N(0,
    I).
    """
    policy = Gaussian.diagonal(jnp.zeros(D), 1.0)
    action = jax.random.normal(jax.random.key(0), (n, D))
    mean = jnp.tanh(action.sum(axis=1)) - 0.1 * jnp.square(action).sum(axis=1)
    reward = mean + 0.5 * jax.random.normal(jax.random.key(1), (n,))
    return Logs(action, jax.vmap(policy.log_density)(action), reward)


def run(options) -> list[dict]:
    """One row."""
    jax.config.update("jax_enable_x64", True)
    logs = jax.block_until_ready(log(options.n))
    started = time.perf_counter()
    rows = jnp.asarray(float(options.n))
    compiled = propose.full.lower(logs, rows).compile()
    middle = time.perf_counter()
    found = jax.block_until_ready(compiled(logs, rows))
    seconds = time.perf_counter() - middle
    return [
        {
            "rows": options.n,
            "d": D,
            "compile_seconds": middle - started,
            "run_seconds": seconds,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "promised": float(found.promised.less(1.645)),
            "ess": float(found.promised.ess),
        }
    ]

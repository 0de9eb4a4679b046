"""How long does a million rows take? One log of n = 1,000,000 rows, d = 10, learnt in float32:
compile and run time, memory.
"""

import json
import resource
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from mopl_jax.io import storage
from mopl_jax.learning.refinement import learn
from mopl_jax.logs import Logs
from mopl_jax.policies import Gaussian

RESULTS = Path(__file__).parent / "results"
ROWS, D = 1_000_000, 10


def log() -> Logs:
    """A reward that saturates in one direction, noise of standard deviation 0.5, logging N(0,
    I).
    """
    policy = Gaussian.diagonal(jnp.zeros(D), 1.0)
    action = jax.random.normal(jax.random.key(0), (ROWS, D))
    mean = jnp.tanh(action.sum(axis=1)) - 0.1 * jnp.square(action).sum(axis=1)
    reward = mean + 0.5 * jax.random.normal(jax.random.key(1), (ROWS,))
    return Logs(action, jax.vmap(policy.log_density)(action), reward)


def main() -> None:
    """Write results/learning_speed.json."""
    logs = jax.block_until_ready(jax.jit(log)())
    started = time.perf_counter()
    compiled = jax.jit(learn).lower(logs).compile()
    middle = time.perf_counter()
    found = jax.block_until_ready(compiled(logs))
    seconds = time.perf_counter() - middle
    facts = {
        "rows": ROWS,
        "d": D,
        "compile_seconds": middle - started,
        "run_seconds": seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "steps": int(found.learnt.steps),
        "accepted": found.accepted.tolist(),
        "bound": float(found.learnt.bound),
        "ess": float(found.learnt.ess),
        "provenance": storage.provenance(),
    }
    (RESULTS / "learning_speed.json").write_text(json.dumps(facts, indent=1) + "\n")
    print({key: value for key, value in facts.items() if key != "provenance"})


if __name__ == "__main__":
    main()

"""Does an interval cover on rewards like yours? A world and an interval of your own.

python examples/how_often_it_covers.py: 3 % of visits end in a purchase, of log-normal size; 400
logs of 500 visits each.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax import estimators, intervals
from mopl_jax.coverage.engine import replicate
from mopl_jax.logs import log_weights
from mopl_jax.policies import Gaussian
from mopl_jax.simulation.environments import Environment, Exponential, ZeroInflated

SPENDING = Exponential(jnp.array([0.3, -0.2, 0.1]), jnp.array(0.5), jnp.array(0.0))
WORLD = Environment(SPENDING, ZeroInflated(jnp.array(0.03), jnp.array(0.7)))
LOGGING, TARGET = Gaussian.diagonal(np.zeros(3), 1.0), Gaussian.diagonal(np.full(3, 0.3), 0.7)
TRUTH = SPENDING.expectation(TARGET)


def twice_normal(estimate, alpha):
    """Your own: a function of an estimate and a level."""
    plain = intervals.normal(estimate, alpha)
    return intervals.Interval(2 * plain.lower - estimate.value, 2 * plain.upper - estimate.value)


INTERVALS = {
    "normal": intervals.normal,
    "recommended": intervals.recommended,
    "twice normal": twice_normal,
}


@functools.partial(jax.jit, static_argnames="n")
def covered(key, n=500):
    """Whether each interval of one log holds the truth."""
    logs = replicate(key, WORLD, LOGGING, n)
    estimate = estimators.snips(log_weights(TARGET, logs), logs.reward)
    return {name: found(estimate, 0.05).contains(TRUTH) for name, found in INTERVALS.items()}


def main(logs: int = 400) -> None:
    found = jax.lax.map(covered, jax.random.split(jax.random.key(0), logs), batch_size=50)
    for name, hits in found.items():
        print(f"{name:12} covers {hits.mean(dtype=float):.3f} of {logs} logs, nominally 0.95")


if __name__ == "__main__":
    main()

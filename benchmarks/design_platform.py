"""Does a plan predict the error of a gain on the platform? Predicted standard error beside the
spread over fresh logs.

The simulated short-video platform, d = 8, heterogeneous users, discrete reward: slope and noise
come from a pilot log.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._steps import log_ratios, logger, sizes_of, variance
from mopl_jax import estimators, planning
from mopl_jax.policies import Gaussian, Uniform
from mopl_jax.simulation import online, recommender

SIZES = {"pilot": 50_000, "logs": 100, "n": 5000}
QUICK = {"pilot": 4000, "logs": 8, "n": 1000}
SCALE = 0.3


def run(options) -> list[dict]:
    """One row for each logging policy."""
    platform, centre = recommender.short_video(), jnp.asarray(recommender.PRODUCTION)
    pilot = _played(platform, Gaussian.diagonal(centre, SCALE), 1, options.pilot)
    found = jax.jit(planning.surface)(*pilot, centre)
    step = 0.5 * SCALE * found.slope / jnp.linalg.norm(found.slope)
    policies = [Gaussian.diagonal(mean, 0.7 * SCALE) for mean in (centre + step, centre)]
    return [
        _row(kind, platform, centre, found, policies, options) for kind in ("normal", "uniform")
    ]


def _played(platform, logging, seed, rows):
    """Actions and rewards."""
    traffic = online.play(platform, logging, jax.random.key(seed), (0, rows))
    return jnp.asarray(traffic.action), jnp.asarray(traffic.signals[:, -1])


def _row(kind, platform, centre, found, policies, options):
    logging = _around(centre, logger(kind, len(centre), SCALE))
    rows = _played(platform, logging, 2, options.logs * options.n)
    gains = np.asarray(_gains(*rows, logging, *policies, n=options.n))
    spread = float(gains.std(ddof=1))
    predicted = variance(logging, policies[0], found.slope, found.noise, policies[1])
    return {
        "logging": kind,
        "d": len(centre),
        "pilot": options.pilot,
        "rows": options.n,
        "logs": options.logs,
        "ess": sizes_of(logging, policies[0], options.n)["ess"],
        "noise": float(found.noise),
        "predicted": math.sqrt(float(predicted) / options.n),
        "observed": spread,
        "observed_se": spread / math.sqrt(2 * (options.logs - 1)),
    }


def _around(centre, logging):
    if isinstance(logging, Uniform):
        return Uniform(centre + logging.low, centre + logging.high)
    return Gaussian(centre, logging.scale)


@functools.partial(jax.jit, static_argnames="n")
def _gains(action, reward, logging, target, production, n):
    """The difference of SNIPS values, (logs,), of consecutive logs of n rows."""

    def one(rows):
        action, reward = rows
        weights = log_ratios((target, production), logging, action)
        ours, theirs = (estimators.snips(w, reward) for w in weights)
        return ours.value - theirs.value

    return jax.lax.map(one, (action.reshape(-1, n, action.shape[-1]), reward.reshape(-1, n)))

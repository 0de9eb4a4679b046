"""What the design studies share: a step of the weights, who logs, and logs that certify it."""

import functools
import math

import jax
import jax.numpy as jnp

from mopl_jax import estimators, intervals, planning
from mopl_jax.numerics import random
from mopl_jax.policies import Gaussian, Uniform

SMOOTHING, NOISE, SLOPE, ALPHA, POWER = 0.5, 0.5, 0.1, 0.05, 0.8
INTERVALS = ("normal", "ess_exact")


def step_of(d: int, length: float) -> tuple[Gaussian, Gaussian, jax.Array]:
    """Target, production, slope; the slope lies along the step and has the same length in every
    dimension.
    """
    ones = jnp.full(d, 1 / math.sqrt(d))
    target, production = (Gaussian.diagonal(s * ones, SMOOTHING) for s in (length, 0.0))
    return target, production, SLOPE * ones


def logger(kind: str, d: int, scale: float) -> Gaussian | Uniform:
    """Normal or uniform logging around the current weights with this standard deviation in each
    weight.
    """
    edge = jnp.full(d, math.sqrt(3) * scale)
    return Uniform(-edge, edge) if kind == "uniform" else Gaussian.diagonal(jnp.zeros(d), scale)


variance = jax.jit(planning.variance)


def log_ratios(policies, logging, action) -> list[jax.Array]:
    """Log weights (n,) of each policy."""
    return [
        jax.vmap(lambda a, p=policy: p.log_density(a) - logging.log_density(a))(action)
        for policy in policies
    ]


@functools.partial(jax.jit, static_argnames="n")
def simulated(keys, logging, target, production, surface, n):
    """Lower ends (r, 2) of the difference by `normal` and `ess_exact`, and the mean reward lost by
    exploring (r,).
    """
    limits = [intervals.lower(getattr(intervals, name)) for name in INTERVALS]

    def one(key):
        action = jax.vmap(logging.sample)(random.row_keys(key, n))
        mean = jax.vmap(surface)(action)
        noise_keys = random.row_keys(jax.random.fold_in(key, 1), n)
        noise = jax.vmap(lambda k: random.normal(k, 1)[0])(noise_keys)
        weights = log_ratios((target, production), logging, action)
        ours, theirs = (estimators.snips(w, mean + NOISE * noise) for w in weights)
        gain = estimators.difference(ours, theirs)
        lost = surface(jnp.zeros_like(action[0])) - jnp.mean(mean)
        return jnp.stack([limit(gain, ALPHA).lower for limit in limits]), lost

    return jax.lax.map(one, keys, batch_size=4)


def sizes_of(logging, target, n: float) -> dict[str, float]:
    """Effective rows of n, and the target's mass in the box of uniform logging."""
    return {
        "ess": n * float(planning.ess_share(logging, target)),
        "in_box": float(planning.coverage_of_box(logging, target)),
    }

"""How widely should one explore? Certified regret against the scale of exploration.

A quadratic surface, n decisions explored and a horizon after. The simulated points average what
exploring lost and what the certificate held back, with the interval's own standard error.
"""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from benchmarks._steps import (
    ALPHA,
    NOISE,
    SMOOTHING,
    logger,
    simulated,
    sizes_of,
    step_of,
    variance,
)
from mopl_jax import planning
from mopl_jax.policies import Gaussian
from mopl_jax.simulation.environments import Quadratic

SIZES = {"replicates": 500, "d": (5, 10), "logged": 10_000}
QUICK = {"replicates": 8, "d": (5,), "logged": 500}
FEW, INSIDE = 100, 0.99  # no simulated point below these: effective rows; target's mass in the box
CURVATURE, HORIZON, STEP = 0.02, 100_000, 0.5
SCALES = tuple(float(s) for s in np.geomspace(0.37, 2, 40))


def run(options) -> list[dict]:
    """The curve of every kind and dimension, its minimum, and simulated points."""
    return [row for d in options.d for row in _curves(d, options)]


def _curves(d, options) -> Iterator[dict]:
    for kind in ("normal", "uniform"):
        for i, scale in enumerate(SCALES):
            yield regret(kind, d, scale, options.logged, options.replicates * (i % 6 == 2))
    for label, scale in (("least", least_scale(d, options.logged)), ("densest", densest_scale(d))):
        yield regret("normal", d, scale, options.logged, 0) | {"logging": label}


def densest_scale(d: int) -> float:
    """The scale of most effective rows."""
    return float(planning.densest_scale(d, STEP, SMOOTHING))


def least_scale(d: int, logged: int) -> float:
    """The scale of least certified regret."""
    target, production, slope = step_of(d, STEP)

    def loss(s):
        logging = Gaussian(jnp.zeros(d), jnp.full(d, 1.0) * s)
        cost = planning.exploration_cost(CURVATURE * jnp.eye(d), logging.covariance)
        spread = planning.variance(logging, target, slope, NOISE, production)
        return planning.certified_regret(logged, cost, spread, HORIZON, ALPHA)

    return float(planning.least(loss, 0.36, 4.0))


def regret(kind: str, d: int, scale: float, logged: int, replicates: int) -> dict:
    """Certified regret at one scale, in closed form and, with replicates, from simulated logs on
    the curved surface.
    """
    target, production, slope = step_of(d, STEP)
    logging, curvature = logger(kind, d, scale), CURVATURE * jnp.eye(d)
    cost = float(planning.exploration_cost(curvature, scale**2 * jnp.eye(d)))
    spread = variance(logging, target, slope, NOISE, production)
    total = float(planning.certified_regret(logged, cost, spread, HORIZON, ALPHA))
    row = {"d": d, "logging": kind, "scale": scale, "cost": logged * cost, "regret": total}
    row |= sizes_of(logging, target, logged)
    if not replicates or row["ess"] < FEW or row["in_box"] < INSIDE:
        return row | {"simulated": None, "simulated_se": None}
    surface = Quadratic(jnp.zeros(()), slope / CURVATURE, curvature)
    gain = float(surface(target.mean) - surface(production.mean))  # smoothing costs both the same
    key = jax.random.fold_in(jax.random.key(19), int(1000 * scale))
    keys = jax.random.split(key, replicates)
    lower, lost = simulated(keys, logging, target, production, surface, logged)
    each = logged * np.asarray(lost) + HORIZON * (gain - np.asarray(lower)[:, 0])
    error = float(each.std(ddof=1) / math.sqrt(each.size))
    return row | {"simulated": float(each.mean()), "simulated_se": error}


def table(rows: list[dict]) -> str:
    """Simulated points and minima."""
    kept = [r for r in rows if r["simulated"] is not None or r["logging"] in ("least", "densest")]
    return _study.plain(kept)

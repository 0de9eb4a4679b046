"""Other learners: one objective whose coefficients are data, so that one compiled function serves
them all.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from benchmarks._north_stars import RADIUS, SCALE, standard
from mopl_jax import estimators
from mopl_jax.intervals import Interval
from mopl_jax.learning.constraints import ball
from mopl_jax.learning.objective import doubly_robust
from mopl_jax.learning.optimise import fit_many

ALPHA = 0.05
# self-normalised, doubly robust, standard errors subtracted, Cantelli's bound subtracted
CONTENDERS = {
    "ips": (0, 0, 0.0, 0.0),
    "poem": (0, 0, 1.0, 0.0),
    "pois": (0, 0, 0.0, 1.0),
    "snips": (1, 0, 0.0, 0.0),
    "snips_normal": (1, 0, 1.645, 0.0),
    "robust_normal": (1, 1, 1.645, 0.0),
}
OPTIMISER = optax.lbfgs(linesearch=optax.scale_by_zoom_linesearch(4))


def contender(logs, surface, setting, starts):
    """What one of `CONTENDERS` learns: the better of two starts."""
    normalised, modelled, errors, cantelli = setting
    n, d = logs.action.shape
    part = dataclasses.replace(
        surface,
        constant=modelled * surface.constant,
        slope=modelled * surface.slope,
        curvature=modelled * surface.curvature,
    )
    largest, h2 = jnp.max(jnp.abs(logs.reward)), SCALE**2

    def estimator(log_weight, reward):
        made = (estimators.ips(log_weight, reward), estimators.snips(log_weight, reward))
        return jax.tree.map(lambda a, b: jnp.where(normalised > 0, b, a), *made)

    def value_estimator(rows):
        value = doubly_robust(part, estimator)(rows)

        def penalised(policy):
            made = value(policy)
            d2 = (h2 * (2 - h2)) ** (-d / 2) * jnp.exp(jnp.sum(jnp.square(policy.mean)) / (2 - h2))
            cost = cantelli * largest * jnp.sqrt((1 - ALPHA) / ALPHA * d2 / n)
            return dataclasses.replace(made, value=made.value - cost)

        return penalised

    def interval(estimate, alpha):
        error = jnp.sqrt(jnp.sum(jnp.square(estimate.influence / n)) + 1e-30)
        return Interval(estimate.value - errors * error, estimate.value)

    return fit_many(
        logs,
        starts,
        jnp.full(d, SCALE),
        value_estimator=value_estimator,
        interval=interval,
        alpha=ALPHA,
        project=ball(standard(d), RADIUS),
        floor=0.0,
        steps=8,
        optimiser=OPTIMISER,
    )

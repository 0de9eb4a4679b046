"""What does each objective cost? ESS/n against the number of objectives, for uniform and for
normal logging.

A platform tries a small change of its scalarisation weights: target N(step·1/√d, width² I), the
step of fixed length in every dimension. Normal logging N(0, I) is compared with the uniform box
of the same variance, [−√3, √3] in each objective. The closed form n/d₂ stands beside the median
Kish ESS of simulated logs; with a d₂ near n no sample can show it.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax import policies
from mopl_jax.estimators import divergence, ess
from mopl_jax.numerics import random

SIZES = {"replicates": 200, "n": 16_384, "d": (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20)}
QUICK = {"replicates": 8, "n": 1024, "d": (1, 4)}
STEP, WIDTH = 0.5, 0.5


def loggers(d: int) -> dict[str, policies.Policy]:
    """Normal and uniform logging with unit variance in each objective."""
    edge = jnp.full(d, math.sqrt(3))
    normal = policies.Gaussian.diagonal(jnp.zeros(d), 1.0)
    return {"normal": normal, "uniform": policies.Uniform(-edge, edge)}


@functools.partial(jax.jit, static_argnames="n")
def _kish(keys, logging, target, n):
    def one(key):
        action = jax.vmap(logging.sample)(random.row_keys(key, n))
        return ess.kish(jax.vmap(lambda a: target.log_density(a) - logging.log_density(a))(action))

    return jax.lax.map(one, keys, batch_size=4)


def run(options) -> list[dict]:
    """Population and simulated ESS/n of both loggers in each dimension."""
    return [
        _row(d, name, logging, options) for d in options.d for name, logging in loggers(d).items()
    ]


def _row(d, name, logging, options):
    target = policies.Gaussian.diagonal(jnp.full(d, STEP / math.sqrt(d)), WIDTH)
    keys = jax.random.split(jax.random.key(d), options.replicates)
    share = np.asarray(_kish(keys, logging, target, options.n), float) / options.n
    low, median, high = np.quantile(share, (0.05, 0.5, 0.95))
    exact = float(1 / divergence.population_d2(logging, target))
    found = {"exact": exact, "median": median, "q05": low, "q95": high}
    return {"d": d, "logging": name, "n": options.n} | found

"""How do importance weights, effective rows and the winner's curse look? Three small pictures.

`weight`: the densities of a normal logging policy and target over one weight, and their ratio.
`ess`: the share of effective rows, 1/d₂, of a target that is moved, in one, five and ten weights.
`curse`: rewards that no weights change, so that every policy gains nothing. The best of K random
policies, chosen by SNIPS, seems to gain on the rows that chose it, and does not on others.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from mopl_jax.estimators import divergence, snips
from mopl_jax.logs import Logs, log_weights
from mopl_jax.policies import Gaussian

SIZES = {"logs": 400, "n": 2000, "candidates": 256}
QUICK = {"logs": 4, "n": 100, "candidates": 8}
MOVED, NARROW = 1.0, 0.6  # the target of the first picture, in units of the logging policy
DIMENSIONS, D, SCALE = (1, 5, 10), 5, 0.7
COLUMNS = ("picture", "line", "x", "y", "error")


def run(options) -> list[dict]:
    """Points (x, y) with an error, by `picture` and by `line` of it."""
    points = [*_weights(), *_sizes(), *_curse(options)]
    return [dict(zip(COLUMNS, point, strict=True)) for point in points]


def _policy(d: int, step: float, scale: float) -> Gaussian:
    return Gaussian.diagonal(jnp.full(d, step / math.sqrt(d)), scale)


def _weights():
    logging, target = _policy(1, 0, 1), _policy(1, MOVED, NARROW)
    for x in np.linspace(-3, 3.5, 131):
        played, wanted = (math.exp(p.log_density(jnp.array([x]))) for p in (logging, target))
        yield "weight", "logging density", float(x), played, 0.0
        yield "weight", "target density", float(x), wanted, 0.0
        yield "weight", "importance weight", float(x), wanted / played, 0.0


def _sizes():
    for d in DIMENSIONS:
        for step in np.linspace(0, 2.5, 26):
            d2 = divergence.population_d2(_policy(d, 0, 1), _policy(d, float(step), SCALE))
            yield "ess", f"d = {d}", float(step), 1 / float(d2), 0.0


def _curse(options):
    """Mean gains of the best of the first K candidates, over logs."""
    keys = jax.random.split(jax.random.key(0), options.logs)
    own, fresh = map(np.asarray, jax.lax.map(functools.partial(_gains, options=options), keys))
    for k in (2**i for i in range(options.candidates.bit_length())):
        best = np.argmax(own[:, :k], axis=1)[:, None]
        for line, gains in (("rows that chose", own), ("rows held out", fresh)):
            found = np.take_along_axis(gains, best, axis=1)
            yield (
                "curse",
                line,
                float(k),
                float(found.mean()),
                float(found.std() / len(found) ** 0.5),
            )


def _gains(key, options):
    """Gains (K,) over the logging mean of all candidates on two halves of a log, in standard
    deviations of the reward.
    """
    logging = _policy(D, 0, 1)
    means, draws, noise = (jax.random.fold_in(key, i) for i in range(3))
    action = jax.vmap(logging.sample)(jax.random.split(draws, 2 * options.n))
    logged = jax.vmap(logging.log_density)(action)
    reward = jax.random.normal(noise, (2 * options.n,))
    candidates = jax.random.normal(means, (options.candidates, D)) / math.sqrt(D)

    def values(half):
        logs = Logs(*(x[half] for x in (action, logged, reward)))

        def value(mean):
            return snips(log_weights(Gaussian.diagonal(mean, SCALE), logs), logs.reward).value

        return jax.lax.map(value, candidates) - value(jnp.zeros(D))

    return values(slice(None, options.n)), values(slice(options.n, None))


def table(rows: list[dict]) -> str:
    """The last picture; the others are closed forms."""
    return _study.plain([row for row in rows if row["picture"] == "curse"])

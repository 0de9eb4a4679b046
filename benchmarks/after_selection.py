"""Do intervals cover the value of a policy that was learnt from the same log? Against one that
was fixed before, and a fresh log.

Each replicate climbs a lower bound from the logging mean (`optimise.fit`, the scale fixed at 0.7
of the logger's) and is then evaluated on its own log and on an independent one of the same size;
truth is the exact value of the learnt policy.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from mopl_jax import estimators, intervals
from mopl_jax.coverage import engine
from mopl_jax.learning import optimise
from mopl_jax.logs import log_weights
from mopl_jax.policies import Gaussian
from mopl_jax.simulation.environments import Environment, Linear, LogNormal, Normal, Quadratic

SIZES = {"replicates": 200, "n": (64, 512), "d": (2, 5), "seed": 7}
QUICK = {"replicates": 16, "n": (64,), "d": (2,)}
SCALE, ALPHA = 0.7, 0.05
INTERVALS = ("normal", "ess_exact", "ess_safe", "recommended")
OBJECTIVES = {"normal bound": intervals.normal, "ess_exact bound": intervals.ess_exact}
LOGS = ("same log", "fresh log", "fixed policy")


def worlds(d: int) -> dict[str, Environment]:
    """A surface with an optimum within reach and one without, light and heavy noise."""
    peak = Quadratic(jnp.zeros(()), jnp.full(d, 0.8 / d**0.5), 0.3 * jnp.eye(d))
    slope = Linear(jnp.full(d, 0.3 / d**0.5), jnp.zeros(()))
    return {
        "quadratic": Environment(peak, Normal(jnp.asarray(0.5))),
        "log_normal": Environment(slope, LogNormal(jnp.ones(()), jnp.ones(()))),
    }


@functools.partial(jax.jit, static_argnames=("n", "objective"))
def _replicates(keys, environment, logging, n, objective):
    """Limits (r, which log, interval), and the values that they should contain."""
    named = [intervals.bind(name) for name in INTERVALS]
    start = Gaussian(logging.mean, SCALE * logging.scale)

    def judge(policy, logs):
        estimate = estimators.snips(log_weights(policy, logs), logs.reward)
        ends = [f(estimate, ALPHA) for f in named]
        return jnp.asarray([[x.lower, x.upper] for x in ends]), environment.policy_value(policy)

    def one(key):
        mine, fresh = (
            engine.replicate(jax.random.fold_in(key, i), environment, logging, n) for i in (0, 1)
        )
        learnt = optimise.fit(mine, start, interval=OBJECTIVES[objective], alpha=ALPHA)
        pairs = ((learnt.policy, mine), (learnt.policy, fresh), (start, mine))
        limits, truth = zip(*(judge(*pair) for pair in pairs), strict=True)
        return jnp.stack(limits), jnp.stack(truth), learnt.ess

    return jax.lax.map(one, keys, batch_size=16)


def run(options) -> list[dict]:
    """One row for each world, n, objective, log and interval."""
    return [
        row
        for d in options.d
        for name, environment in worlds(d).items()
        for n, objective in itertools.product(options.n, OBJECTIVES)
        for row in _rows({"world": name, "d": d, "n": n}, objective, environment, options)
    ]


def _rows(about, objective, environment, options) -> Iterator[dict]:
    logging = Gaussian.diagonal(jnp.zeros(about["d"]), 1.0)
    key = jax.random.fold_in(jax.random.key(options.seed), about["n"] + about["d"])
    keys = jax.random.split(key, options.replicates)
    found = _replicates(keys, environment, logging, about["n"], objective)
    limits, truths, size = map(np.asarray, found)
    for (k, log), (i, name) in itertools.product(enumerate(LOGS), enumerate(INTERVALS)):
        low, high = limits[:, k, i].T.astype(float)
        truth = truths[:, k]
        yield about | {
            "learnt by": objective,
            "evaluated on": log,
            "interval": name,
            "coverage": float(np.mean((low <= truth) & (truth <= high))),
            "replicates": options.replicates,
            "bound_valid": float(np.mean(low <= truth)),
            "width": float(np.median(high - low)),
            "ess_median": float(np.median(size)),
        }


def table(rows: list[dict]) -> str:
    """Coverage, then validity of the lower ends."""
    return (
        f"## Coverage of 95 % intervals\n\n{_shares(rows, 'coverage')}\n\n## Validity of their"
        f" lower ends, bounds at 97.5 %\n\n{_shares(rows, 'bound_valid')}"
    )


def _shares(rows, measure):
    """A share over all worlds, median (worst), by interval, objective, n and log."""
    keys = ("interval", "learnt by", "n")
    groups = _study.grouped(rows, *keys)
    order = itertools.product(INTERVALS, OBJECTIVES, dict.fromkeys(row["n"] for row in rows))
    lines = [[*cell, *_cells(groups[cell], measure)] for cell in order]
    return _study.markdown((*keys, *LOGS), lines, "llr")


def _cells(rows, measure):
    for log in LOGS:
        shares = [row[measure] for row in rows if row["evaluated on"] == log]
        yield f"{np.median(shares):.3f} ({min(shares):.3f})"

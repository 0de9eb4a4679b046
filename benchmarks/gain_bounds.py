"""What do lower bounds of a gain of clicks certify, with a declared range and without?

A policy narrower than the logger and its baseline, the logging mean played with the same scale, as
`learn` certifies them; click rates depend on the weights. One-sided bounds at 95 % of the gain:
`ess_skew` on the difference of two SNIPS, the two halves of `recommended_difference` on the same,
and `ess_skew` on doubly robust values with a quadratic surface of as many other rows, which is what
`learn` uses. Truths are exact. A bound fails where it lies above the truth in more than 5 % of logs
by two standard errors; `certified` is the share of logs whose bound is above zero.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _click_worlds, _study
from benchmarks._judge import fails
from mopl_jax.coverage import engine
from mopl_jax.estimators import difference, snips
from mopl_jax.estimators.ess import kish
from mopl_jax.intervals import ess_skew, recommended_difference
from mopl_jax.intervals.interval import lower
from mopl_jax.learning.response_surface import fit_surface
from mopl_jax.policies import Gaussian

SIZES = {"replicates": 200, "n": (512,), "d": (1,), "seed": 53}
QUICK = {"replicates": 16, "n": (128,), "d": (1,)}
ALPHA, SCALE, RANGE = 0.05, 0.7, (0.0, 1.0)
NAMES = ("ess_skew", "two halves", "doubly robust")
HALVES = ("chosen on", "reported")
MEANS = {"near": 0.4, "far": 0.9}  # of the projection of the action, in scales of the logger
RATES = {
    HALVES[0]: {
        "σ(−1+z)": _click_worlds.logit(-1.0, 1.0),
        "σ(−3+z)": _click_worlds.logit(-3.0, 1.0),
        "σ(−3−z)": _click_worlds.logit(-3.0, -1.0),
        "σ(−4.5+.5z)": _click_worlds.logit(-4.5, 0.5),
    },
    HALVES[1]: {
        "σ(−2+.3z)": _click_worlds.logit(-2.0, 0.3),
        "σ(−4+1.5z)": _click_worlds.logit(-4.0, 1.5),
        "step": _click_worlds.step(0.02, 0.2),
        "hump": _click_worlds.hump,
    },
}


def run(options) -> list[dict]:
    """One row for each half, rate, policy, dimension, size and bound."""
    cells = itertools.product(HALVES, options.d, MEANS)
    return [
        row
        for half, d, far in cells
        for name, rate in RATES[half].items()
        for row in _cells({"half": half, "world": name, "d": d, "policy": far}, rate, options)
    ]


def _cells(about, rate, options) -> Iterator[dict]:
    d, mean = about["d"], MEANS[about["policy"]]
    rng = np.random.default_rng([options.seed, d, *map(ord, about["world"] + about["policy"])])
    action = rng.standard_normal((options.replicates, 2 * options.n[-1], d))
    reward = _click_worlds.clicks(rng, rate(action.sum(axis=-1) / d**0.5))
    first, second = (_click_worlds.mean_of(rate, each, SCALE) for each in (mean, 0.0))
    log = [jnp.asarray(x, jnp.float32) for x in (action, reward)]
    for n in options.n:
        bounds, gains, size = map(np.asarray, _bounds(*log, mean / d**0.5, n))
        for i, name in enumerate(NAMES):
            below, truth = bounds[:, i], first - second
            yield about | {
                "n": n,
                "bound": name,
                "replicates": len(below),
                "ess_median": float(np.median(size)),
                "miss": float(np.mean(below > truth)),
                "certified": float(np.mean(below > 0)),
                "short": float(np.median(truth - below) / np.std(gains[:, 0], dtype=float)),
                "gain": truth,
            }


@functools.partial(jax.jit, static_argnames="n")
def _bounds(action, reward, mean, n):
    """Bounds and gains (r, bound) and the ESS of the policy (r,), of logs of n rows."""
    d = action.shape[-1]
    logging = Gaussian.diagonal(jnp.zeros(d, action.dtype), 1.0)
    pair = [Gaussian.diagonal(jnp.full(d, x, action.dtype), SCALE) for x in (mean, 0.0)]

    def one(log):
        (taught, own), (past, click) = ((x[:n], x[-n:]) for x in log)
        surface = fit_surface(taught, past, logging)
        left = click - jax.lax.map(surface, own, batch_size=1024)
        weights = [jax.vmap(x.log_density)(own) - jax.vmap(logging.log_density)(own) for x in pair]
        first, second = (snips(w, click) for w in weights)
        plain = difference(first, second)
        robust = difference(snips(weights[0], left), snips(weights[1], left))
        model = surface.expectation(pair[0]) - surface.expectation(pair[1])
        found = [lower(ess_skew)(plain, ALPHA).lower, _halves(first, second)]
        found.append(lower(ess_skew)(robust, ALPHA).lower + model)
        gains = jnp.stack([plain.value, plain.value, robust.value + model])
        return jnp.stack(found), gains, kish(weights[0])

    return jax.lax.map(one, (action, reward), batch_size=engine.chunk(n))


def _halves(first, second):
    return recommended_difference(first, second, 2 * ALPHA, reward_range=RANGE).lower


def table(rows: list[dict]) -> str:
    """By half and policy, then by half and world, then by ESS."""
    kept = [row for row in rows if row["ess_median"] >= 2]
    head = ("bound", "cells", "fail", "most missed", "median missed", "certified", "short")
    keys = {
        "half": lambda row: row["half"],
        "half, policy, n": lambda row: f"{row['half']}, {row['policy']}, {row['n']}",
        "half, world": lambda row: f"{row['half']}, {row['world']}",
    }
    tables = []
    for name, key in keys.items():
        groups = _study.grouped((row | {"key": key(row)} for row in kept), "key", "bound")
        lines = [[*each, *_line(some)] for each, some in groups.items()]
        tables.append(_study.markdown((name, *head), lines, "llr"))
    return "\n\n".join(tables)


def _line(rows):
    missed = [row["miss"] for row in rows]
    failed = np.mean([fails(1 - row["miss"], 1 - ALPHA, row["replicates"]) for row in rows])
    certified, short = (np.mean([row[name] for row in rows]) for name in ("certified", "short"))
    shares = [f"{x:.3f}" for x in (failed, max(missed), np.median(missed), certified)]
    return [len(rows), *shares, f"{short:.2f}"]

"""Which bandwidth for a deterministic policy? Smoothing bias against variance, closed form
beside simulation.

The target plays τ for certain; smoothing plays N(τ, h² I). On a quadratic North Star the bias is
exactly −½h² tr C; the standard deviation falls with h as ESS ≈ n h^d grows. Coverage of V(τ) and
of the smoothed value V(N(τ, h²I)) are reported apart: an interval promises only the second.
SLOPE (`--bandwidth auto`) chooses among eight bandwidths on each log; its intervals are at
alpha/m ("joint"), those that `mopl evaluate` then gives at alpha ("plain").
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from mopl_jax import estimators, intervals
from mopl_jax.coverage import engine
from mopl_jax.coverage.replicates import concatenate
from mopl_jax.coverage.world import Grid, World
from mopl_jax.estimators import divergence
from mopl_jax.evaluation.smoothing import lepski, slope
from mopl_jax.evaluation.targets import BANDWIDTHS as CANDIDATES
from mopl_jax.logs import log_weights
from mopl_jax.policies import Gaussian, smooth
from mopl_jax.simulation.environments import Environment, Normal, Quadratic

SIZES = {"replicates": 1000, "n": 4096}
QUICK = {"replicates": 50, "n": 256}
RESULTS = ("bandwidth", "bandwidth_slope")
D, ACTION, ALPHA = 3, 0.5, 0.05
BANDWIDTHS = tuple(float(h) for h in np.geomspace(0.03, 0.9, 13).round(4))
INTERVALS = ("normal", "ess_exact")
WIDENINGS = (2.0, 1.0)  # SLOPE's, and intervals as they are


def world() -> World:
    """Quadratic North Star with its optimum away from the action played; one target a bandwidth."""
    mean = Quadratic(jnp.asarray(1.0), jnp.full(D, 0.8), 0.5 * jnp.eye(D))
    targets = {str(h): smooth(jnp.full(D, ACTION), h) for h in BANDWIDTHS}
    environment = Environment(mean, Normal(jnp.asarray(0.5)))
    return World("bandwidth", D, environment, Gaussian.diagonal(jnp.zeros(D), 1.0), targets)


def run(options) -> Iterator[list[dict]]:
    """Each bandwidth, then what is selected."""
    made = world()
    point = float(made.environment.mean_reward(jnp.full(D, ACTION)))
    yield each_bandwidth(made, point, options)
    yield selected(made, point, options)


def covered(limits, truths: dict[str, float], label: str) -> dict[str, float]:
    """Coverage of each truth by limits (r, 2)."""
    low, high = limits.T
    return {
        f"coverage_{what}_{label}": float(np.mean((low <= truth) & (truth <= high)))
        for what, truth in truths.items()
    }


def _rmse(value, truth):
    return float(np.sqrt(np.mean((value - truth) ** 2)))


def each_bandwidth(world: World, point: float, options) -> list[dict]:
    """Bias, standard deviation, root mean squared error and both coverages at each bandwidth."""
    grid = Grid((options.n,), ("snips",), INTERVALS, ALPHA)
    batches = engine.run(jax.random.key(0), world, grid, (0, options.replicates), 50)
    results = concatenate(list(batches))
    return [_row(world, name, cell, point, options.n) for (name, _), cell in results.items()]


def _row(world, name, cell, point, n):
    value, smoothed = cell.value[:, 0].astype(float), world.truth(name)
    row = {}
    for i, interval in enumerate(INTERVALS):
        limits = np.stack([cell.lower[:, 0, i], cell.upper[:, 0, i]], axis=1)
        row |= covered(limits, {"point": point, "smoothed": smoothed}, interval)
    return row | {
        "bandwidth": float(name),
        "replicates": len(value),
        "bias_exact": smoothed - point,
        "bias": value.mean() - point,
        "sd": value.std(ddof=1),
        "rmse": _rmse(value, point),
        "ess": float(np.median(cell.ess)),
        "ess_exact": float(n / divergence.population_d2(world.logging, world.targets[name])),
    }


@functools.partial(jax.jit, static_argnames="n")
def _choices(keys, environment, logging, n):
    """Of each log and widening: index, value and smoothed policy's value, limits (at alpha/m and
    alpha, lower and upper).
    """
    candidates, played = jnp.asarray(CANDIDATES), jnp.full(D, ACTION)

    def one(key):
        log = engine.replicate(key, environment, logging, n)
        tried = slope(log, played, candidates, intervals.ess_exact, ALPHA)
        return [choose(log, lepski(tried.values, tried.intervals, w)) for w in WIDENINGS]

    def choose(log, index):
        target = smooth(played, candidates[index])
        estimate = estimators.snips(log_weights(target, log), log.reward)
        made = [intervals.ess_exact(estimate, level) for level in (ALPHA / candidates.size, ALPHA)]
        limits = jnp.asarray([[x.lower, x.upper] for x in made])
        return index, estimate.value, environment.policy_value(target), limits

    return jax.lax.map(one, keys, batch_size=50)


def selected(world: World, point: float, options) -> list[dict]:
    """What is selected with each widening: over all logs, then over those of each bandwidth."""
    keys = jax.random.split(jax.random.key(1), options.replicates)
    found = _choices(keys, world.environment, world.logging, options.n)
    rows = []
    for widening, choices in zip(WIDENINGS, found, strict=True):
        index, *arrays = map(np.asarray, choices)
        groups = {"all": np.full(index.size, True)}
        groups |= {f"{h:.3g}": index == i for i, h in enumerate(CANDIDATES)}
        for name, inside in groups.items():
            if inside.any():
                row = {"widening": widening, "selected": name, "share": float(inside.mean())}
                rows.append(row | _selection(point, *(x[inside] for x in arrays)))
    return rows


def _selection(point, value, smoothed, limits):
    row = {"rmse": _rmse(value.astype(float), point)}
    for i, level in enumerate(("joint", "plain")):
        ends = limits[:, i].astype(float)
        row |= covered(ends, {"point": point, "smoothed": smoothed}, level)
        row[f"width_{level}"] = float(np.median(ends[:, 1] - ends[:, 0]))
    return row


def table(each: list[dict], chosen: list[dict]) -> str:
    """Both."""
    names = ("bandwidth", "bias_exact", "bias", "sd", "rmse", "ess")
    kinds = ("point_ess_exact", "smoothed_ess_exact", "point_normal", "smoothed_normal")
    first = _study.columns(each, (*names, *(f"coverage_{kind}" for kind in kinds)))
    return (
        f"## Each bandwidth\n\n{first}\n\n## What is selected: `--bandwidth auto` has widening 1,"
        f" SLOPE 2\n\n{_study.plain(chosen)}"
    )

"""Which bandwidth for a deterministic policy? Smoothing bias against variance, closed form
beside simulation.

The target plays τ for certain; smoothing plays N(τ, h² I). On a quadratic North Star the bias is
exactly −½h² tr C; the standard deviation falls with h as ESS ≈ n h^d grows. Coverage of V(τ) and
of the smoothed value V(N(τ, h²I)) are reported apart: an interval promises only the second.
`--bandwidth auto` chooses a covariance on each log, and gives `ess_exact` at half of alpha.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from mopl_jax import estimators, intervals
from mopl_jax.coverage import engine
from mopl_jax.coverage.replicates import concatenate
from mopl_jax.coverage.world import Grid, World
from mopl_jax.estimators import divergence
from mopl_jax.evaluation.smoothing import CHOSEN, bend_about, least_error
from mopl_jax.logs import log_weights
from mopl_jax.policies import Gaussian, smooth
from mopl_jax.simulation.environments import Environment, Normal, Quadratic

SIZES = {"replicates": 1000, "n": 4096}
QUICK = {"replicates": 50, "n": 256}
RESULTS = ("bandwidth", "bandwidth_auto")
D, ACTION, ALPHA = 3, 0.5, 0.05
BANDWIDTHS = tuple(float(h) for h in np.geomspace(0.03, 0.9, 13).round(4))
INTERVALS = ("normal", "ess_exact")


def world() -> World:
    """Quadratic North Star with its optimum away from the action played; one target a bandwidth."""
    mean = Quadratic(jnp.asarray(1.0), jnp.full(D, 0.8), 0.5 * jnp.eye(D))
    targets = {str(h): smooth(jnp.full(D, ACTION), h) for h in BANDWIDTHS}
    environment = Environment(mean, Normal(jnp.asarray(0.5)))
    return World("bandwidth", D, environment, Gaussian.diagonal(jnp.zeros(D), 1.0), targets)


def run(options) -> Iterator[list[dict]]:
    """Each bandwidth, then what is chosen."""
    made = world()
    point = float(made.environment.mean_reward(jnp.full(D, ACTION)))
    each = each_bandwidth(made, point, options)
    yield each
    yield [chosen(made, point, options, min(row["rmse"] for row in each))]


def covered(limits, truths: dict[str, Any], label: str) -> dict[str, float]:
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


def auto(logs, action):
    """The kernel that is chosen for an action, and value and ends of its interval."""
    target = least_error(logs, action, bend_about(logs.action, logs.reward, action))
    estimate = estimators.snips(log_weights(target, logs), logs.reward)
    ends = intervals.ess_exact(estimate, ALPHA / CHOSEN)
    return target, estimate.value, jnp.stack([ends.lower, ends.upper])


def chosen(world: World, point: float, options, best: float) -> dict:
    """Error and coverage of what is chosen, on other logs than those of each bandwidth."""

    @jax.jit
    def all_of(keys):
        def one(key):
            logs = engine.replicate(key, world.environment, world.logging, options.n)
            target, value, ends = auto(logs, jnp.full(D, ACTION))
            return target.covariance, value, ends, world.environment.policy_value(target)

        return jax.lax.map(one, keys, batch_size=50)

    found = all_of(jax.random.split(jax.random.key(1), options.replicates))
    covariance, value, ends, smoothed = (np.asarray(x, float) for x in found)
    sizes = np.linalg.det(covariance) ** (0.5 / D)
    row = {"replicates": len(value), "rmse": _rmse(value, point)}
    row |= {"rmse_over_best": row["rmse"] / best}
    row |= {f"bandwidth_{q}": float(np.quantile(sizes, q / 100)) for q in (10, 50, 90)}
    truths = {"point": point, "smoothed": smoothed}
    return row | covered(ends, truths, "ess_exact") | {"width": float(np.median(np.ptp(ends, 1)))}


def table(each: list[dict], auto: list[dict]) -> str:
    """Both."""
    names = ("bandwidth", "bias_exact", "bias", "sd", "rmse", "ess")
    kinds = ("point_ess_exact", "smoothed_ess_exact", "point_normal", "smoothed_normal")
    first = _study.columns(each, (*names, *(f"coverage_{kind}" for kind in kinds)))
    return f"## Each bandwidth\n\n{first}\n\n## `--bandwidth auto`\n\n{_study.plain(auto)}"

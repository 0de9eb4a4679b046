"""Which bandwidth for a deterministic policy? Smoothing bias against variance, closed form
beside simulation.

The target plays τ for certain; smoothing plays N(τ, h² I). On a quadratic North Star the bias is
exactly −½h² tr C; the standard deviation falls with h as ESS ≈ n h^d grows. Coverage of V(τ) and
of the smoothed value V(N(τ, h²I)) are reported apart: an interval promises only the second.
SLOPE (`--bandwidth auto`) chooses among eight bandwidths on each log; its intervals are at
alpha/m ("joint"), those that `mopl evaluate` then gives at alpha ("plain").
"""

import functools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax import estimators, intervals
from mopl_jax.coverage import engine
from mopl_jax.coverage.results import concatenate
from mopl_jax.coverage.world import Grid, World
from mopl_jax.estimators import divergence
from mopl_jax.evaluation.smoothing import lepski, slope
from mopl_jax.evaluation.targets import BANDWIDTHS as CANDIDATES
from mopl_jax.io import storage
from mopl_jax.logs import log_weights
from mopl_jax.policies import Gaussian, smooth
from mopl_jax.simulation.environments import Environment, Normal, Quadratic

RESULTS = Path(__file__).parent / "results"
D, ROWS, REPLICATES = 3, 4096, 1000
BANDWIDTHS = tuple(float(h) for h in np.geomspace(0.03, 0.9, 13).round(4))
ACTION, ALPHA = 0.5, 0.05
WIDENINGS = (2.0, 1.0)  # SLOPE's, and intervals as they are


def world() -> World:
    """Quadratic North Star with its optimum away from the action played; one target a bandwidth."""
    mean = Quadratic(jnp.asarray(1.0), jnp.full(D, 0.8), 0.5 * jnp.eye(D))
    targets = {str(h): smooth(jnp.full(D, ACTION), h) for h in BANDWIDTHS}
    return World(
        "bandwidth",
        D,
        Environment(mean, Normal(jnp.asarray(0.5))),
        Gaussian.diagonal(jnp.zeros(D), 1.0),
        targets,
    )


def rows_for(world: World) -> list[dict]:
    """Bias, standard deviation, root mean squared error and both coverages at each bandwidth."""
    grid = Grid((ROWS,), ("snips",), ("normal", "ess_exact"), ALPHA)
    batches = list(engine.run(jax.random.key(0), world, grid, (0, REPLICATES), 50))
    results = concatenate(batches)
    point = float(world.environment.mean_reward(jnp.full(D, ACTION)))
    return [_row(float(name), cell, world, name, point) for (name, _), cell in results.items()]


def _row(bandwidth, cell, world, name, point):
    value, smoothed = cell.value[:, 0].astype(float), world.truth(name)
    covers = {
        f"coverage_{what}_{interval}": float(
            np.mean((cell.lower[:, 0, i] <= truth) & (truth <= cell.upper[:, 0, i]))
        )
        for what, truth in (("point", point), ("smoothed", smoothed))
        for i, interval in enumerate(("normal", "ess_exact"))
    }
    return covers | {
        "bandwidth": bandwidth,
        "replicates": len(value),
        "bias_exact": smoothed - point,
        "bias": value.mean() - point,
        "sd": value.std(ddof=1),
        "rmse": float(np.sqrt(np.mean((value - point) ** 2))),
        "ess": float(np.median(cell.ess)),
        "ess_exact": float(ROWS / divergence.population_d2(world.logging, world.targets[name])),
    }


@functools.partial(jax.jit, static_argnames="n")
def _selected(keys, environment, logging, n):
    """Of each log and widening: index, value and smoothed policy's value, limits (at alpha/m and
    alpha, lower and upper).
    """
    candidates = jnp.asarray(CANDIDATES)

    def one(key):
        log = engine.replicate(key, environment, logging, n)
        tried = slope(log, jnp.full(D, ACTION), candidates, intervals.ess_exact, ALPHA)
        return [
            choose(log, lepski(tried.values, tried.intervals, widening)) for widening in WIDENINGS
        ]

    def choose(log, index):
        target = smooth(jnp.full(D, ACTION), candidates[index])
        estimate = estimators.snips(log_weights(target, log), log.reward)
        made = [intervals.ess_exact(estimate, level) for level in (ALPHA / candidates.size, ALPHA)]
        limits = jnp.asarray([[x.lower, x.upper] for x in made])
        return index, estimate.value, environment.policy_value(target), limits

    return jax.lax.map(one, keys, batch_size=50)


def selected_rows(world: World) -> list[dict]:
    """What is selected with each widening: over all logs, then over those of each bandwidth."""
    keys = jax.random.split(jax.random.key(1), REPLICATES)
    point = float(world.environment.mean_reward(jnp.full(D, ACTION)))
    rows = []
    for widening, found in zip(
        WIDENINGS, _selected(keys, world.environment, world.logging, ROWS), strict=True
    ):
        index, *arrays = map(np.asarray, found)
        groups = {"all": np.full(REPLICATES, True)} | {
            f"{h:.3g}": index == i for i, h in enumerate(CANDIDATES)
        }
        for name, inside in groups.items():
            if inside.any():
                row = {"widening": widening, "selected": name, "share": float(inside.mean())}
                rows.append(row | _selection(point, *(x[inside] for x in arrays)))
    return rows


def _selection(point, value, smoothed, limits):
    row = {"rmse": float(np.sqrt(np.mean((value.astype(float) - point) ** 2)))}
    for i, level in enumerate(("joint", "plain")):
        low, high = limits[:, i].T.astype(float)
        row |= {
            f"coverage_{what}_{level}": float(np.mean((low <= truth) & (truth <= high)))
            for what, truth in (("point", point), ("smoothed", smoothed))
        }
        row[f"width_{level}"] = float(np.median(high - low))
    return row


def main() -> None:
    """Write results/bandwidth.parquet, bandwidth_slope.parquet and bandwidth.md."""
    started, made = time.perf_counter(), world()
    for name, rows in (("bandwidth", rows_for(made)), ("bandwidth_slope", selected_rows(made))):
        config = {"d": D, "rows": ROWS, "replicates": REPLICATES}
        about = storage.provenance(study=config, seconds=time.perf_counter() - started)
        storage.write_results(RESULTS / f"{name}.parquet", rows, about)
    report()


def report() -> None:
    """results/bandwidth.md from the stored rows."""
    each, _ = storage.read_results(RESULTS / "bandwidth.parquet")
    chosen, _ = storage.read_results(RESULTS / "bandwidth_slope.parquet")
    kinds = ("point_ess_exact", "smoothed_ess_exact", "point_normal", "smoothed_normal")
    first = _table(
        each,
        ("bandwidth", "bias_exact", "bias", "sd", "rmse", "ess", *(f"coverage_{k}" for k in kinds)),
    )
    text = (
        f"## Each bandwidth\n\n{first}\n\n## What is selected: `--bandwidth auto` has widening 1,"
        " SLOPE 2\n\n"
    )
    (RESULTS / "bandwidth.md").write_text(text + _table(chosen, tuple(chosen[0])) + "\n")
    print(text + _table(chosen, tuple(chosen[0])))


def _table(rows, columns):
    lines = [
        " | ".join(f"{v:.3g}" if isinstance(v := row[key], float) else str(v) for key in columns)
        for row in rows
    ]
    head = " | ".join(columns).replace("_", " ")
    return f"| {head} |\n|{'--:|' * len(columns)}\n" + "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    main()

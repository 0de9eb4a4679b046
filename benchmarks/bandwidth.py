"""Which bandwidth for a deterministic policy? Smoothing bias against variance, closed form beside simulation.

The target plays τ for certain; smoothing plays N(τ, h² I). On a quadratic North Star the bias is exactly −½h² tr C; the
standard deviation falls with h as ESS ≈ n h^d grows. Coverage of V(τ) and of the smoothed value V(N(τ, h²I)) are reported
apart: an interval promises only the second.
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax import coverage, ess, storage
from mopl_jax.environments import Environment, Normal, Quadratic
from mopl_jax.policies import Gaussian, smooth

RESULTS = Path(__file__).parent / "results"
D, ROWS, REPLICATES = 3, 4096, 1000
BANDWIDTHS = tuple(float(h) for h in np.geomspace(0.03, 0.9, 13).round(4))
ACTION = 0.5


def world() -> coverage.World:
    """Quadratic North Star with its optimum away from the action played; one target a bandwidth."""
    mean = Quadratic(jnp.asarray(1.0), jnp.full(D, 0.8), 0.5 * jnp.eye(D))
    targets = {str(h): smooth(jnp.full(D, ACTION), h) for h in BANDWIDTHS}
    return coverage.World(
        "bandwidth", D, Environment(mean, Normal(jnp.asarray(0.5))), Gaussian.diagonal(jnp.zeros(D), 1.0), targets
    )


def rows_for(world: coverage.World) -> list[dict]:
    """Bias, standard deviation, root mean squared error and both coverages at each bandwidth."""
    grid = coverage.Grid((ROWS,), ("snips",), ("normal", "ess_exact"), 0.05)
    batches = list(coverage.run(jax.random.key(0), world, grid, (0, REPLICATES), 50))
    results = coverage.concatenate(batches)
    point = float(world.environment.mean_reward(jnp.full(D, ACTION)))
    return [_row(float(name), cell, world, name, point) for (name, _), cell in results.items()]


def _row(bandwidth, cell, world, name, point):
    value, smoothed = cell.value[:, 0].astype(float), world.truth(name)
    covers = {
        f"coverage_{what}_{interval}": float(np.mean((cell.lower[:, 0, i] <= truth) & (truth <= cell.upper[:, 0, i])))
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
        "ess_exact": float(ROWS / ess.population_d2(world.logging, world.targets[name])),
    }


def main() -> None:
    """Write results/bandwidth.parquet."""
    started = time.perf_counter()
    rows = rows_for(world())
    about = storage.provenance(
        study={"d": D, "rows": ROWS, "replicates": REPLICATES}, seconds=time.perf_counter() - started
    )
    storage.write_results(RESULTS / "bandwidth.parquet", rows, about)
    for row in rows:
        print(
            "  ".join(
                f"{key} {row[key]:.3g}" for key in ("bandwidth", "bias_exact", "bias", "sd", "rmse", "ess", "ess_exact")
            )
        )


if __name__ == "__main__":
    main()

"""How many rows certify a step of the weights? Closed forms beside simulated logs.

Production N(0, h² I), target N(step·1/√d, h² I), a gain in proportion to the step, certified by
the lower end of a one-sided 95 % interval for the difference of their SNIPS values; rows for a
power of 80 %. Logging N(0, I), the uniform box of the same variance, and the normal whose scale
has most effective rows for that step. A simulated point is the closed form's n corrected by the
share of logs that certified at that n, for the `normal` interval and for `ess_exact`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks import _study
from benchmarks._steps import (
    ALPHA,
    INTERVALS,
    NOISE,
    POWER,
    SLOPE,
    SMOOTHING,
    logger,
    simulated,
    sizes_of,
    step_of,
    variance,
)
from mopl_jax import planning
from mopl_jax.simulation.environments import Linear

SIZES = {"replicates": 500, "d": (2, 5, 10, 20), "most": 50_000}  # no logs of more rows than most
QUICK = {"replicates": 20, "d": (2,), "most": 2000}
CHECKED = (0.2, 0.5, 1.0)  # steps at which logs are simulated
STEPS = tuple(sorted({*(float(x) for x in np.geomspace(0.1, 2, 27)), *CHECKED}))
KINDS = ("normal", "uniform", "densest")
UNCHECKED = {f"{what}_{name}": None for what in ("power", "rows") for name in INTERVALS}


def run(options) -> list[dict]:
    """One row for each dimension, logging policy and step."""
    return [needed(d, kind, step, options) for d in options.d for kind in KINDS for step in STEPS]


def needed(d: int, kind: str, step: float, options) -> dict:
    """Closed-form rows for one step; simulated ones where they are few enough."""
    target, production, slope = step_of(d, step)
    scale = float(planning.densest_scale(d, step, SMOOTHING)) if kind == "densest" else 1.0
    logging = logger(kind, d, scale)
    spread = variance(logging, target, slope, NOISE, production)
    n = float(planning.rows_needed(SLOPE * step, spread, ALPHA, POWER))
    row = {"d": d, "logging": kind, "step": step, "scale": scale, "rows": n}
    row |= sizes_of(logging, target, n)
    if n > options.most or not any(math.isclose(step, one) for one in CHECKED):
        return row | UNCHECKED | {"replicates": 0}
    keys = jax.random.split(jax.random.fold_in(jax.random.key(17), round(n)), options.replicates)
    surface = Linear(slope, jnp.zeros(()))
    lower, _ = simulated(keys, logging, target, production, surface, round(n))
    return row | _corrected(np.asarray(lower), round(n)) | {"replicates": options.replicates}


def _corrected(lower, n):
    """Power at n rows, and the rows that its normal approximation asks for `POWER`."""
    found, least = {}, 0.5 / len(lower)
    for name, ends in zip(INTERVALS, lower.T, strict=True):
        share = float(np.clip(np.mean(ends > 0), least, 1 - least))
        reach = stats.norm.isf(ALPHA) + stats.norm.ppf(share)
        wanted = stats.norm.isf(ALPHA) + stats.norm.ppf(POWER)
        rows = n * (wanted / reach) ** 2 if reach > 0 else None
        found |= {f"power_{name}": share, f"rows_{name}": rows}
    return found


def table(rows: list[dict]) -> str:
    """What was simulated, beside the closed form."""
    kept = [row for row in rows if row["replicates"]]
    names = ("d", "logging", "step", "rows", "ess", *(f"power_{name}" for name in INTERVALS))
    rounded = [row | {key: round(row[key]) for key in ("rows", "ess")} for row in kept]
    return _study.columns(rounded, names)

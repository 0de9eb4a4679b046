"""How many rows certify a step of the weights, and how widely should one explore? Closed forms
beside simulated logs.

Rows: production N(0, h² I), target N(step·1/√d, h² I), a gain in proportion to the step,
certified by the lower end of a one-sided 95 % interval for the difference of their SNIPS values;
rows for a power of 80 %. Logging N(0, I), the uniform box of the same variance, and the normal
whose scale has most effective rows for that step. A simulated point is the closed form's n
corrected by the share of logs that certified at that n, for the `normal` interval and for
`ess_exact`.

Scale: certified regret on a quadratic surface, n decisions explored and a horizon after, against
the scale of exploration. The simulated points average what exploring lost and what the
certificate held back, with the interval's own standard error.

Platform: on the simulated short-video platform slope and noise come from a pilot log; the
standard error that the plan then predicts for the gain stands beside the spread of that gain
over fresh logs.
"""

import functools
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mopl_jax import estimators, intervals, planning
from mopl_jax.io import storage
from mopl_jax.numerics import random
from mopl_jax.policies import Gaussian, Uniform
from mopl_jax.simulation import online, recommender
from mopl_jax.simulation.environments import Linear, Quadratic

RESULTS = Path(__file__).parent / "results"
SMOOTHING, NOISE, SLOPE, ALPHA, POWER = 0.5, 0.5, 0.1, 0.05, 0.8
DIMENSIONS, STEPS = (2, 5, 10, 20), tuple(float(x) for x in np.geomspace(0.1, 2, 27))
CHECKED = (
    0.2,
    0.5,
    1.0,
)  # steps at which logs are simulated, if the closed form needs at most MOST rows
MOST, REPLICATES = 50_000, 500
FEW, INSIDE = 100, 0.99  # no simulated point below these: effective rows; target's mass in the box
CURVATURE, LOGGED, HORIZON, STEP = 0.02, 10_000, 100_000, 0.5
PILOT, PILOT_SCALE, FRESH, FRESH_ROWS = 50_000, 0.3, 100, 5000
SCALES = tuple(float(s) for s in np.geomspace(0.37, 2, 40))


def world(d: int, step: float) -> tuple[Gaussian, Gaussian, jax.Array]:
    """Target, production, slope; the slope lies along the step and has the same length in every
    dimension.
    """
    ones = jnp.full(d, 1 / math.sqrt(d))
    return (
        Gaussian.diagonal(step * ones, SMOOTHING),
        Gaussian.diagonal(jnp.zeros(d), SMOOTHING),
        SLOPE * ones,
    )


def logger(kind: str, d: int, scale: float) -> Gaussian | Uniform:
    """Normal or uniform logging around the current weights with this standard deviation in each
    weight.
    """
    edge = jnp.full(d, math.sqrt(3) * scale)
    return Uniform(-edge, edge) if kind == "uniform" else Gaussian.diagonal(jnp.zeros(d), scale)


_variance = jax.jit(planning.variance)


@functools.partial(jax.jit, static_argnames="n")
def simulated(keys, logging, target, production, surface, n):
    """Lower ends (r, 2) of the difference by `normal` and `ess_exact`, and the mean reward lost by
    exploring (r,).
    """
    limits = [intervals.lower(intervals.normal), intervals.lower(intervals.ess_exact)]

    def one(key):
        action = jax.vmap(logging.sample)(random.row_keys(key, n))
        mean = jax.vmap(surface)(action)
        noise = jax.vmap(lambda k: random.normal(k, 1)[0])(
            random.row_keys(jax.random.fold_in(key, 1), n)
        )
        weights = [
            jax.vmap(lambda a, p=p: p.log_density(a) - logging.log_density(a))(action)
            for p in (target, production)
        ]
        ours, theirs = (estimators.snips(w, mean + NOISE * noise) for w in weights)
        gain = estimators.difference(ours, theirs)
        lost = surface(jnp.zeros_like(action[0])) - jnp.mean(mean)
        return jnp.stack([limit(gain, ALPHA).lower for limit in limits]), lost

    return jax.lax.map(one, keys, batch_size=4)


def needed(kind: str, d: int, step: float) -> dict:
    """Closed-form rows for one step; simulated ones where they are few enough."""
    target, production, slope = world(d, step)
    scale = float(planning.densest_scale(d, step, SMOOTHING)) if kind == "densest" else 1.0
    logging = logger(kind, d, scale)
    n = float(
        planning.rows_needed(
            SLOPE * step, _variance(logging, target, slope, NOISE, production), ALPHA, POWER
        )
    )
    row = {
        "d": d,
        "logging": kind,
        "step": step,
        "scale": scale,
        "rows": n,
        "ess": n * float(planning.ess_share(logging, target)),
        "in_box": float(planning.coverage_of_box(logging, target)),
    }
    checked = any(math.isclose(step, one) for one in CHECKED) and n <= MOST
    return row | (
        _checked(logging, target, production, slope, int(round(n))) if checked else _UNCHECKED
    )


_UNCHECKED = {
    f"{what}_{name}": None for what in ("power", "rows") for name in ("normal", "ess_exact")
} | {"replicates": 0}


def _checked(logging, target, production, slope, n):
    keys = jax.random.split(jax.random.fold_in(jax.random.key(17), n), REPLICATES)
    lower, _ = simulated(keys, logging, target, production, Linear(slope, jnp.zeros(())), n)
    found = {"replicates": REPLICATES}
    for name, ends in zip(("normal", "ess_exact"), np.asarray(lower).T, strict=True):
        share = float(np.clip(np.mean(ends > 0), 0.5 / REPLICATES, 1 - 0.5 / REPLICATES))
        reach = stats.norm.isf(ALPHA) + stats.norm.ppf(share)
        wanted = stats.norm.isf(ALPHA) + stats.norm.ppf(POWER)
        found |= {
            f"power_{name}": share,
            f"rows_{name}": n * (wanted / reach) ** 2 if reach > 0 else None,
        }
    return found


def regret(kind: str, d: int, scale: float, check: bool) -> dict:
    """Certified regret at one scale, in closed form and, if asked, from simulated logs on the
    curved surface.
    """
    target, production, slope = world(d, STEP)
    logging = logger(kind, d, scale)
    curvature = CURVATURE * jnp.eye(d)
    cost = float(planning.exploration_cost(curvature, scale**2 * jnp.eye(d)))
    variance = _variance(logging, target, slope, NOISE, production)
    total = float(planning.certified_regret(LOGGED, cost, variance, HORIZON, ALPHA))
    row = {
        "d": d,
        "logging": kind,
        "scale": scale,
        "cost": LOGGED * cost,
        "regret": total,
        "ess": LOGGED * float(planning.ess_share(logging, target)),
        "in_box": float(planning.coverage_of_box(logging, target)),
        "simulated": None,
        "simulated_se": None,
    }
    if not check or row["ess"] < FEW or row["in_box"] < INSIDE:
        return row
    surface = Quadratic(jnp.zeros(()), slope / CURVATURE, curvature)
    gain = float(surface(target.mean) - surface(production.mean))  # smoothing costs both the same
    keys = jax.random.split(jax.random.fold_in(jax.random.key(19), int(1000 * scale)), REPLICATES)
    lower, lost = simulated(keys, logging, target, production, surface, LOGGED)
    each = LOGGED * np.asarray(lost) + HORIZON * (gain - np.asarray(lower)[:, 0])
    return row | {
        "simulated": float(each.mean()),
        "simulated_se": float(each.std(ddof=1) / math.sqrt(each.size)),
    }


def regrets() -> list[dict]:
    """The curve of every kind and dimension, its minimum, and simulated points."""
    rows = []
    for d in (5, 10):
        for kind in ("normal", "uniform"):
            rows += [regret(kind, d, scale, check=i % 6 == 2) for i, scale in enumerate(SCALES)]
        target, production, slope = world(d, STEP)

        def loss(s, d=d, target=target, production=production, slope=slope):
            logging = Gaussian(jnp.zeros(d), jnp.full(d, 1.0) * s)
            cost = planning.exploration_cost(CURVATURE * jnp.eye(d), logging.covariance)
            variance = planning.variance(logging, target, slope, NOISE, production)
            return planning.certified_regret(LOGGED, cost, variance, HORIZON, ALPHA)

        rows.append(
            regret("normal", d, float(planning.least(loss, 0.36, 4.0)), check=False)
            | {"logging": "least"}
        )
        rows.append(
            regret("normal", d, float(planning.densest_scale(d, STEP, SMOOTHING)), check=False)
            | {"logging": "densest"}
        )
    return rows


def on_platform() -> list[dict]:
    """Predicted and observed standard error of the gain in days of return, d = 8, heterogeneous
    users, discrete reward.
    """
    platform, centre, d = (
        recommender.short_video(),
        jnp.asarray(recommender.PRODUCTION),
        len(recommender.PRODUCTION),
    )
    pilot = online.play(
        platform, Gaussian.diagonal(centre, PILOT_SCALE), jax.random.key(1), (0, PILOT)
    )
    found = jax.jit(planning.surface)(
        jnp.asarray(pilot.action), jnp.asarray(pilot.signals[:, -1]), centre
    )
    step = 0.5 * PILOT_SCALE * found.slope / jnp.linalg.norm(found.slope)
    target, production = (
        Gaussian.diagonal(mean, 0.7 * PILOT_SCALE) for mean in (centre + step, centre)
    )
    rows = []
    for kind in ("normal", "uniform"):
        logging = _around(centre, logger(kind, d, PILOT_SCALE))
        played = online.play(platform, logging, jax.random.key(2), (0, FRESH * FRESH_ROWS))
        gains = np.asarray(
            _gains(
                jnp.asarray(played.action),
                jnp.asarray(played.signals[:, -1]),
                logging,
                target,
                production,
            )
        )
        variance = _variance(logging, target, found.slope, found.noise, production)
        spread = float(gains.std(ddof=1))
        rows.append(
            {
                "logging": kind,
                "d": d,
                "pilot": PILOT,
                "rows": FRESH_ROWS,
                "logs": FRESH,
                "ess": FRESH_ROWS * float(planning.ess_share(logging, target)),
                "noise": float(found.noise),
                "predicted": math.sqrt(float(variance) / FRESH_ROWS),
                "observed": spread,
                "observed_se": spread / math.sqrt(2 * (FRESH - 1)),
            }
        )
    return rows


def _around(centre, logging):
    if isinstance(logging, Uniform):
        return Uniform(centre + logging.low, centre + logging.high)
    return Gaussian(centre, logging.scale)


@jax.jit
def _gains(action, reward, logging, target, production):
    """The difference of SNIPS values, (logs,), of consecutive logs."""

    def one(rows):
        action, reward = rows
        ours, theirs = (
            jax.vmap(lambda a, p=p: p.log_density(a) - logging.log_density(a))(action)
            for p in (target, production)
        )
        return estimators.snips(ours, reward).value - estimators.snips(theirs, reward).value

    return jax.lax.map(
        one, (action.reshape(FRESH, FRESH_ROWS, -1), reward.reshape(FRESH, FRESH_ROWS))
    )


def main() -> None:
    """Write results/design.parquet, design_scale.parquet and design_platform.parquet."""
    started = time.perf_counter()
    steps = sorted({*STEPS, *CHECKED})
    rows = [
        needed(kind, d, step)
        for d in DIMENSIONS
        for kind in ("normal", "uniform", "densest")
        for step in steps
    ]
    curve = regrets()
    platform = on_platform()
    config = {
        "smoothing": SMOOTHING,
        "noise": NOISE,
        "slope": SLOPE,
        "alpha": ALPHA,
        "power": POWER,
    }
    config |= {"curvature": CURVATURE, "logged": LOGGED, "horizon": HORIZON, "step": STEP}
    about = storage.provenance(study=config, seconds=time.perf_counter() - started)
    storage.write_results(RESULTS / "design.parquet", rows, about)
    storage.write_results(RESULTS / "design_scale.parquet", curve, about)
    storage.write_results(RESULTS / "design_platform.parquet", platform, about)
    for row in rows:
        if row["replicates"]:
            print(
                f"d={row['d']:2} {row['logging']:8} step {row['step']:.1f}: {row['rows']:,.0f}"
                f" rows, ESS {row['ess']:,.0f}, simulated power {row['power_normal']:.3f} normal,"
                f" {row['power_ess_exact']:.3f} ess_exact"
            )
    for row in platform:
        print(
            f"platform, {row['logging']} logging: standard error {row['predicted']:.4g} predicted,"
            f" {row['observed']:.4g} ± {row['observed_se']:.2g} observed, ESS {row['ess']:,.0f}"
        )
    for row in curve:
        if row["simulated"] is not None or row["logging"] in ("least", "densest"):
            print(
                ", ".join(
                    f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
                )
            )


if __name__ == "__main__":
    main()

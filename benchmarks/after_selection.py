"""Do intervals cover the value of a policy that was learnt from the same log? Against one that
was fixed before, and a fresh log.

Each replicate climbs a lower bound from the logging mean (`optimise.fit`, the scale fixed at 0.7
of the logger's) and is then evaluated on its own log and on an independent one of the same size;
truth is the exact value of the learnt policy.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax import estimators, intervals
from mopl_jax.coverage import engine
from mopl_jax.io import storage
from mopl_jax.learning import optimise
from mopl_jax.logs import log_weights
from mopl_jax.policies import Gaussian
from mopl_jax.simulation import environments

RESULTS = Path(__file__).parent / "results"
SIZES, REPLICATES, SCALE, ALPHA = (64, 512), 200, 0.7, 0.05
INTERVALS = ("normal", "ess_exact", "ess_safe", "recommended")
OBJECTIVES = {"normal bound": intervals.normal, "ess_exact bound": intervals.ess_exact}


def worlds() -> list[tuple[str, int, environments.Environment]]:
    """A surface with an optimum within reach and one without, light and heavy noise."""
    found = []
    for d in (2, 5):
        peak = environments.Quadratic(jnp.zeros(()), jnp.full(d, 0.8 / d**0.5), 0.3 * jnp.eye(d))
        slope = environments.Linear(jnp.full(d, 0.3 / d**0.5), jnp.zeros(()))
        found += [
            ("quadratic", d, environments.Environment(peak, environments.Normal(jnp.asarray(0.5))))
        ]
        found += [
            (
                "log_normal",
                d,
                environments.Environment(slope, environments.LogNormal(jnp.ones(()), jnp.ones(()))),
            )
        ]
    return found


@functools.partial(jax.jit, static_argnames=("n", "objective"))
def _replicates(keys, environment, logging, n, objective):
    """Limits (r, which log, interval), and the values that they should contain."""
    named = [intervals.bind(name) for name in INTERVALS]
    start = Gaussian(logging.mean, SCALE * logging.scale)

    def one(key):
        mine, fresh = (
            engine.replicate(jax.random.fold_in(key, i), environment, logging, n) for i in (0, 1)
        )
        learnt = optimise.fit(mine, start, interval=OBJECTIVES[objective], alpha=ALPHA)
        made = [
            estimators.snips(log_weights(learnt.policy, logs), logs.reward)
            for logs in (mine, fresh)
        ]
        ends = [[f(estimate, ALPHA) for f in named] for estimate in made]
        ends += [[f(estimators.snips(log_weights(start, mine), mine.reward), ALPHA) for f in named]]
        limits = jnp.asarray([[[x.lower, x.upper] for x in each] for each in ends])
        truth = [
            environment.policy_value(policy) for policy in (learnt.policy, learnt.policy, start)
        ]
        return limits, jnp.stack(truth), learnt.ess

    return jax.lax.map(one, keys, batch_size=16)


def main() -> None:
    """Write results/after_selection.parquet and .md."""
    rows = []
    for name, d, environment in worlds():
        logging = Gaussian.diagonal(jnp.zeros(d), 1.0)
        for n, objective in ((n, objective) for n in SIZES for objective in OBJECTIVES):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(7), n + d), REPLICATES)
            limits, truth, size = map(
                np.asarray, _replicates(keys, environment, logging, n, objective)
            )
            for k, log in enumerate(("same log", "fresh log", "fixed policy")):
                for i, interval in enumerate(INTERVALS):
                    low, high = limits[:, k, i].T.astype(float)
                    rows.append(
                        {
                            "world": name,
                            "d": d,
                            "n": n,
                            "learnt by": objective,
                            "evaluated on": log,
                            "interval": interval,
                        }
                        | {
                            "coverage": float(
                                np.mean((low <= truth[:, k]) & (truth[:, k] <= high))
                            ),
                            "replicates": REPLICATES,
                        }
                        | {
                            "bound_valid": float(np.mean(low <= truth[:, k])),
                            "width": float(np.median(high - low)),
                        }
                        | {"ess_median": float(np.median(size))}
                    )
            print(name, d, n, objective, flush=True)
    storage.write_results(RESULTS / "after_selection.parquet", rows, storage.provenance(seed=7))
    report()


def report() -> None:
    """results/after_selection.md from the stored rows."""
    rows, _ = storage.read_results(RESULTS / "after_selection.parquet")
    titles = {
        "coverage": "Coverage of 95 % intervals",
        "bound_valid": "Validity of their lower ends, bounds at 97.5 %",
    }
    text = "\n\n".join(f"## {title}\n\n{table(rows, measure)}" for measure, title in titles.items())
    (RESULTS / "after_selection.md").write_text(text + "\n")
    print(text)


def table(rows: list[dict], measure: str) -> str:
    """A share over all worlds, median (worst), by interval, n and what is evaluated."""
    head = (
        "| interval | learnt by | n | "
        + " | ".join(("same log", "fresh log", "fixed policy"))
        + " |\n|---|---|--:|--:|--:|--:|"
    )
    lines = []
    for interval in INTERVALS:
        for objective in OBJECTIVES:
            for n in SIZES:
                some = [
                    r
                    for r in rows
                    if (r["interval"], r["learnt by"], r["n"]) == (interval, objective, n)
                ]
                cells = [
                    [r[measure] for r in some if r["evaluated on"] == log]
                    for log in ("same log", "fresh log", "fixed policy")
                ]
                text = " | ".join(f"{np.median(c):.3f} ({min(c):.3f})" for c in cells)
                lines.append(f"| {interval} | {objective} | {n:,} | {text} |")
    return f"{head}\n" + "\n".join(lines)


if __name__ == "__main__":
    main()

"""Does the certified learner reach the published test reward on *noisycircles*?

Zenati et al. (arXiv 2004.11722): contexts on two noisy circles, a dose whose best value is about 3
on the outer one and 1 on the inner (normal, standard deviation 0.5, its size), logged log-normal
with mean 2 and standard deviation 1; the reward rises to the best dose, falls by half a unit beyond
it, and is −0.1 at least. 10,000 rows teach, 10,000 certify, 10,000 test; the test reward is the
mean over 100 draws a row. Theirs: 0.6161 with a proximal method, 0.6141 without (SNIPS, log-normal
policies, a polynomial kernel). The data are drawn anew by this description for each seed.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from benchmarks import _study
from mopl_jax.learning.pipeline import learn_contextual
from mopl_jax.policies.mapped_normal import log_normal

SIZES = {"replicates": 3, "n": 30_000, "means": ("network", "linear")}
QUICK = {"replicates": 1, "n": 3000, "means": ("network",)}
SPREAD = np.sqrt(np.log(1 + 1 / 4))
MIDDLE = np.log(2) - SPREAD**2 / 2
PUBLISHED = 0.6141


def run(options) -> _study.Rows:
    """One row for each seed and kind of mean."""
    jax.config.update("jax_enable_x64", True)
    return _study.Rows(
        one(mean, options.n, seed) for mean in options.means for seed in range(options.replicates)
    )


def circles(rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Contexts (n, 2), and the best dose of each (n,)."""
    turn, inner = rng.uniform(0, 2 * np.pi, n), rng.random(n) < 0.5
    radius = np.where(inner, 0.5, 1.0)
    place = radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    best = np.abs(rng.normal(np.where(inner, 1.0, 3.0), 0.5))
    return place + 0.05 * rng.normal(size=(n, 2)), best


def reward(best: np.ndarray, dose: np.ndarray) -> np.ndarray:
    """Of a dose beside the best one."""
    return np.maximum(np.where(dose < best, dose / best, 1 + 0.5 * (best - dose)), -0.1)


def one(mean: str, n: int, seed: int) -> dict:
    """What is learnt of one log, and what it earns on the test rows."""
    rng = np.random.default_rng(seed)
    context, best = circles(rng, n)
    dose = rng.lognormal(MIDDLE, SPREAD, n)
    taught, test = slice(0, 2 * n // 3), slice(2 * n // 3, None)
    columns = {"dose": dose, "reward": reward(best, dose), "x": context[:, 0], "y": context[:, 1]}
    log = pa.table({name: column[taught] for name, column in columns.items()})
    logging = log_normal(np.array([MIDDLE]), SPREAD)
    made: Any = learn_contextual(log, "x,y", mean=mean, action="dose", logging=logging, share=0.5)
    codes, _ = made.policy.encode([context[test, 0], context[test, 1]])
    plain = dataclasses.replace(made.policy, logarithms=False)
    centre = np.asarray(jax.vmap(lambda code: plain.given(code).mean)(jnp.asarray(codes)))[:, 0]
    spread = float(np.ravel(plain.scale)[0])
    if not made.personalise:
        middle = made.learnt.middle
        centre = np.full(len(codes), float(middle.mean[0]))
        spread = float(middle.covariance[0, 0]) ** 0.5
    draws = np.exp(centre + spread * rng.normal(size=(100, len(codes))))
    return {
        "mean of the policy": mean,
        "seed": seed,
        "personalised": made.personalise,
        "certified gain over global": made.least,
        "logged reward": float(columns["reward"][test].mean()),
        "test reward": float(reward(best[test], draws).mean()),
        "published": PUBLISHED,
    }

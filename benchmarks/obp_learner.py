"""How good is obp's continuous learner (Open Bandit Pipeline) at d = 1, on the same logs as ours?

obp's `ContinuousNNPolicyLearner` (Kallus & Uehara 2020) follows the gradient of a kernelised
importance-weighted estimate (`ipw`) over a neural network of the context, here a constant. The
worlds are those of `benchmarks/_north_stars.py` in one dimension, where bimodal and ridge-shaped
ones have nothing orthogonal to be tilted along. Regret is that of the weight played exactly.
Needs `pip install obp` (and its own old requirements).
"""

import time
import warnings
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from benchmarks._north_stars import NOISES, RADIUS, best, draw, standard, worlds
from mopl_jax.learning.proposal import propose
from mopl_jax.learning.response_surface import fit_surface, highest

SIZES = {"n": 4000, "replicates": 5}
QUICK = {"n": 200, "replicates": 2}
NEEDS = {"obp": "pip install obp, with its own old requirements"}
# obp has no default for the first; its rate of 1e-4 has not arrived after its 100 epochs.
BANDWIDTH, RATE = 0.3, 1e-3


@jax.jit
def ours(logs):
    """Weights (1,) of the surface's maximum, and what `mopl learn` learns."""
    found = propose(logs, float(len(logs.reward)), radius=RADIUS).guess.mean
    return {
        "surface": highest(fit_surface(logs.action, logs.reward, standard(1)), RADIUS),
        "learnt here": found,
    }


def theirs(logs, seed: int) -> np.ndarray:
    """The weight (1,) that obp's learner plays."""
    from obp.policy import ContinuousNNPolicyLearner

    learner = ContinuousNNPolicyLearner(
        dim_context=1,
        pg_method="ipw",
        bandwidth=BANDWIDTH,
        output_space=(-RADIUS, RADIUS),
        learning_rate_init=RATE,
        random_state=seed,
    )
    context, pscore = np.ones((len(logs.reward), 1)), np.exp(np.asarray(logs.log_propensity, float))
    learner.fit(
        context, np.asarray(logs.action[:, 0], float), np.asarray(logs.reward, float), pscore
    )
    return learner.predict(context[:1])


def run(options) -> _study.Rows:
    """Median regret of each learner, its 10 and 90 % quantiles, and seconds."""
    warnings.filterwarnings("ignore")
    rows = (
        row
        for number, (name, world) in enumerate(worlds(1).items())
        for row in _of_world(number, name, world, options)
    )
    return _study.Rows(rows, bandwidth=BANDWIDTH, rate=RATE)


def _of_world(number, name, world, options) -> Iterator[dict]:
    top, nothing = best(world, 1)
    for kind, noise in NOISES.items():
        keys = jax.random.split(
            jax.random.fold_in(jax.random.key(number), options.n), options.replicates
        )
        logs = [draw(key, world, jnp.asarray(noise), 1, options.n) for key in keys]
        for learner, (means, seconds) in _learnt(logs).items():
            regret = top - np.asarray(jax.vmap(world)(jnp.asarray(means, jnp.float32)), float)
            low, middle, high = np.quantile(regret, (0.1, 0.5, 0.9))
            about = {"world": name, "noise": kind, "n": options.n, "learner": learner}
            about |= {"nothing": top - nothing, "regret": middle}
            yield about | {"regret_q10": low, "regret_q90": high, "seconds": seconds}


def _learnt(logs):
    """Means (replicates, 1) and seconds of every learner, on the same logs."""
    made = [ours(x) for x in logs]
    found = {name: (np.stack([x[name] for x in made]), None) for name in made[0]}
    started = time.perf_counter()
    means = np.stack([theirs(x, i) for i, x in enumerate(logs)])
    return found | {"obp ipw": (means, (time.perf_counter() - started) / len(logs))}

"""The continuous learner of the Open Bandit Pipeline at d = 1, on the same logs as ours.

obp's `ContinuousNNPolicyLearner` (Kallus & Uehara 2020) follows the gradient of a kernelised
importance-weighted estimate (`ipw`) over a neural network of the context, here a constant. The
worlds are those of `benchmarks/learning.py` in one dimension, where bimodal and ridge-shaped
ones have nothing orthogonal to be tilted along. Regret is that of the weight played exactly.
Needs `pip install obp` (and its own old requirements).
"""

import importlib.util
import json
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.learning import NOISES, QUICK, RADIUS, best, draw, standard, worlds
from mopl_jax.io import storage
from mopl_jax.learning.refinement import learn
from mopl_jax.learning.response_surface import fit_surface, highest

RESULTS = Path(__file__).parent / "results"
N, REPLICATES = 4_000, 5
BANDWIDTH, RATE = (
    0.3,
    1e-3,
)  # obp has no default for the first; its rate of 1e-4 has not arrived after its 100 epochs


@jax.jit
def ours(logs):
    """Weights (1,) of the surface's maximum, and what `mopl learn` learns."""
    found = learn(logs, radius=RADIUS, steps=10, optimiser=QUICK).learnt.policy.mean
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


def main() -> None:
    """Write results/obp_learner.json: median regret of each learner, its 10 and 90 % quantiles, and
    seconds.
    """
    if importlib.util.find_spec("obp") is None:
        print("not run: obp is not installed", file=sys.stderr)
        return
    warnings.filterwarnings("ignore")
    rows = []
    for number, (name, world) in enumerate(worlds(1).items()):
        top, nothing = best(world, 1)
        for kind, noise in NOISES.items():
            found = _learnt(
                jax.random.fold_in(jax.random.key(number), N), world, jnp.asarray(noise)
            )
            for learner, (means, seconds) in found.items():
                regret = top - np.asarray(jax.vmap(world)(jnp.asarray(means, jnp.float32)), float)
                low, middle, high = np.quantile(regret, (0.1, 0.5, 0.9))
                row = {
                    "world": name,
                    "noise": kind,
                    "n": N,
                    "learner": learner,
                    "nothing": top - nothing,
                }
                row |= {"regret": middle, "regret_q10": low, "regret_q90": high, "seconds": seconds}
                rows.append(row)
                print(f"{name:10} {kind:6} {learner:11} {middle:.4f}", file=sys.stderr, flush=True)
    document = storage.provenance(replicates=REPLICATES, bandwidth=BANDWIDTH, rate=RATE) | {
        "rows": rows
    }
    (RESULTS / "obp_learner.json").write_text(json.dumps(document, indent=1) + "\n")


def _learnt(key, world, noise):
    """Means (replicates, 1) and seconds of every learner, on the same logs."""
    logs = [draw(k, world, noise, 1, N) for k in jax.random.split(key, REPLICATES)]
    made = [ours(x) for x in logs]
    found = {name: (np.stack([x[name] for x in made]), None) for name in made[0]}
    started = time.perf_counter()
    means = np.stack([theirs(x, i) for i, x in enumerate(logs)])
    return found | {"obp ipw": (means, (time.perf_counter() - started) / REPLICATES)}


if __name__ == "__main__":
    main()

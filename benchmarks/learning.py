"""How good are the weights that are learnt, and does the certificate hold? Regret against n,
beside other learners.

Worlds and logs are those of `benchmarks/_north_stars.py`. Every learner's mean is within 2.5
standard deviations. Regret is that of the mean played exactly, f(a*) − f(μ), a* the best within
that ball, f the true mean reward; the certificate is for the Gaussian policy, and compared with
that policy's true value. A learner sees n rows; certificates see n/2 further rows. `chosen` keeps
the logging mean unless the certified gain is positive. Certificates are by `certify`'s own
interval, `ess_skew`.
"""

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import _learning_tables, _study
from benchmarks._learners import ALPHA, CONTENDERS, OPTIMISER, contender
from benchmarks._north_stars import NOISES, RADIUS, SCALE, best, draw, standard, worlds
from mopl_jax.learning.certification import certify
from mopl_jax.learning.objective import doubly_robust
from mopl_jax.learning.refinement import learn
from mopl_jax.learning.response_surface import fit_surface, highest
from mopl_jax.policies import Gaussian

SIZES = {"replicates": 200, "d": (5, 2, 5, 2, 10, 5), "n": (4000, 1000, 1000, 4000, 4000, 16_000)}
QUICK = {"replicates": 4, "d": (2,), "n": (500,)}
CERTIFIED = ("snips", "snips_normal", "robust_normal", "refined")
SHARED = ("smoothed", "bound", "ess", "certified", "gain")


def run(options) -> _study.Rows:
    """Every shape (d, n), in two threads, so that compilations overlap."""
    rows_for = functools.partial(rows_of_shape, replicates=options.replicates)
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(rows_for, options.d, options.n))
    config = {"radius": RADIUS, "alpha": ALPHA, "scale": SCALE}
    return _study.Rows((row for part in parts for row in part), study=config)


def rows_of_shape(d: int, n: int, replicates: int) -> list[dict]:
    """One row for each world, noise and learner."""
    rows = []
    for number, (name, world) in enumerate(worlds(d).items()):
        top, nothing = best(world, d)
        about = {"world": name, "d": d, "n": n, "replicates": replicates}
        about |= {"best": top, "nothing": top - nothing}
        key = jax.random.fold_in(jax.random.key(number), d * 1_000_003 + n)
        for kind, noise in NOISES.items():
            keys = jax.random.split(key, replicates)
            found = jax.device_get(_batch(keys, world, jnp.asarray(noise), d, n))
            rows += [about | {"noise": kind} | row for row in _rows(found, top, nothing)]
    return rows


def _rows(found, top, nothing) -> Iterator[dict]:
    for learner, facts in found.items():
        yield {"learner": learner} | _summary(facts, top, nothing)
    gains = found["refined"]["gain"] > 0
    kept = {"point": np.where(gains, found["refined"]["point"], nothing)}
    yield {"learner": "chosen"} | _summary(kept, top, nothing)


def _summary(facts, top, nothing):
    """Quantiles of regret, and how often bounds held; None where a learner has none."""
    regret = top - np.asarray(facts["point"], float)
    low, middle, high = np.quantile(regret, (0.1, 0.5, 0.9))
    row = {"regret": middle, "regret_mean": regret.mean(), "regret_q10": low, "regret_q90": high}
    row |= {"worse": float(np.mean(regret > top - nothing + 1e-6))}
    row |= {"point": float(np.median(facts["point"]))}
    row |= {key: float(np.median(facts[key])) if key in facts else None for key in SHARED}
    for key in ("bound", "certified"):
        holds = float(np.mean(facts[key] <= facts["smoothed"])) if key in facts else None
        row[f"{key}_holds"] = holds
    row["certified_gain"] = float(np.mean(facts["gain"] > 0)) if "gain" in facts else None
    row["accepted"] = float(np.mean(facts["accepted"])) if "accepted" in facts else None
    return row


@functools.partial(jax.jit, static_argnames=("d", "n"))
def _batch(keys, world, noise, d, n):
    return lax.map(lambda key: one(key, world, noise, d, n), keys, batch_size=max(1, 2**15 // n))


def judged(world, mean, scale):
    """True values of a mean: played exactly, and as the Gaussian policy."""
    return {"point": world(mean), "smoothed": world.smoothed(mean, scale)}


def one(key, world, noise, d, n):
    """Everything of one replicate: means learnt and what is true of them; certificates."""
    logs = draw(jax.random.fold_in(key, 10), world, noise, d, n)
    more = draw(jax.random.fold_in(key, 11), world, noise, d, n // 2)
    surface = fit_surface(logs.action, logs.reward, standard(d))
    top = highest(surface, RADIUS)
    policies, accepted = learnt_policies(logs, surface, top)
    found = {"surface": judged(world, top, SCALE)}
    for name, (mean, width, bound, size) in policies.items():
        found[name] = judged(world, mean, width) | {"bound": bound, "ess": size}
    made = certificates(more, surface, [policies[name][:2] for name in CERTIFIED])
    for i, name in enumerate(CERTIFIED):
        found[name] |= {"certified": made.bound[i], "gain": made.gain_bound[i]}
    found["refined"] |= {"accepted": accepted}
    return found


def learnt_policies(logs, surface, top) -> tuple[dict[str, Any], jax.Array]:
    """Mean, scale, maximised bound and ESS of each learner; whether a refinement was accepted."""
    starts = jnp.stack([top, jnp.zeros_like(top)])
    settings = jnp.asarray(list(CONTENDERS.values()), jnp.float32)
    rest = lax.map(lambda setting: contender(logs, surface, setting, starts), settings)
    policies: dict[str, Any] = {
        name: (rest.policy.mean[i], SCALE, rest.bound[i], rest.ess[i])
        for i, name in enumerate(CONTENDERS)
    }
    # `mopl learn`, but for fewer steps and a wider ball
    refined = learn(logs, radius=RADIUS, steps=10, optimiser=OPTIMISER)
    learnt = refined.learnt
    # the whitening is the logged actions' own covariance, N(0, I) up to noise
    scale = jnp.sqrt(jnp.mean(jnp.diagonal(learnt.policy.covariance)))
    policies["refined"] = (learnt.policy.mean, scale, learnt.bound, learnt.ess)
    return policies, refined.accepted.any()


def certificates(rows, surface, tasks):
    """Of each (mean, scale), against the logging mean, on rows that did not choose it."""
    zero = jnp.zeros(rows.action.shape[1])

    def certificate(task):
        mean, width = task
        policy = Gaussian(mean, jnp.ones_like(zero) * width)
        return certify(policy, rows, zero, value_estimator=doubly_robust(surface), alpha=ALPHA)

    means, scales = zip(*tasks, strict=True)
    widths = jnp.stack([jnp.asarray(scale, jnp.float32) for scale in scales])
    return lax.map(certificate, (jnp.stack(means).astype(jnp.float32), widths))


def table(rows: list[dict]) -> str:
    """Aims, regret, and each cell's certificates."""
    parts = (_learning_tables.aims, _learning_tables.regrets, _learning_tables.claims)
    return "\n\n".join(part(rows) for part in parts)

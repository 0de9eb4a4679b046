"""Do intervals from logs of explored users hold the true gain online? Part of `closed_loop`."""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._loop import PLAN, START, World, as_long
from benchmarks._study import grouped, markdown
from mopl_jax import intervals, logs
from mopl_jax.estimators import difference, snips
from mopl_jax.learning import constraints, optimise
from mopl_jax.logs import log_weights
from mopl_jax.policies import Gaussian
from mopl_jax.simulation import online

FEW = 100  # effective rows of the contrast at or above which intervals are held to their level
INTERVALS = {"": intervals.ess_skew, "normal_": intervals.normal}


@jax.jit
def _contrasts(logs, means, now):
    """Estimated gain, ESS of the contrast, and ends (interval, 2), for each mean."""

    def estimate(mean):
        policy = Gaussian(mean, jnp.full_like(mean, PLAN.fine * PLAN.scale))
        return snips(log_weights(policy, logs), logs.reward)

    def one(mean):
        made = [estimate(x) for x in (mean, now)]
        gain = difference(made[0], made[1])
        ends = [f(gain, 0.05) for f in INTERVALS.values()]
        size = jnp.minimum(*[1 / jnp.sum(jnp.square(jax.nn.softmax(x.log_weight))) for x in made])
        return gain.value, size, jnp.asarray([(end.lower, end.upper) for end in ends])

    return jax.lax.map(one, means)


@jax.jit
def _learn(rows, logging):
    start = Gaussian(logging.mean, PLAN.fine * logging.scale)
    project = constraints.spherical_cap(logging.mean, PLAN.radius * PLAN.scale)
    return optimise.fit(rows, start, project=project).policy.mean


def rows(world: World, options) -> Iterator[dict]:
    """Each row: one policy on one log. Learnt policies are judged on the rows that chose them and
    on rows that did not.
    """
    logging = Gaussian.diagonal(jnp.asarray(START), PLAN.scale)
    chosen = _random(options.random)
    truth = [world.gain(weights) for weights in chosen]
    learnt = []
    for number in range(options.logs):
        whole = _log(world, logging, 10 + number, options.rows)
        halves = logs.split(whole)
        mean = np.asarray(_learn(halves[0], logging))
        learnt.append((mean, world.gain(mean)))
        yield from _judged(whole, chosen, truth, number, "random")
        for kind, half in zip(("same", "other"), halves, strict=True):
            yield from _judged(half, mean[None], [learnt[-1][1]], number, f"learnt, {kind} rows")
    means, truths = zip(*learnt, strict=True)
    large = _log(world, logging, 9, options.large)
    yield from _judged(large, chosen, truth, -1, "random, large log")
    yield from _judged(large, np.stack(means), truths, -1, "learnt, large log")


def _random(count):
    """Weights in random directions, ever further from the first ones."""
    ways = np.random.default_rng(2).normal(size=(count, START.size))
    reach = np.linspace(0.1, 2.0, count)[:, None] * PLAN.scale
    moved = START + reach * ways / np.linalg.norm(ways, axis=1, keepdims=True)
    return as_long(moved).astype(np.float32)


def _log(world, logging, part, rows):
    traffic = online.play(world.platform, logging, world.part(part), (0, rows), world.mesh)
    return online.log(traffic, logging)


def _judged(logs, means, truth, number, kind) -> Iterator[dict]:
    found = _contrasts(logs, jnp.asarray(means), jnp.asarray(START))
    gain, size, ends = map(np.asarray, found)
    for i, value in enumerate(truth):
        row = {"log": number, "kind": kind, "n": len(logs.reward)}
        row |= {"estimate": float(gain[i]), "ess": float(size[i])}
        row |= {"truth": value.mean, "truth_se": value.se}
        for j, prefix in enumerate(INTERVALS):
            lower, upper = map(float, ends[i, j])
            row |= {f"{prefix}lower": lower, f"{prefix}upper": upper}
        yield row


def table(rows: list[dict]) -> str:
    """How many intervals hold the truth, by kind of policy."""
    kept = grouped((row for row in rows if row["ess"] >= FEW), "kind")
    lines = [
        [kind, f"{min(row['ess'] for row in some):,.0f}", _held(some, ""), _held(some, "normal_")]
        for (kind,), some in kept.items()
    ]
    head = (f"policies, ESS ≥ {FEW}", "least ESS", "ess_skew holds the truth", "normal")
    return f"{markdown(head, lines)}\n\n± one standard error, clustered by log."


def _held(rows, prefix):
    """How many intervals hold the truth; the share's standard error from whole logs, which policies
    share.
    """
    held = np.array(
        [row[f"{prefix}lower"] <= row["truth"] <= row[f"{prefix}upper"] for row in rows]
    )
    logs, of = np.unique([row["log"] for row in rows], return_inverse=True)
    if logs.size == 1:
        return f"{held.sum():,} of {held.size:,} (one log)"
    off = np.bincount(of, held - held.mean())
    error = math.sqrt(logs.size / (logs.size - 1) * np.square(off).sum()) / held.size
    return f"{held.sum():,} of {held.size:,}: {held.mean():.3f} ± {error:.3f}"

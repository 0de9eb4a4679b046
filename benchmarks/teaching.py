"""How many rows are worth learning from? A log in a warehouse teaches by a sample of its users
(`long_log.TAUGHT` rows), and could teach all that is quadratic by sums over all rows.

Worlds and logs are those of `benchmarks/_learning_worlds.py`, d = 10, n rows of one log. `waves`:
what `mopl learn` proposes from the first so many rows, for 10⁸ rows that certify. `quadratic`: the
best action by the quadratic surface of all n, as an engine's sums of products would give it.
Regret is that of the best guess played exactly, and `certified` the true gain of the policy that is
to be certified, both as a share of what can be gained.
"""

import functools
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _learning_worlds, _pieces, _study
from benchmarks._learning_worlds import RADIUS
from benchmarks._study import grouped
from benchmarks.certificates import unit_of
from mopl_jax.learning.proposal import propose
from mopl_jax.learning.response_surface import fit_surface, highest, moments_of
from mopl_jax.numerics.pytree import entries

SIZES = {
    "replicates": 4,
    "seconds": 500,
    "n": 2**20,
    "taught": (2**16, 2**18, 2**20),
    "worlds": ("quadratic", "saturating", "sparse", "far", "wavy", "plateau", "ring", "tilted"),
}
QUICK = {"replicates": 1, "n": 4000, "taught": (2000,), "worlds": ("ring",)}
KEYS = ("world", "noise", "n", "seed", "learner", "rows")
D, CERTIFYING = 10, 1e8


def run(options) -> _study.Rows:
    """One row for each log, learner and number of rows; those of an earlier run into the same
    folder are kept.
    """
    jax.config.update("jax_enable_x64", True)
    of_log = functools.partial(rows_of, options)
    return _study.Rows(_pieces.more(options, "teaching", KEYS[:5], logs_of(options), of_log))


def logs_of(options) -> Iterator[tuple]:
    """World, noise, size and seed of each log, all cells in turn."""
    for seed in range(options.replicates):
        for world in options.worlds:
            for noise in _learning_worlds.noises(world):
                yield world, noise, options.n, seed


def rows_of(options, world: str, noise: str, n: int, seed: int) -> Iterator[dict]:
    """One row for each learner and number of rows."""
    logs = jax.tree.map(jnp.asarray, _learning_worlds.draw(seed, world, noise, D, n))
    for learner, size, learn in _learners(options):
        started = time.perf_counter()
        mean, certified = jax.device_get(learn(entries(logs, slice(size))))
        seconds = time.perf_counter() - started
        unit, top = unit_of(world, D)
        gain = None if certified is None else _gain(world, certified) / unit
        facts = (top - _learning_worlds.point(world, mean)) / unit, gain, seconds
        about = zip(KEYS, (world, noise, n, seed, learner, size), strict=True)
        yield dict(about) | dict(zip(("regret", "certified", "seconds"), facts, strict=True))


def _learners(options):
    yield "quadratic", options.n, quadratic
    for size in options.taught:
        yield "waves", size, waves


def _gain(world, policy):
    return _learning_worlds.smoothed_gain(world, policy.mean, policy.scale)


@jax.jit
def quadratic(logs):
    """The best action (d,) by the quadratic surface; no policy."""
    return highest(fit_surface(logs.action, logs.reward, moments_of(logs.action)), RADIUS), None


def waves(logs):
    """The best guess (d,) of `mopl learn`, and the policy that it would certify."""
    made = propose(logs, jnp.asarray(CERTIFYING), jnp.zeros(D), radius=RADIUS)
    return made.guess.mean, made.certified


def table(rows: list[dict]) -> str:
    """Means over logs, by world."""
    means = [_mean(key, some) for key, some in grouped(rows, *GROUP).items()]
    return _study.columns(means, tuple(means[0]))


GROUP = ("world", "noise", "learner", "rows")


def _mean(key, some):
    regret = np.array([row["regret"] for row in some])
    gains = [row["certified"] for row in some if row["certified"] is not None]
    return dict(zip(GROUP, key, strict=True)) | {
        "logs": len(some),
        "regret": float(regret.mean()),
        "se": float(regret.std(ddof=1) / np.sqrt(len(some))) if len(some) > 1 else None,
        "certified": float(np.mean(gains)) if gains else None,
        "seconds": float(np.median([row["seconds"] for row in some])),
    }

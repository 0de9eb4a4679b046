"""How good are the weights that are learnt, how often is a gain certified, does it hold?

Worlds and logs are those of `benchmarks/_learning_worlds.py`; half of a log teaches and the other
half certifies, by user, as in `mopl learn`. Means are within 2.5 logged standard deviations. Regret
is that of the best guess played exactly, as a share of that of doing nothing (in `centre`, where
nothing is to be gained, in units of the reward). Certified gains are one-sided 95 % bounds over the
logging mean played with the same scale, in the same unit, and are compared with the true gain.
`before` is the learner that this one replaced, on the same logs: kept for comparison, not run anew.
What is stored has between two and ten logs a cell, as its column says: directions, not a table.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _learning_worlds, _study
from benchmarks._judge import fails
from benchmarks._learning_worlds import RADIUS, REPORTING, WORLDS
from benchmarks._study import grouped, markdown
from mopl_jax.learning.certification import certify
from mopl_jax.learning.objective import doubly_robust
from mopl_jax.learning.proposal import propose
from mopl_jax.logs import split

SIZES = {"replicates": 4, "d": (5, 5, 2), "n": (4000, 1000, 4000)}
QUICK = {"replicates": 1, "d": (2,), "n": (500,)}
CELL = ("world", "noise", "d", "n", "learner")


def run(options) -> _study.Rows:
    """One row for each world, noise, shape and learner."""
    jax.config.update("jax_enable_x64", True)
    return _study.Rows(
        summary(dict(zip(CELL, (world, noise, d, n, "mopl learn"), strict=True)), facts)
        for d, n in zip(options.d, options.n, strict=True)
        for world in WORLDS
        for noise in ("metric", "bit")[: 1 if world == "heavy" else 2]
        for facts in [[one(seed, world, noise, d, n) for seed in range(options.replicates)]]
    )


def one(seed: int, world: str, noise: str, d: int, n: int) -> dict[str, Any]:
    """What is learnt from one log, and what is true of it."""
    logs = _learning_worlds.draw(seed, world, noise, d, n)
    rows, held = (jax.tree.map(jnp.asarray, part) for part in split(logs, 0.5, seed))
    made = propose(rows, float(len(held.reward)), jnp.zeros(d), radius=RADIUS)
    certificate = _certificate(made.certified, held, jnp.zeros(d), made.surface)
    policy = made.certified
    top, nothing = _learning_worlds.best(world, d)
    unit = top - nothing if top - nothing > 1e-6 else 1.0
    gain = _learning_worlds.smoothed_gain(world, policy.mean, policy.scale)
    return {
        "regret": (top - _learning_worlds.point(world, made.guess.mean)) / unit,
        "gain": gain / unit,
        "gb": float(certificate.gain_bound) / unit,
        "verdict": certificate.verdict,
    }


@jax.jit
def _certificate(policy, held, zero, surface):
    return certify(policy, held, zero, value_estimator=doubly_robust(surface))


def summary(cell: dict, facts: list[dict]) -> dict:
    """A cell's row: regret, how often and how much is certified, whether it holds, harm."""
    regret, gain, bound = (np.array([x[key] for x in facts]) for key in ("regret", "gain", "gb"))
    fine = np.array([x["verdict"] != "refuse" for x in facts])
    return cell | {
        "replicates": len(facts),
        "regret": float(regret.mean()),
        "regret_median": float(np.median(regret)),
        "positive": float(np.mean((bound > 0) & fine)),
        "certified_gain": float(np.median(np.maximum(np.where(fine, bound, 0), 0))),
        "true_gain": float(np.median(gain)),
        "holds": float(np.mean(bound <= gain + 1e-9)),
        "harm": float(np.mean((bound > 0) & fine & (gain < 0))),
    }


# Tables.

NUMBERS = ("regret", "regret_median", "positive", "certified_gain", "true_gain", "holds", "harm")


def table(rows: list[dict]) -> str:
    """Means over the worlds that a learner was chosen by, and over those invented afterwards; then
    every cell.
    """
    parts = {"chosen by": [], "invented after": []}
    for row in rows:
        parts["invented after" if row["world"] in REPORTING else "chosen by"].append(row)
    lines = [line for name, some in parts.items() for line in _means(name, some)]
    head = ("worlds", "noise", "learner", "logs", *NUMBERS, "holds too rarely")
    cells = markdown((*CELL, "logs", *NUMBERS), map(_cell, sorted(rows, key=_order)), "llrrl")
    return f"{markdown([name.replace('_', ' ') for name in head], lines, 'lll')}\n\n{cells}"


def _means(name, rows) -> Iterator[list]:
    """Means over cells, without the world that has nothing to gain."""
    some = [row for row in rows if row["world"] != "centre"]
    for (noise, learner), cells in sorted(grouped(some, "noise", "learner").items()):
        logs = sum(row["replicates"] for row in cells)
        means = [float(np.mean([row[key] for row in cells])) for key in NUMBERS]
        short = sum(fails(row["holds"], 0.95, row["replicates"]) for row in cells)
        yield [name, noise, learner, logs, *(f"{x:.3f}" for x in means), f"{short} of {len(cells)}"]


def _cell(row):
    return [*(row[key] for key in CELL), row["replicates"], *(f"{row[key]:.3f}" for key in NUMBERS)]


def _order(row):
    return tuple(row[key] for key in CELL)

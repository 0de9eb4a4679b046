"""How good are the weights that are learnt, how often is a gain certified, does it hold?

Worlds and logs are those of `benchmarks/_learning_worlds.py`, certified in four folds by user, as
in `mopl learn`. Means are within 2.5 logged standard deviations. Regret is that of the best guess
played exactly, as a share of that of doing nothing (in `centre`, where nothing is to be gained, in
units of the reward). Certified gains are one-sided 95 % bounds over the logging mean played with
the same scale, in the same unit, and are compared with the true gain. `before` is the learner that
this one replaced, half of a log to learn from: kept for comparison, not run anew.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _learning_worlds, _pieces, _study
from benchmarks._judge import fails
from benchmarks._learning_worlds import REPORTING, WORLDS
from benchmarks._study import grouped, markdown
from benchmarks.certificates import REFUSED, RULES, certified, parts_of, taught, unit_of

SIZES = {
    "replicates": 100,
    "seconds": 500,
    "d": (5, 5, 2),
    "n": (4000, 1000, 4000),
    "worlds": tuple(WORLDS),
}
QUICK = {"replicates": 1, "d": (2,), "n": (800,), "worlds": ("quadratic", "ring")}
RESULTS = ("learning", "learning_logs")
CELL = ("world", "noise", "d", "n", "learner")
LOG = ("world", "noise", "d", "n", "seed", "learner")


def run(options) -> Iterator[_study.Rows]:
    """One row for each world, noise, shape and learner; then one for each log, made in pieces as
    those of `certificates`.
    """
    jax.config.update("jax_enable_x64", True)
    logs = _study.Rows(_pieces.more(options, RESULTS[1], LOG, logs_of(options), rows_of))
    now = [
        summary(dict(zip(CELL, key, strict=True)), some)
        for key, some in grouped(logs, *CELL).items()
    ]
    before = [row for row in _pieces.stored(options, RESULTS[0]) if row["learner"] == "before"]
    yield _study.Rows(now + before)
    yield logs


def logs_of(options) -> Iterator[tuple]:
    """World, noise, shape and seed of each log, all cells in turn."""
    for seed in range(options.replicates):
        for cell in _learning_worlds.cells(options):
            yield *cell, seed


def rows_of(world: str, noise: str, d: int, n: int, seed: int) -> Iterator[dict]:
    """What is learnt from one log, and what is true of it."""
    logs = jax.tree.map(jnp.asarray, _learning_worlds.draw(seed, world, noise, d, n))
    unit, top = unit_of(world, d)
    gain, bound, verdict = certified(logs, parts_of(logs, seed), RULES["folds of 4"], world)
    guess = taught(logs, jnp.ones(n), float(n)).guess.mean
    facts = (top - _learning_worlds.point(world, guess)) / unit, gain / unit, bound / unit, verdict
    about = zip(LOG, (world, noise, d, n, seed, "mopl learn"), strict=True)
    yield dict(about) | dict(zip(("regret", "gain", "bound", "verdict"), facts, strict=True))


def summary(cell: dict, facts: list[dict]) -> dict[str, Any]:
    """A cell's row: regret, how often and how much is certified, whether it holds, harm."""
    names = ("regret", "gain", "bound", "verdict")
    regret, gain, bound, verdict = (np.array([x[key] for x in facts]) for key in names)
    fine = verdict < REFUSED
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


def table(rows: list[dict], logs: list[dict]) -> str:
    """Means over the worlds that a learner was chosen by, and over those only reportedwards; then
    every cell.
    """
    parts = {"chosen by": [], "only reported": []}
    for row in rows:
        parts["only reported" if row["world"] in REPORTING else "chosen by"].append(row)
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

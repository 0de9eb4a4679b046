"""Certify on half of the users, on folds that are pooled, or on blocks in sequence: what holds, and
promises most?

Worlds and logs are those of `benchmarks/_learning_worlds.py`, d = 5, in the shape of `n` rows. All
rules see the same logs and search by the same surface, each for the rows that certify it. `half`:
half of the users teach and the others certify. `folds of 2`, `of 4`: each fold is certified by a
policy that the others teach, all in one estimate and one bound, for the mixture of the policies.
`blocks`: the first quarter teaches the policy of the second, both that of the third, and so on.
Certified gains are one-sided 95 % bounds over the logging mean played with the same scale, as a
share of what can be gained (in `centre` in units of the reward); the true gain is exact to Sobol
integration. A rule is chosen on the worlds that a learner was chosen by, reported on the others.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import binom

from benchmarks import _learning_worlds, _pieces, _study
from benchmarks._learning_worlds import RADIUS, REPORTING, WORLDS
from benchmarks._study import grouped, markdown
from mopl_jax.intervals.ess_corrected import ess_skew
from mopl_jax.learning.certification import certify_compiled
from mopl_jax.learning.objective import doubly_robust
from mopl_jax.learning.proposal import propose
from mopl_jax.logs import num_units
from mopl_jax.numerics.pytree import stacked

SIZES = {"replicates": 100, "seconds": 500, "n": 4000, "worlds": tuple(WORLDS)}
QUICK = {"replicates": 1, "n": 800, "worlds": ("quadratic", "ring")}
KEYS = ("world", "noise", "n", "seed", "rule")
D, PARTS = 5, 4
RULES = {  # quarters that teach, and the quarters that are then certified
    "half": [((0, 1), (2, 3))],
    "folds of 2": [((2, 3), (0, 1)), ((0, 1), (2, 3))],
    "folds of 4": [(tuple({0, 1, 2, 3} - {k}), (k,)) for k in range(4)],
    "blocks": [((0,), (1,)), ((0, 1), (2,)), ((0, 1, 2), (3,))],
}


def run(options) -> _study.Rows:
    """One row for each log and rule; those of an earlier run into the same folder are kept, and a
    run ends after so many `seconds`: the study is made in pieces.
    """
    jax.config.update("jax_enable_x64", True)
    return _study.Rows(_pieces.more(options, "certificates", KEYS, logs_of(options), rows_of))


def logs_of(options) -> Iterator[tuple]:
    """World, noise, size and seed of each log, all cells in turn."""
    for seed in range(options.replicates):
        for world in options.worlds:
            for noise in _learning_worlds.noises(world):
                yield world, noise, options.n, seed


def rows_of(world: str, noise: str, n: int, seed: int) -> Iterator[dict]:
    """One row for each rule."""
    for rule, facts in one(seed, world, noise, n):
        yield dict(zip(KEYS, (world, noise, n, seed, rule), strict=True)) | facts


def one(seed: int, world: str, noise: str, n: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each rule certifies of one log, and what is true of it."""
    logs = jax.tree.map(jnp.asarray, _learning_worlds.draw(seed, world, noise, D, n))
    part, (unit, _) = parts_of(logs, seed), unit_of(world, D)
    for rule, steps in RULES.items():
        gain, bound, verdict = certified(logs, part, steps, world)
        yield rule, {"gain": gain / unit, "bound": bound / unit, "verdict": verdict}


def parts_of(logs, seed: int) -> np.ndarray:
    """The quarter of each row, by user."""
    units = num_units(logs)
    unit = np.arange(units) if logs.cluster is None else np.asarray(logs.cluster)
    return np.random.default_rng(seed).permutation(units)[unit] * PARTS // units


def unit_of(world: str, d: int) -> tuple[float, float]:
    """The regret of doing nothing, or one where that is none, and the best mean reward."""
    top, nothing = _learning_worlds.best(world, d)
    return top - nothing if top - nothing > 1e-6 else 1.0, top


def certified(logs, part, steps, world: str) -> tuple[float, float, int]:
    """True gain, certified gain and verdict of a rule."""
    rows = float(sum(np.isin(part, held).sum() for _, held in steps))
    made = [
        taught(logs, jnp.asarray(np.isin(part, taught_by), float), rows) for taught_by, _ in steps
    ]
    policies, surfaces = (
        stacked([getattr(each, name) for each in made]) for name in ("certified", "surfaces")
    )
    fold = np.full(len(part), -1)
    for k, (_, held) in enumerate(steps):
        fold[np.isin(part, held)] = k
    held = _rows(logs, fold >= 0)
    found = jax.device_get(_judged(policies, held, surfaces, jnp.asarray(fold[fold >= 0])))
    gains = [
        _learning_worlds.smoothed_gain(world, each.certified.mean, each.certified.scale)
        for each in made
    ]
    share = np.bincount(fold[fold >= 0]) / np.sum(fold >= 0)
    return float(share @ gains), float(found.gain_bound[0]), int(found.diagnosis.verdict[0])


@jax.jit
def taught(logs, kept, rows):
    """What is proposed for so many rows that certify, taught by those that are kept."""
    return propose(logs, rows, jnp.zeros_like(logs.action[0]), radius=RADIUS, kept=kept)


@jax.jit
def _judged(policies, held, surfaces, fold):
    return certify_compiled(
        policies,
        held,
        jnp.zeros_like(held.action[0]),
        jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), surfaces),
        doubly_robust,
        ess_skew,
        0.05,
        fold=fold,
    )


def _rows(logs, kept):
    part = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[kept]), logs)
    return part if logs.cluster is None else _counted(part)


def _counted(logs):
    """Users are numbered anew."""
    return dataclasses.replace(logs, cluster=np.asarray(logs.cluster), num_clusters=None)


REFUSED, LEVEL = 2, 0.95
NUMBERS = ("positive", "certified", "true", "holds", "harm")


def summary(rows: list[dict]) -> dict:
    """Of logs: how often and how much is certified, whether it holds, harm, and the probability
    of so few that hold if 95 % do.
    """
    gain, bound, verdict = (
        np.array([x[key] for x in rows]) for key in ("gain", "bound", "verdict")
    )
    promised = np.where(verdict < REFUSED, np.maximum(bound, 0), 0)
    held = bound <= gain + 1e-9
    return {
        "logs": len(rows),
        "positive": float(np.mean(promised > 0)),
        "certified": float(np.mean(promised)),
        "true": float(np.mean(gain)),
        "holds": float(np.mean(held)),
        "harm": float(np.mean((promised > 0) & (gain < 0))),
        "tail": float(binom.cdf(held.sum(), len(held), LEVEL)),
    }


def table(rows: list[dict]) -> str:
    """Means over the worlds that rules are chosen on and over the others; then every cell."""
    head = ("worlds", "rule", "logs", *NUMBERS, "all cells' tail", "least of a cell", "cells")
    lines = [
        [name, *line]
        for name, reporting in (("chosen on", False), ("reported on", True))
        for line in _means([row for row in rows if (row["world"] in REPORTING) is reporting])
    ]
    keys = ("world", "noise", "rule")
    cells = [[*key, *_said(summary(some))] for key, some in grouped(rows, *keys).items()]
    every = markdown((*keys, "logs", *NUMBERS, "tail"), cells, "lll")
    return f"{markdown(head, lines, 'll')}\n\n{every}"


def _means(rows) -> Iterator[list]:
    for (rule,), some in grouped(rows, "rule").items():
        cells = [summary(each) for each in grouped(some, "world", "noise").values()]
        yield [rule, *_said(summary(some)), min(cell["tail"] for cell in cells), len(cells)]


def _said(made) -> list:
    return [made["logs"], *(f"{made[key]:.3f}" for key in NUMBERS), f"{made['tail']:.2g}"]

"""Do the bounds of three outcomes hold at once, what do guardrails cost, and is harm kept out?

`trade`: a reward that saturates in both weights, revenue that the first one costs, reports that the
second one raises, n rows from N(0, I). `hillstrom`, where `--path` names the folder of the table:
two weights from N(0, I) choose men's e-mail, women's or none, and the outcomes are those of a real
customer who was sent that (Hillstrom 2008): visits, with guardrails on conversion and spend. Each
log is learnt from by `mopl learn` with its guardrails and without; truth is exact to 2¹⁴ draws.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq

from benchmarks import _pieces, _study
from benchmarks._study import grouped, markdown
from mopl_jax.learning.learnt_weights import holds
from mopl_jax.learning.pipeline import learn
from mopl_jax.logs import Logs

SIZES = {"replicates": 40, "seconds": 400, "n": 4000, "path": Path()}
QUICK = {"replicates": 1, "n": 800}
KEYS = ("world", "n", "seed", "guardrails")
DRAWS = np.random.default_rng(1).normal(size=(2**14, 2))


class World(NamedTuple):
    """Outcomes (n, 3) of actions (n, 2), their means (n, 3), and the guardrails of the last two."""

    draw: Callable
    mean: Callable
    limits: tuple[str, str]


def _trade(action):
    x, y = action.T
    return np.stack([np.tanh(x + y), 5 - 0.15 * x, 1 + 0.05 * y], axis=1)


def _noisy(rng, action):
    return _trade(action) + np.array([0.5, 0.4, 0.3]) * rng.normal(size=(len(action), 3))


def _worlds(path: Path) -> dict[str, World]:
    found = {"trade": World(_noisy, _trade, ("revenue:-0.5%", "reports:+2%"))}
    if (path / "hillstrom").is_dir():
        found["hillstrom"] = _hillstrom(path / "hillstrom" / "hillstrom.parquet")
    return found


def _hillstrom(path):
    table = pq.read_table(path)
    arms = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")
    segment = np.array(table["segment"].to_pylist())
    columns = [table[name].to_numpy().astype(float) for name in ("visit", "conversion", "spend")]
    outcome = np.stack(columns, axis=1)
    of_arm = [outcome[segment == arm] for arm in arms]

    def arm_of(action):
        return np.argmax(np.column_stack([np.zeros(len(action)), action]), axis=1)

    def draw(rng, action):
        arm, made = arm_of(action), np.empty((len(action), 3))
        for k, rows in enumerate(of_arm):
            made[arm == k] = rows[rng.integers(len(rows), size=np.sum(arm == k))]
        return made

    means = np.stack([rows.mean(axis=0) for rows in of_arm])
    return World(draw, lambda action: means[arm_of(action)], ("conversion:-10%", "spend:-10%"))


def run(options) -> _study.Rows:
    """One row for each log, with guardrails and without; in pieces as those of `certificates`."""
    jax.config.update("jax_enable_x64", True)
    worlds = _worlds(options.path)
    logs = ((name, options.n, seed) for seed in range(options.replicates) for name in worlds)
    return _study.Rows(
        _pieces.more(options, "guardrails", KEYS, logs, lambda *log: rows_of(worlds[log[0]], *log))
    )


def rows_of(world: World, name: str, n: int, seed: int) -> Iterator[dict]:
    """What is certified of one log and what is true of it, with guardrails and without."""
    rng = np.random.default_rng([seed, n])
    action = rng.normal(size=(n, 2))
    outcome = world.draw(rng, action)
    density = -0.5 * np.sum(action**2, axis=1) - np.log(2 * np.pi)
    logs = Logs(*map(jnp.asarray, (action, density, outcome[:, 0])))
    for used in (True, False):
        limits = dict(zip(world.limits, outcome.T[1:], strict=True)) if used else {}
        made = learn(logs, folds=4, guardrails=limits, production=np.zeros(2))
        yield dict(zip(KEYS, (name, n, seed, used), strict=True)) | _facts(world, made)


def _facts(world, made) -> dict:
    """Bounds beside the truth; whether all hold at once; harm: changed, and an outcome loses more
    than it may.
    """
    parts = made.policy.components
    change = np.mean([_change(world, each) for each in parts], axis=0)
    level = np.mean([_mean(world, np.zeros(2), each.scale) for each in parts], axis=0)
    sign = np.array([1 if ":-" in text else -1 for text in world.limits])
    allowed = np.array([float(text.rpartition(":")[2][1:-1]) / 100 for text in world.limits])
    margin = sign * change[1:] + allowed * np.abs(level[1:])
    certain = [float(each.gain_bound + each.room) for each in made.guards]
    gain = float(made.against_production.gain_bound)
    held = gain <= change[0] + 1e-9 and all(
        x <= y + 1e-9 for x, y in zip(certain, margin, strict=False)
    )
    return {
        "certified_gain": 0.0 if made.keep else gain,
        "change": not made.keep,
        "true_gain": float(change[0]),
        "holds": bool(held),
        "harm": bool(not made.keep and (change[0] < 0 or np.any(margin < 0))),
        "binding": len(made.binding),
        "confirmed": all(map(holds, made.guards)),
    }


def _mean(world, mean, scale):
    return world.mean(mean + DRAWS @ np.asarray(scale).T).mean(axis=0)


def _change(world, policy):
    return _mean(world, np.asarray(policy.mean), policy.scale) - _mean(
        world, np.zeros(2), policy.scale
    )


NUMBERS = ("change", "certified_gain", "true_gain", "holds", "harm", "binding", "confirmed")


def table(rows: list[dict]) -> str:
    """Means over logs."""
    keys = ("world", "n", "guardrails")
    lines = [
        [*key, len(some), *(float(np.mean([row[name] for row in some])) for name in NUMBERS)]
        for key, some in grouped(rows, *keys).items()
    ]
    return markdown((*keys, "logs", *(name.replace("_", " ") for name in NUMBERS)), lines)

"""What do weights by segment certainly gain over the best global weights, and are differences
invented where there are none?

Worlds of d weights and four segments of 50, 30, 19 and 1 % of the rows, rewards with normal noise
of 0.5 and levels of the segment's own. `differs`: each segment has its own optimum. `same`: one for
all. `rare`: only that of the segment of 1 % is another. `turned`, written down after everything was
chosen: rewards saturate, each segment in a direction of its own. Logging N(0, I); half of the rows
teach. Gains and regrets are true ones, by 4,096 Sobol points, of the mean reward over the segments;
gains are over the learnt global means played with the same scale. `invented` is how often `same`
is personalised, with the probability of so many if 5 % are, and the upper end of Wilson's 95 %
interval; `tables that hold` those of which the intervals of all segments, meant to hold at once,
hold the segment's true gain. Other `learners`, of fewer logs: a table certified in four folds, as
the command does by itself with so few rows, and means that are a linear function or a small network
of the levels.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from scipy.stats import binom, norm, qmc

from benchmarks import _study
from benchmarks._beside import beside
from benchmarks._study import grouped, markdown
from mopl_jax.learning.pipeline import learn_contextual
from mopl_jax.numerics.proportion import wilson_interval
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture

SIZES = {"replicates": (60, 200, 60, 60), "n": 2000, "d": 3}
SIZES |= {"worlds": ("differs", "same", "rare", "turned"), "others": (20, 60)}
QUICK = {"replicates": (1,), "n": 800, "worlds": ("differs",), "others": (0, 1)}
RESULTS = ("contextual", "contextual_learners")
HALF = {"share": 0.5}
LEARNERS = {
    "table, four folds": {},
    "linear": {"mean": "linear", **HALF},
    "network": {"mean": "network", **HALF},
}
SHARES = np.array([0.5, 0.3, 0.19, 0.01])
NOISE, ALPHA = 0.5, 0.05


def run(options) -> Iterator[_study.Rows]:
    """One row for each log; then those of the other learners."""
    jax.config.update("jax_enable_x64", True)
    yield _study.Rows(beside(one, _cells(options, options.worlds, options.replicates, HALF)))
    yield _study.Rows(_learners(options))


def _learners(options) -> Iterator[dict]:
    """A row for each learner and log."""
    each = {
        name: _cells(options, ("differs", "same"), options.others, settings)
        for name, settings in LEARNERS.items()
    }
    names = [name for name, cells in each.items() for _ in cells]
    found = beside(one, itertools.chain(*each.values()))
    yield from ({"learner": name} | row for name, row in zip(names, found, strict=True))


def _cells(options, worlds, replicates, settings) -> list[tuple]:
    """The arguments of `one`, of so many logs of each world."""
    return [
        (world, options.n, options.d, seed, settings)
        for world, logs in zip(worlds, replicates, strict=True)
        for seed in range(logs)
    ]


@functools.cache
def directions(d: int) -> np.ndarray:
    """Of the segments, (4, d), of length one."""
    drawn = np.random.default_rng(5).normal(size=(len(SHARES), d))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def mean_reward(world: str, segment: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Of actions (n, d) in their segments (n,)."""
    own = directions(action.shape[1])
    if world == "turned":
        along = (action * own[segment]).sum(axis=1)
        return np.tanh(1.5 * along) - 0.1 * np.square(action).sum(axis=1) + 0.2 * segment
    best = {"differs": own, "same": own[[0] * 4], "rare": own[[0, 0, 0, 3]]}[world]
    return -0.2 * np.square(action - best[segment]).sum(axis=1) + 0.2 * segment


def one(world: str, n: int, d: int, seed: int, settings: Mapping[str, Any]) -> dict:
    """What is learnt of one log with some `settings`, and what is true of it."""
    rng = np.random.default_rng([seed, n, d, sorted(SIZES["worlds"]).index(world)])
    segment, action = rng.choice(len(SHARES), n, p=SHARES), rng.normal(size=(n, d))
    reward = mean_reward(world, segment, action) + NOISE * rng.normal(size=n)
    columns = {f"w_{k}": action[:, k] for k in range(d)}
    log = pa.table(columns | {"reward": reward, "segment": segment.astype(str)})
    logging = Gaussian(jnp.zeros(d), jnp.ones(d))
    made: Any = learn_contextual(log, "segment", action="w_", logging=logging, **settings)
    each, most = _true(world, made)
    gain = float(SHARES @ each)
    promised = made.least if made.personalise else 0.0
    return {
        "world": world,
        "seed": seed,
        "personalised": made.personalise,
        "gain": gain,
        "bound": float(made.over_global.gain_bound),
        "promised": promised,
        "served": gain if made.personalise else 0.0,
        "attainable": most,
        "table_holds": _holds(made.segments, each),
    }


def _true(world, made) -> tuple[np.ndarray, float]:
    """True gains (4,) by segment over the global means played with the same scale, and what the
    best means by segment would gain: of each fold, by its share.
    """
    served = [made.policy.at(segment=str(k)) for k in range(len(SHARES))]
    parts = [x.components if isinstance(x, Mixture) else (x,) for x in served]
    share = np.exp(served[0].log_weight) if isinstance(served[0], Mixture) else np.ones(1)
    gains, most = np.zeros(len(SHARES)), 0.0
    for k, weight in enumerate(share):
        means, scale = np.stack([x[k].mean for x in parts]), np.asarray(parts[0][k].scale)
        base = np.asarray(made.learnt.made[k].certified.mean)
        shared = np.repeat(base[None], len(SHARES), axis=0)
        gains += weight * (values(world, means, scale) - values(world, shared, scale))
        most += weight * attainable(world, shared, scale)
    return gains, float(most)


def _holds(segments, truth) -> bool | None:
    """Whether the intervals of all segments hold, of those that have weights of their own."""
    pairs = [(x, truth[int(x.values[0])]) for x in segments]  # pyright: ignore[reportArgumentType]
    held = [x.lower - 1e-9 <= gain <= x.upper + 1e-9 for x, gain in pairs]
    return all(held) if held else None


@functools.cache
def _draws(d):
    points = qmc.Sobol(d, rng=1).random(4096)
    return norm.ppf(np.clip(points, 1e-9, 1 - 1e-9))


def values(world: str, means: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Mean rewards (4,) of normal policies (4, d) by segment, with one scale."""
    noise = _draws(means.shape[1]) @ scale.T
    each = [
        mean_reward(world, np.full(len(noise), k), mean + noise).mean()
        for k, mean in enumerate(means)
    ]
    return np.array(each)


def attainable(world: str, shared: np.ndarray, scale: np.ndarray) -> float:
    """What the best means by segment, along its direction, gain over the shared ones."""
    lengths = np.linspace(0, 2, 41)
    own = directions(shared.shape[1])
    if world != "turned":
        own = {"differs": own, "same": own[[0] * 4], "rare": own[[0, 0, 0, 3]]}[world]
    found = [SHARES @ values(world, length * own, scale) for length in lengths]
    return float(max(found) - SHARES @ values(world, shared, scale))


def table(rows: list[dict], others: list[dict]) -> str:
    """Of each world; of each learner and world."""
    by_learner = {(*key, key[1]): cell for key, cell in grouped(others, "learner", "world").items()}
    return f"{_table(grouped(rows, 'world'))}\n\n{_table(by_learner)}"


def _table(cells: dict) -> str:
    head = ("world", "logs", "personalised", "promised", "true gain served", "attainable")
    head += ("bounds that hold", "tail if 95 % do", "tail if 5 % are personalised")
    head += ("personalised at most",)
    head += ("tables that hold", "tail if 95 % do")
    lines = []
    for (*about, world), cell in cells.items():
        names = ("personalised", "promised", "served", "attainable")
        numbers = [float(np.mean([row[name] for row in cell])) for name in names]
        held = sum(row["bound"] <= row["gain"] + 1e-9 for row in cell)
        invented = sum(row["personalised"] for row in cell)
        tail = most = None
        if world == "same":
            tail = float(binom.sf(invented - 1, len(cell), ALPHA))
            most = wilson_interval(invented, len(cell))[1]
        held_tail = float(binom.cdf(held, len(cell), 1 - ALPHA))
        line = [
            ": ".join(about) or world,
            len(cell),
            *numbers,
            held / len(cell),
            held_tail,
            tail,
            most,
        ]
        lines.append([*line, *_tables([x["table_holds"] for x in cell])])
    return markdown(head, lines)


def _tables(held: list) -> list:
    """How many tables of those that there are hold, and the probability of so few if 95 % do."""
    there = [x for x in held if x is not None]
    if not there:
        return [None, None]
    tail = float(binom.cdf(sum(there), len(there), 1 - ALPHA))
    return [f"{sum(there)} of {len(there)}", tail]

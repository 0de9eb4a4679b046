"""What is a declared range of rewards worth to a difference of two policies? Clicks, and rewards
inside the range.

`before` is `ess_skew`, which knows no range; `now` is `recommended_difference`. The half "chosen
on" has pairs of normal policies (one of them the logger, or close, or opposite, or wider than the
logger) and rewards whose rate depends on one projection of the action. The other half are the
clicks of the study of differences in other seeds, and users whose five rows share a rate. A cell
fails as in `_judge`; its ESS is that of |p₁ − p₂|. By the first half was chosen how much longer the
interval of few rows is.
"""

import functools
import itertools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _click_worlds, _study
from benchmarks._judge import below, bound_fails
from benchmarks._sweep import batch_keys, logs_of, stress_worlds
from mopl_jax.coverage import engine
from mopl_jax.estimators import clustered, difference, snips
from mopl_jax.estimators.ess import kish
from mopl_jax.intervals import ess_skew, recommended_difference

SIZES = {"replicates": 400, "n": (32, 128, 512, 2048), "d": (1, 2, 5, 10), "seed": 31}
QUICK = {"replicates": 16, "n": (32,), "d": (1,)}
ALPHA, RANGE = 0.05, (0.0, 1.0)
NAMES = ("before", "now")
HALVES = ("chosen on", "reported")
FAMILIES = ("bernoulli_10", "bernoulli_1", "rising_clicks")
EACH = 5  # rows of a user

# d, and mean and scale of each of the two policies; None: the logger
PAIRS = {
    "middle − logger": (1, (0.5, 0.7), None),
    "far − logger": (1, (1.2, 0.6), None),
    "close": (1, (0.6, 0.7), (0.5, 0.7)),
    "narrower": (1, (0.5, 0.5), (0.5, 0.7)),
    "wide − middle": (2, (0.5, 1.1), (0.4, 0.7)),
    "middle − logger, d = 5": (5, (0.3, 0.75), None),
    "close, d = 5": (5, (0.35, 0.75), (0.3, 0.75)),
    "opposite, d = 5": (5, (0.2, 0.75), (-0.2, 0.75)),
}
LEFT_OUT = ("σ(−1+.5z)", "σ(−1−.5z)")
REWARDS = {
    name: (_click_worlds.clicks, rate)
    for name, rate in _click_worlds.RATES.items()
    if name not in LEFT_OUT
}
REWARDS |= {name: each for name, each in _click_worlds.INSIDE.items() if name != "stars, falling"}


def run(options) -> list[dict]:
    """One row for each pair, rewards, size and interval."""
    return [*_chosen_on(options), *_reported(options), *_users(options)]


def _chosen_on(options) -> Iterator[dict]:
    kept = {name: pair for name, pair in PAIRS.items() if pair[0] in options.d}
    for (pair, (d, *both)), (name, (draw, rate)) in itertools.product(
        kept.items(), REWARDS.items()
    ):
        rng = np.random.default_rng([options.seed, len(pair), *map(ord, name)])
        action = rng.standard_normal((d, options.replicates, options.n[-1]))
        reward = draw(rng, rate(action.sum(axis=0) / math.sqrt(d)))
        log = [*(_log_weight(action, policy) for policy in both), reward]
        first, second = (_mean(rate, d, policy) for policy in both)
        inside = "inside" if name in _click_worlds.INSIDE else "clicks"
        about = {"half": HALVES[0], "family": inside, "world": name, "d": d, "estimand": pair}
        yield from _cells(about, log, first - second, options.n)


def _log_weight(action, policy):
    if policy is None:
        return np.zeros(action.shape[1:])
    mean, scale = policy
    squares = np.square((action - mean) / scale) - np.square(action)
    return np.sum(-0.5 * squares - math.log(scale), axis=0)


def _mean(rate, d, policy):
    mean, scale = policy or (0.0, 1.0)
    return _click_worlds.mean_of(rate, mean * math.sqrt(d), scale)


def _reported(options) -> Iterator[dict]:
    for world in stress_worlds(FAMILIES.__contains__, "differences"):
        if world.d not in options.d:
            continue
        keys = batch_keys(options.seed, world, options.replicates)
        logs = {name: rest for name, *rest in logs_of(world, keys, options.n[-1])}
        for first, second in world.differences:
            name = f"{first} - {second}"
            log = [logs[first][0], *logs[second]]
            about = {"half": HALVES[1], "family": "clicks", "world": world.name, "d": world.d}
            yield from _cells(about | {"estimand": name}, log, world.truth(name), options.n)


def _users(options) -> Iterator[dict]:
    """Users who click more or less than others, with five rows each."""
    rng, n = np.random.default_rng(options.seed), options.n[-1]
    shape = (options.replicates, n)
    action = rng.standard_normal((1, *shape))
    own = np.repeat(rng.standard_normal((shape[0], n // EACH + 1)), EACH, axis=1)[:, :n]
    reward = _click_worlds.clicks(rng, 1 / (1 + np.exp(3 - 0.5 * action[0] - own)))
    for pair in ("middle − logger", "close"):
        _, *both = PAIRS[pair]
        log = [*(_log_weight(action, policy) for policy in both), reward]
        first, second = (_mean_of_users(*(policy or (0.0, 1.0))) for policy in both)
        about = {"half": HALVES[1], "family": "users", "world": "σ(−3+.5z+u)", "d": 1}
        yield from _cells(about | {"estimand": pair}, log, first - second, options.n, EACH)


def _mean_of_users(mean, scale):
    z = 0.5 * mean, math.hypot(0.5 * scale, 1.0)
    return _click_worlds.mean_of(_click_worlds.logit(-3, 1.0), *z)


@functools.partial(jax.jit, static_argnames=("n", "each"))
def _limits(first, second, reward, n, each):
    """Value and ESS (r,), and both ends (r, interval), of logs cut to n rows."""

    def one(log):
        parts = [snips(log_weight[:n], log[2][:n]) for log_weight in log[:2]]
        if each > 1:
            parts = [clustered(x, jnp.arange(n) // each, -(-n // each)) for x in parts]
        a, b = parts
        made = difference(a, b)
        ends = ess_skew(made, ALPHA), recommended_difference(a, b, ALPHA, reward_range=RANGE)
        lower, upper = (jnp.stack([getattr(x, end) for x in ends]) for end in ("lower", "upper"))
        return made.value, kish(made.log_weight), lower, upper

    return jax.lax.map(one, (first, second, reward), batch_size=engine.chunk(n))


def _cells(about, log, truth, sizes, each=1) -> Iterator[dict]:
    columns = [jnp.asarray(x, jnp.float32) for x in log]
    for n in sizes:
        value, size, lower, upper = map(np.asarray, _limits(*columns, n, each))
        oracle = 2 * 1.959964 * np.std(value, dtype=float)
        found = about | {"n": n, "replicates": len(value), "ess_median": float(np.median(size))}
        for i, name in enumerate(NAMES):
            above, under = (float(np.mean(x)) for x in (lower[:, i] > truth, upper[:, i] < truth))
            width = float(np.median(upper[:, i] - lower[:, i]))
            ends = {"coverage": 1 - above - under, "miss_above": above, "miss_below": under}
            yield found | {"interval": name} | ends | {"width": width / oracle if oracle else width}


def table(rows: list[dict]) -> str:
    """By half, rewards and ESS, before and now; then by pair and by family."""
    kept = [row for row in rows if row["ess_median"] >= 2]
    keys = {
        "half, rewards, ESS": lambda row: f"{row['half']}, {row['family']}, {_bin(row)}",
        "half, difference": lambda row: f"{row['half']}, {row['family']}, {row['estimand']}",
        "half, world": lambda row: f"{row['half']}, {row['world']}",
    }
    head = ("cells", "fail, before", "now", "worst, before", "now", "lower end fails, before")
    head += ("now", "upper end fails, before", "now", "width, before", "now")
    head += ("median ratio", "cells wider by 5 %")
    tables = (_study.markdown((name, *head), _lines(kept, key)) for name, key in keys.items())
    return "\n\n".join(tables)


def _bin(row):
    edges = {50: "≥ 50", 10: "10 to 50", 2: "2 to 10"}
    return next(said for least, said in edges.items() if row["ess_median"] >= least)


def _lines(rows, key) -> Iterator[list]:
    cells = _study.grouped(rows, "half", "family", "world", "d", "estimand", "n").values()
    groups = {}
    for cell in cells:
        groups.setdefault(key(cell[0]), []).append({row["interval"]: row for row in cell})
    for name, some in groups.items():
        yield [name, *_line([[cell[each] for cell in some] for each in NAMES])]


def _line(each):
    """Of the rows of the same cells, before and now."""
    before, now = ([row["width"] for row in some] for some in each)
    ratios = [b / a for a, b in zip(before, now, strict=True)]  # nothing, of a whole line
    shown = [[np.mean(list(map(below, some))) for some in each]]
    shown.append([min(row["coverage"] for row in some) for some in each])
    for side in ("miss_above", "miss_below"):
        shown.append([np.mean([bound_fails(row, side) for row in some]) for some in each])
    shares = [f"{x:.3f}" for pair in shown for x in pair]
    widths = [f"{x:.2f}" for x in (np.median(before), np.median(now), np.median(ratios))]
    return [len(now), *shares, *widths, f"{np.mean(np.array(ratios) > 1.05):.3f}"]

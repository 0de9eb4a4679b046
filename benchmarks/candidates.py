"""What would another default bring? `extreme_terms` and `ess_borrowed` beside `recommended`.

Three files. The first has worlds of the study of differences in d = 2, 10, other dimensions and
seeds than those that both were chosen on: values and differences. The second has rewards whose
largest values decide, unrelated to the action, some in a range that is declared: logs of the policy
itself, and logs of N(0, 1) for the target N(0.5, 0.7²), whose ESS is 0.73 n. The third has users
whose rows share half of what they are worth, two rows each or up to sixteen, which few users have;
intervals are of the users. Widths are over those of an oracle's normal interval.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from benchmarks._judge import below, bound_fails, fails
from benchmarks._sweep import batch_keys, logs_of, stress_worlds
from mopl_jax.coverage import engine
from mopl_jax.estimators import clustered, snips
from mopl_jax.estimators.contrast import difference
from mopl_jax.estimators.ess import kish
from mopl_jax.intervals import ess_borrowed, extreme_terms, recommended

SIZES = {"replicates": 200, "n": (32, 128, 512, 2048), "d": (2, 10), "logs": 1000, "seed": 12}
QUICK = {"replicates": 16, "n": (32,), "d": (2,), "logs": 32}
RESULTS = ("candidates", "candidates_tails", "candidates_users")
FAMILIES = ("linear", "cosine", "student_t3", "zero_inflated", "log_normal", "rare_revenue")
SKEWED = ("zero_inflated", "log_normal", "rare_revenue")
RANGED = {"recommended": recommended, "extreme_terms": extreme_terms}
INTERVALS = RANGED | {"ess_borrowed": ess_borrowed}
ALPHA, AIM, CAP = 0.05, 0.945, 100.0
BINS = (2, 5, 10, 50, np.inf)


def run(options) -> Iterator[list[dict]]:
    """The rows of the map, then those of the tails."""
    worlds = stress_worlds(FAMILIES.__contains__, "differences")
    yield [row for world in worlds if world.d in options.d for row in _cells(world, options)]
    rng = np.random.default_rng(options.seed)
    yield [row for name in REWARDS for row in _tails(rng, name, options.logs)]
    yield of_users(options.logs, options.seed)


# The map.


@functools.partial(jax.jit, static_argnames="n")
def _limits(log_weights, reward, n):
    """Value and ESS (r,), and both ends (r, interval), of logs cut to n rows."""

    def one(log):
        parts = [snips(log_weight[:n], log[1][:n]) for log_weight in log[0]]
        made = functools.reduce(difference, parts)
        ends = [f(made, ALPHA) for f in INTERVALS.values()]
        return made.value, kish(made.log_weight), *_stacked(ends)

    return jax.lax.map(one, (log_weights, reward), batch_size=engine.chunk(n))


def _stacked(ends):
    return jnp.stack([x.lower for x in ends]), jnp.stack([x.upper for x in ends])


def _cells(world, options) -> Iterator[dict]:
    keys = batch_keys(options.seed, world, options.replicates)
    logs = {name: rest for name, *rest in logs_of(world, keys, options.n[-1])}
    for (estimand, names), n in itertools.product(world.estimands.items(), options.n):
        log_weights = tuple(logs[name][0] for name in names)
        found = map(np.asarray, _limits(log_weights, logs[names[0]][1], n))
        about = {"world": world.name, "d": world.d, "estimand": estimand, "n": n}
        yield from _rows(about, INTERVALS, float(world.truth(estimand)), *found)


def _rows(about, names, truth, value, size, lower, upper) -> Iterator[dict]:
    about |= {"replicates": len(value), "ess_median": float(np.median(size))}
    oracle = 2 * 1.959964 * np.std(value, dtype=float)
    for i, name in enumerate(names):
        above, under = (float(np.mean(x)) for x in (lower[:, i] > truth, upper[:, i] < truth))
        ends = {"coverage": 1 - above - under, "miss_above": above, "miss_below": under}
        width = np.sort(upper[:, i] - lower[:, i]) / oracle
        most = int(0.98 * len(width)) or 1
        widths = {"width": float(np.median(width)), "mean_width": float(np.mean(width[:most]))}
        yield about | {"interval": name} | ends | widths


# The tails.


def heavy(rng, size):
    """One row in a hundred has 30 % of the rewards."""
    heavy = rng.random(size) < 0.01
    return rng.exponential(size=size) * np.where(heavy, 0.3 / 0.01, 0.7 / 0.99)


def zipf(power):
    return lambda rng, size: np.minimum(rng.zipf(power, size), 2.0**40).astype(float)


def _log_normal(shape):
    return lambda rng, size: rng.lognormal(0, shape, size)


def _capped(draw):
    return lambda rng, size: np.minimum(draw(rng, size), CAP)


def revenue(rng, size):
    return np.where(rng.random(size) < 0.05, rng.lognormal(2, 1, size), 0)


# name -> draws, and the range that is known
REWARDS = {
    "1 % of rows have 30 %": (heavy, None),
    "counts, Zipf 3.5": (zipf(3.5), None),
    "log-normal 1.5": (_log_normal(1.5), None),
    "counts, Zipf 2, to 100": (_capped(zipf(2.0)), (0.0, CAP)),
    "log-normal 1.5, to 100": (_capped(_log_normal(1.5)), (0.0, CAP)),
    "revenue of 5 %, to 100": (_capped(revenue), (0.0, CAP)),
}
SHIFT, SCALE = 0.5, 0.7


@functools.partial(jax.jit, static_argnames="reward_range")
def _ends(log_weight, reward, reward_range):
    """As `_limits`, with the range where one is known."""

    def one(log):
        made = snips(*log)
        ends = [f(made, ALPHA) for f in INTERVALS.values()]
        if reward_range is not None:
            ends += [f(made, ALPHA, reward_range=reward_range) for f in RANGED.values()]
        return made.value, kish(made.log_weight), *_stacked(ends)

    return jax.lax.map(one, (log_weight, reward), batch_size=64)


def _tails(rng, name, logs) -> Iterator[dict]:
    draw, reward_range = REWARDS[name]
    truth = float(np.mean(draw(rng, 20_000_000)))
    names = (*INTERVALS, *(f"{x}, range" for x in RANGED if reward_range))
    for n, policy in itertools.product((16, 64, 128, 256, 512), ("itself", "another")):
        action = rng.standard_normal((logs, n))
        log_weight = 0.5 * action**2 - 0.5 * ((action - SHIFT) / SCALE) ** 2
        columns = (log_weight if policy == "another" else 0 * action), draw(rng, (logs, n))
        found = _ends(*(jnp.asarray(x, jnp.float32) for x in columns), reward_range)
        about = {"rewards": name, "policy": policy, "n": n}
        yield from _rows(about, names, truth, *map(np.asarray, found))


# Users.


def _shared_log_normal(rng, size):
    """Rewards of rows of one user: half of the variance of the logarithm is the user's."""
    return np.exp(rng.standard_normal((*size[:2], 1)) + rng.standard_normal(size))


def _normal(rng, size):
    return np.log(_shared_log_normal(rng, size))


def _spenders(rng, size):
    """One user in ten spends."""
    return (rng.random((*size[:2], 1)) < 0.1) * _shared_log_normal(rng, size)


# name -> draws of (log, user, row), and their mean
OF_USERS = {
    "normal": (_normal, 0.0),
    "log-normal": (_shared_log_normal, np.e),
    "one user in ten spends": (_spenders, 0.1 * np.e),
}
MOST_ROWS = 16
ROWS = {  # of a user
    "two": lambda rng, size: np.full(size, 2),
    "1 to 16": lambda rng, size: np.minimum(rng.zipf(2.0, size), MOST_ROWS),
}


@jax.jit
def _ends_of_users(log_weight, reward):
    """As `_limits`, of logs (r, user, row)."""
    users = log_weight.shape[1]

    def one(log):
        made = snips(*(x.ravel() for x in log))
        made = clustered(made, jnp.repeat(jnp.arange(users), MOST_ROWS), users)
        ends = [f(made, ALPHA) for f in INTERVALS.values()]
        return made.value, kish(made.log_weight), *_stacked(ends)

    return jax.lax.map(one, (log_weight, reward), batch_size=32)


def of_users(logs: int, seed: int) -> list[dict]:
    """The rows of the third file."""
    rng = np.random.default_rng(seed + 1)
    kinds = itertools.product(OF_USERS, ROWS, (32, 128, 512), ("itself", "another"))
    return [row for kind in kinds for row in _users(rng, *kind, logs)]


def _users(rng, name, rows, users, policy, logs) -> Iterator[dict]:
    (draw, truth), size = OF_USERS[name], (logs, users, MOST_ROWS)
    action = rng.standard_normal(size)
    log_weight = 0.5 * action**2 - 0.5 * ((action - SHIFT) / SCALE) ** 2
    log_weight = log_weight if policy == "another" else 0 * action
    there = np.arange(MOST_ROWS) < ROWS[rows](rng, size[:2])[..., None]
    columns = np.where(there, log_weight, -np.inf), draw(rng, size)
    found = _ends_of_users(*(jnp.asarray(x, jnp.float32) for x in columns))
    about = {"rewards": name, "rows of a user": rows, "policy": policy, "n": users}
    yield from _rows(about, INTERVALS, truth, *map(np.asarray, found))


# Tables.


def table(rows: list[dict], tails: list[dict], users: list[dict]) -> str:
    """By kind of rewards and effective rows; then each reward with a long tail; then users."""
    kept = [row for row in rows if row["ess_median"] >= 2]
    head = ("rewards, estimand, ESS", "interval", "cells", "fails", "fails, recommended")
    head += ("new failures", "worst", "worst, recommended", "upper end fails")
    head += ("median width over recommended's", "mean width", "median width", "recommended's")
    lines = [
        (f"{kind}, {what}, {low} to {high:g}", name, *_line(some, name))
        for kind, what, low, high, some in _groups(kept)
        for name in INTERVALS
        if name != "recommended"
    ]
    return (
        "Ratios of widths are of cells where both are finite; mean widths leave out the widest 2 %"
        " of logs; the last two columns are over the oracle's.\n\n"
        + _study.markdown(head, lines, "llr")
        + "\n\nCoverage, width over the oracle's (median · mean); `*` below 0.945 by two standard"
        " errors.\n\n"
        + _each(tails, (*INTERVALS, *(f"{x}, range" for x in RANGED)), "rewards", "policy", "n")
        + "\n\nThe same of users, who are what n counts.\n\n"
        + _each(users, tuple(INTERVALS), "rewards", "rows of a user", "policy", "n")
    )


def _each(rows, names, *keys):
    """Every interval in every cell."""
    lines = []
    for key, some in _study.grouped(rows, *keys).items():
        by_name = {row["interval"]: row for row in some}
        cells = (_cell(by_name.get(name)) for name in names)
        lines.append((*key, f"{some[0]['ess_median']:,.0f}", *cells))
    return _study.markdown((*keys, "ESS", *names), lines, "l" * (len(keys) - 1) + "r")


def _groups(rows):
    cells = _study.grouped(rows, "world", "d", "estimand", "n").values()
    kinds = {name: (name,) for name in SKEWED}
    kinds |= {"other": tuple(x for x in FAMILIES if x not in SKEWED)}
    bins = tuple(itertools.pairwise(BINS))
    kept = itertools.product(kinds.items(), ("values", "differences"), bins)
    for (kind, worlds), what, (low, high) in kept:
        some = [{row["interval"]: row for row in cell} for cell in cells]
        some = [cell for cell in some if _belongs(cell["recommended"], worlds, what, low, high)]
        if some:
            yield kind, what, low, high, some


def _belongs(row, worlds, what, low, high):
    said = "differences" if " - " in row["estimand"] else "values"
    return row["world"] in worlds and said == what and low <= row["ess_median"] < high


def _line(cells, name):
    pairs = [(cell["recommended"], cell[name]) for cell in cells]
    usual, mine = zip(*pairs, strict=True)
    ratios = ([b[key] / a[key] for a, b in pairs] for key in ("width", "mean_width"))
    widths = ([row["width"] for row in some] for some in (mine, usual))
    return (
        len(pairs),
        *(f"{np.mean(list(map(below, some))):.3f}" for some in (mine, usual)),
        sum(below(b) and not below(a) for a, b in pairs),
        *(f"{min(row['coverage'] for row in some):.3f}" for some in (mine, usual)),
        f"{np.mean([bound_fails(row, 'miss_below') for row in mine]):.3f}",
        *(f"{np.median(_finite(x)):.2f}" for x in (*ratios, *widths)),
    )


def _finite(values):
    kept = [x for x in values if np.isfinite(x)]
    return kept or [np.nan]


def _cell(row):
    if row is None:
        return None
    mark = " *" if fails(row["coverage"], AIM, row["replicates"]) else ""
    return f"{row['coverage']:.3f}{mark}, {row['width']:.2f} · {row['mean_width']:.2f}"

"""Do differences of two policies hold by users, who play both of them or one alone?

`now` is the interval of `compare`, which is asked about the first logs of the cells of fewest users
as well: `apart` is how far its ends are, in widths. `before` takes the difference of a user's two
weights for its size, which vanishes where a user plays both policies in balance; `sums` takes the
sum of |p₁ − p₂| over its rows. Rewards depend on the action and on the user. Truths are exact. The
size was chosen on the first half; the other half are other designs and other rewards. A cell is
short where coverage is below 0.95 by more than two standard errors.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mopl_jax
from benchmarks import _click_worlds, _study
from mopl_jax.coverage import engine
from mopl_jax.estimators import clustered, difference, snips
from mopl_jax.estimators.ess import kish
from mopl_jax.intervals import ess_skew
from mopl_jax.policies import Discrete, Gaussian

SIZES = {"replicates": 1000, "users": (16, 64), "asked": 4, "seed": 41}
QUICK = {"replicates": 16, "users": (16,), "asked": 1}
ALPHA = 0.05
NAMES = ("before", "sums", "now")
HALVES = ("chosen on", "reported")


# Who plays what.


class Pair(NamedTuple):
    """Two policies and what was logging; `parts`: of each its shares of normal actions, as share,
    mean and scale.
    """

    policies: tuple
    logging: Discrete | Gaussian
    parts: tuple


def _arms(*shares) -> Pair:
    places = np.arange(len(shares[0]))
    policies = [Discrete.of(places[:, None] * 1.0, np.array(p)) for p in shares]
    even = np.full(len(places), 1 / len(places))
    parts = tuple(tuple((s, a, 0.0) for s, a in zip(p, places, strict=True)) for p in shares)
    return Pair(tuple(policies), Discrete.of(places[:, None] * 1.0, even), parts)


def _normals(*each) -> Pair:
    policies = [Gaussian.diagonal(np.array([mean]), scale) for mean, scale in each]
    logging = Gaussian.diagonal(np.zeros(1), 1.0)
    return Pair(tuple(policies), logging, tuple(((1.0, *one),) for one in each))


TWO, THREE = _arms((0.9, 0.1), (0.1, 0.9)), _arms((0.7, 0.2, 0.1), (0.1, 0.2, 0.7))
CLOSE, FAR = _normals((0.3, 0.7), (0.5, 0.7)), _normals((0.0, 1.0), (0.5, 0.7))


def _sizes(users, most=40):
    """Rows of each user of a Pareto law, two to `most`."""
    tail = (np.arange(users) + 0.5) / users
    return np.minimum(2 * np.ceil(tail ** (-1 / 1.2)), most).astype(int)


def _turns(arms):
    """Arms in turn, so that who has a multiple of them is in balance."""
    return lambda rng, shape, user: np.broadcast_to(np.arange(shape[1]) % arms, shape)


def _chance(rng, shape, user):
    return rng.integers(0, 2, shape)


def _begun(rng, shape, user):
    """In turn, whoever begins."""
    return (np.arange(shape[1]) + _one_each(rng, shape, user)) % 2


def _one_each(rng, shape, user):
    return rng.integers(0, 2, (shape[0], user[-1] + 1))[:, user]


def _normal(rng, shape, user):
    return rng.standard_normal(shape)


# Rows of each user (or how to know them), the policies, how actions are drawn.
DESIGNS = {
    HALVES[0]: {
        "in balance": (4, TWO, _turns(2)),
        "by chance": (4, TWO, _chance),
        "uneven, by chance": (_sizes, TWO, _chance),
        "normal, close": (4, CLOSE, _normal),
    },
    HALVES[1]: {
        "uneven, in balance": (_sizes, TWO, _turns(2)),
        "three arms, in balance": (6, THREE, _turns(3)),
        "one more of either": (5, TWO, _begun),
        "one arm each": (4, TWO, _one_each),
        "uneven, normal": (_sizes, FAR, _normal),
    },
}


# Rewards, of an action z, a user's effects u and v, and noise; and their means for normal actions.


class Reward(NamedTuple):
    """`draw(rng, z, u, v)`, and `mean(mean, scale)` of a normal z."""

    draw: Any
    mean: Any


def _noise(rng, z):
    return rng.standard_normal(z.shape)


def _rate(offset):
    return lambda mean, scale: _click_worlds.mean_of(
        _click_worlds.logit(offset, 1.0), 0.5 * mean, math.hypot(0.5 * scale, 1.0)
    )


def _clicked(rng, z, u, offset):
    return _click_worlds.clicks(rng, _click_worlds.logit(offset, 1.0)(0.5 * z + u))


def _log_mean(mean, scale):
    return math.exp(0.2 * mean + 0.02 * scale**2 + 0.125 + 0.245)


REWARDS = {
    HALVES[0]: {
        "normal": Reward(lambda rng, z, u, v: 0.3 * z + u + _noise(rng, z), lambda m, s: 0.3 * m),
        "zero-inflated": Reward(
            lambda rng, z, u, v: _clicked(rng, z, u, -1.5) * np.exp(0.8 * _noise(rng, z)),
            lambda m, s: _rate(-1.5)(m, s) * math.exp(0.32),
        ),
    },
    HALVES[1]: {
        "own slopes": Reward(
            lambda rng, z, u, v: (0.3 + 0.5 * v) * z + u + _noise(rng, z), lambda m, s: 0.3 * m
        ),
        "log-normal": Reward(
            lambda rng, z, u, v: np.exp(0.2 * z + 0.5 * u + 0.7 * _noise(rng, z)), _log_mean
        ),
        "clicks": Reward(lambda rng, z, u, v: _clicked(rng, z, u, -2.5), _rate(-2.5)),
    },
}


def run(options) -> list[dict]:
    """One row for each design, rewards, number of users and interval."""
    return [
        row
        for half in HALVES
        for (design, about), (name, reward) in itertools.product(
            DESIGNS[half].items(), REWARDS[half].items()
        )
        for users in options.users
        for row in _cell(
            {"half": half, "design": design, "rewards": name, "users": users},
            about,
            reward,
            options,
        )
    ]


def _cell(cell, about, reward, options) -> Iterator[dict]:
    each, pair, play = about
    sizes: Any = each(cell["users"]) if callable(each) else np.full(cell["users"], each)
    user = np.repeat(np.arange(cell["users"]), sizes)
    rng = np.random.default_rng([options.seed, *map(ord, cell["design"] + cell["rewards"])])
    shape = options.replicates, len(user)
    z = play(rng, shape, user) * 1.0
    u, v = (rng.standard_normal((shape[0], len(sizes)))[:, user] for _ in range(2))
    rewards = reward.draw(rng, z, u, v)
    truths = [sum(w * reward.mean(*x) for w, *x in parts) for parts in pair.parts]
    value, *found = map(np.asarray, _by_user(pair, z, rewards, user, len(sizes)))
    asked = options.asked if cell["users"] == options.users[0] else 0
    said = np.array([_said(pair, *log, user) for log in zip(z[:asked], rewards, strict=False)])
    yield from _rows(cell, value, found, truths[1] - truths[0], said)


def _said(pair, action, reward, user):
    """Both ends, by `compare`."""
    density = np.exp(_log_densities(pair.logging, action))
    log = {"weight": action, "reward": reward, "user": user, "density": density}
    columns: dict[str, Any] = {"action": "weight", "propensity": "density", "cluster": "user"}
    found = mopl_jax.compare(log, pair.policies, **columns).policies[1].difference
    assert found is not None
    return found.lower, found.upper


@jax.jit
def _log_densities(policy, action):
    return jax.vmap(policy.log_density)(jnp.asarray(action)[:, None])


def _by_user(pair, action, reward, user, users):
    """Value (r,), and ends and effective size (r, interval) each."""
    weights = [
        (_log_densities(x, action.ravel()) - _log_densities(pair.logging, action.ravel())).reshape(
            action.shape
        )
        for x in pair.policies
    ]
    columns = [jnp.asarray(x, jnp.float32) for x in (*weights, reward)]
    return _limits(*columns, jnp.asarray(user), users)


@functools.partial(jax.jit, static_argnames="users")
def _limits(first, second, reward, user, users):
    def one(log):
        second, first = (snips(log_weight, log[2]) for log_weight in log[:2])
        a, b = (clustered(x, user, users) for x in (first, second))
        made = [difference(a, b), clustered(difference(first, second), user, users)]
        made.append(difference(first, second, user, users))
        ends = [ess_skew(x, ALPHA) for x in made]
        lower, upper = (jnp.stack([getattr(x, end) for x in ends]) for end in ("lower", "upper"))
        return made[0].value, lower, upper, jnp.stack([kish(x.log_weight) for x in made])

    return jax.lax.map(one, (first, second, reward), batch_size=engine.chunk(len(user)))


def _rows(cell, value, found, truth, said) -> Iterator[dict]:
    oracle = 2 * 1.959964 * np.std(value, dtype=float)
    mine = np.stack([x[: len(said), -1] for x in found[:2]], axis=1)
    apart = float(np.max(np.abs(said - mine)) / oracle) if len(said) else None
    for name, (lower, upper, size) in zip(NAMES, np.moveaxis(found, -1, 0), strict=True):
        above, below = (float(np.mean(x)) for x in (lower > truth, upper < truth))
        yield cell | {
            "interval": name,
            "replicates": len(value),
            "ess_median": float(np.median(size)),
            "coverage": 1 - above - below,
            "miss_above": above,
            "miss_below": below,
            "width": float(np.median(upper - lower) / oracle),
            "apart": apart if name == "now" else None,
        }


def table(rows: list[dict]) -> str:
    """By half and design; then every cell of the present interval."""
    keys = ("half", "design", "interval")
    head = (*keys, "cells", "short", "worst", "median", "ESS / users", "width / oracle")
    groups = _study.grouped(rows, *keys).items()
    lines = [[*key, *_line(some)] for key, some in groups]
    cells = ("half", "design", "rewards", "users", "coverage", "miss_above", "miss_below", "width")
    cells += ("apart",)
    mine = [row for row in rows if row["interval"] == "now"]
    return _study.markdown(head, lines, "lllr") + "\n\n" + _study.columns(mine, cells)


def _line(rows):
    coverage = [row["coverage"] for row in rows]
    short = sum(map(_short, rows))
    share = np.median([row["ess_median"] / row["users"] for row in rows])
    width = float(np.median([row["width"] for row in rows]))
    shown = [f"{x:.3f}" for x in (min(coverage), np.median(coverage))]
    return [len(rows), short, *shown, f"{share:.2f}", f"{width:.2f}"]


def _short(row):
    return row["coverage"] < 1 - ALPHA - 2 * math.sqrt(ALPHA * (1 - ALPHA) / row["replicates"])

"""Do certificates hold on logs pooled from rounds whose policies were chosen from earlier rounds,
and which rows should certify?

Worlds of `_learning_worlds` of d whitened weights, `n` rows a round; in `users` the same `n` / 2
users come back in every round, with two rows of one action each. Rounds play N(mean, I); the next
mean is a step of at most `STEP` towards the best point of a quadratic surface of all rows so far
(`greedy`), that of one draw of its coefficients (`thompson`), or the best point where rows not
learnt from certify a gain (`certified`), within `RADIUS`. Then a policy of `SCALE` around the best
point of a quadratic surface is certified by `certify_compiled`, as `learn` does, one-sided 95 %,
over the mean of the `first` round (weights declared before) or of the `newest`, played with the
same scale. Of the rows that certify users, or rows, are in four folds, each certified by what
all others taught:

`own`: all rounds certify, each row by the density of its own round
`weighed`: the same, rounds weighed by 1/d₂ summed over policies and baseline, as `evaluate` does
`mixture`: the same rows by the density of the mixture of all rounds
`newest`: the newest round certifies; all rounds before it teach, but for the users of the fold
`older teach`: the newest round certifies, in one part, what the rounds before it taught

A way is chosen on the worlds `CHOSEN_ON`, and reported on `REPORTED_ON`.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import _judge, _learning_worlds, _study, rounds
from benchmarks._learning_worlds import RADIUS
from benchmarks.certificates import REFUSED, unit_of
from mopl_jax.estimators.divergence import population_d2
from mopl_jax.intervals.ess_corrected import ess_skew
from mopl_jax.learning.certification import certify_compiled
from mopl_jax.learning.constraints import ball
from mopl_jax.learning.objective import VALUATIONS
from mopl_jax.learning.response_surface import fit_surface, highest
from mopl_jax.learning.whitening import standard
from mopl_jax.logs import Logs
from mopl_jax.numerics.proportion import wilson_interval
from mopl_jax.policies.gaussian import Gaussian

CHOSEN_ON = ("quadratic metric", "saturating bit", "centre metric", "wavy metric")
REPORTED_ON = ("heavy metric", "users metric", "ring metric", "tilted bit")
SIZES = {"replicates": 200, "n": 400, "d": 3, "rounds": (2, 4, 6), "seed": 11}
SIZES |= {"worlds": CHOSEN_ON + REPORTED_ON}
QUICK = {"replicates": 4, "n": 160, "rounds": (2,), "worlds": ("quadratic metric", "users metric")}
STEP, SCALE, LEVEL, FOLDS, EACH = 0.75, 0.7, 0.05, 4, 2
MOVES = ("certified", "greedy", "thompson")
BASELINES = ("first", "newest")
WAYS = ("own", "weighed", "mixture", "newest", "older teach")


class Played(NamedTuple):
    """What t rounds of n rows left: `mean` (t, d) of each, and their rows (t, n, …)."""

    mean: jax.Array
    action: jax.Array
    reward: jax.Array


# The rounds.


def _play(key, world, move, count, n, d) -> Played:
    """The rounds, by the number of a world and of a move."""
    start = jnp.zeros(d)
    own = jax.random.normal(jax.random.fold_in(key, 99), (n // EACH, 1 + d))

    def step(state, t):
        mean, action, reward = state
        here = jax.random.fold_in(key, t)
        now = _rows(here, world, mean, own, n)
        action, reward = action.at[t].set(now[0]), reward.at[t].set(now[1])
        past = (jnp.arange(count) <= t)[:, None] * jnp.ones((count, n))
        rows = action.reshape(-1, d), reward.ravel(), past.ravel()
        return (_moved(here, move, mean, rows, t, n), action, reward), mean

    empty = jnp.zeros((count, n, d)), jnp.zeros((count, n))
    (_, action, reward), mean = lax.scan(step, (start, *empty), jnp.arange(count))
    return Played(mean, action, reward)


def _rows(key, world, mean, own, n):
    """Actions (n, d) and rewards (n,) of a round; `own` are the levels and slopes of users."""
    for_action, for_noise = jax.random.split(jax.random.fold_in(key, 5))
    action = mean + jax.random.normal(for_action, (n, len(mean)))
    user = np.arange(n) // EACH
    action = jnp.where(_is(world, "users"), action[user * EACH], action)
    value = jax.vmap(functools.partial(_mean_reward, world))(action)
    more = 0.5 * own[user, 0] + 0.2 * jnp.sum(own[user, 1:] * action, axis=1)
    value = value + jnp.where(_is(world, "users"), more, 0)
    noise = jax.random.normal(for_noise, (n,))
    drawn = jax.random.uniform(for_noise, (n,)) < jnp.clip(0.7 + 0.15 * value, 0, 1)
    bit, heavy = (drawn - 0.7) / 0.15, value * jnp.exp(1.2 * noise - 0.72)
    metric = jnp.where(_is(world, "heavy"), heavy, value + 0.5 * noise)
    bits = jnp.asarray([name.endswith("bit") for name in SIZES["worlds"]])
    return action, jnp.where(bits[world], bit, metric)


def _is(world, name):
    return jnp.asarray([each.startswith(name) for each in SIZES["worlds"]])[world]


def _mean_reward(world, z):
    names = [name.split()[0] for name in SIZES["worlds"]]
    return lax.switch(world, [_learning_worlds.WORLDS[name] for name in names], z)


def _moved(key, move, mean, rows, t, n):
    """The mean of the next round: a step of `rounds`, whose policies are `SPREAD` times as wide."""
    action, reward, kept = rows
    spread, d = rounds.SPREAD, len(mean)
    reference = Gaussian.diagonal(jnp.zeros(d), spread)
    number = jnp.asarray([rounds.MOVES.index(name) for name in MOVES])[move]
    scaled = spread * action, reward, kept
    scale = jnp.full(d, spread)
    moved = rounds._moved(key, number, spread * mean, scale, scaled, t, n, reference) / spread
    return ball(standard(mean), RADIUS)(moved)


# What is certified.


class Certifying(NamedTuple):
    """Which rows of t rounds certify, numbers of rows; their `fold`; and which `teach` each."""

    rows: np.ndarray
    fold: np.ndarray
    teach: np.ndarray


def _splits(count, n, users) -> dict[str, Certifying]:
    """Of all rounds, of the newest in folds, of the newest in one part."""
    row = np.arange(count * n)
    fold = (row % n // EACH if users else row) % FOLDS
    newest = row >= (count - 1) * n
    at = np.arange(FOLDS)[:, None]
    own = fold[None] == at  # (FOLDS, rows)
    # users come back in every round: what they did in older ones does not teach their own fold
    teach_newest = ~own if users else ~(own & newest[None])
    one = np.zeros(n, int)
    return {
        "all": Certifying(row, fold, ~own),
        "newest": Certifying(row[newest], fold[newest], teach_newest),
        "older teach": Certifying(row[newest], one, ~newest[None]),
    }


def _learnt(played, teach):
    """The policy that the rows teach, and their surface."""
    d = played.action.shape[-1]
    action, reward = played.action.reshape(-1, d), played.reward.ravel()
    surface = fit_surface(action, reward, standard(action[0]), kept=teach)
    return Gaussian.diagonal(highest(surface, RADIUS), SCALE), surface


def _bounds(played: Played, users: bool):
    """By way: policies (k, d), their shares of the rows, and for each baseline the certified gain,
    whether it is refused, and the effective rows.
    """
    count, n, _ = played.action.shape
    for name, split in _splits(count, n, users).items():
        policies, surfaces = lax.map(
            lambda teach: _learnt(played, teach), jnp.asarray(split.teach, float)
        )
        for way in ("own", "weighed", "mixture") if name == "all" else (name,):
            found = [
                _bound(played, split, policies, surfaces, way, played.mean[at], users)
                for at in (0, -1)
            ]
            share = jnp.asarray(np.bincount(split.fold) / len(split.fold))
            yield way, (policies.mean, share, jax.tree.map(lambda *x: jnp.stack(x), *found))


def _bound(played, split, policies, surfaces, way, baseline, users):
    count, n, d = played.action.shape
    action, reward = played.action.reshape(-1, d)[split.rows], played.reward.ravel()[split.rows]
    part = split.rows // n
    each = jax.vmap(lambda m: jax.vmap(Gaussian.diagonal(m, 1.0).log_density)(action), out_axes=1)(
        played.mean
    )
    density = each[np.arange(len(part)), part]
    if way == "mixture":
        density = jax.nn.logsumexp(each, axis=1) - jnp.log(count)
    weight = _by_round(played, policies, baseline)[part] if way == "weighed" else None
    cluster = np.unique(split.rows % n // EACH, return_inverse=True)[1] if users else None
    logs = Logs(
        action,
        density,
        reward,
        cluster=None if cluster is None else jnp.asarray(cluster),
        sampling_weight=weight,
        num_clusters=None if cluster is None else int(cluster.max()) + 1,
    )
    given = jax.tree.map(lambda x: x[None], surfaces)
    asked = policies, logs, baseline, given, VALUATIONS["doubly_robust"], ess_skew, LEVEL
    found = certify_compiled(*asked, fold=jnp.asarray(split.fold))
    return found.gain_bound[0], found.diagnosis.verdict[0] >= REFUSED, found.ess[0]


def _by_round(played, policies, baseline):
    """1/d₂ of each round, summed over the policies and the baseline, over the largest."""
    targets = jnp.concatenate([policies.mean, baseline[None]])
    d2 = jax.vmap(
        lambda m: sum(
            population_d2(Gaussian.diagonal(m, 1.0), Gaussian.diagonal(x, SCALE)) for x in targets
        )
    )(played.mean)
    return jnp.min(d2) / d2


@functools.partial(jax.jit, static_argnames=("count", "n", "d"))
def _played(keys, world, move, count, n, d):
    return lax.map(lambda key: _play(key, world, move, count, n, d), keys, batch_size=16)


@functools.partial(jax.jit, static_argnames="users")
def _judged(played, users):
    return lax.map(lambda x: dict(_bounds(x, users)), played, batch_size=16)


@jax.jit
def _value(world, means, points):
    """Values (k,) of policies of `SCALE` around means (k, d), by standard normal points (p, d)."""

    def one(mean):
        drawn = mean + SCALE * points
        return jnp.mean(jax.vmap(functools.partial(_mean_reward, world))(drawn))

    return lax.map(one, means, batch_size=64)


POINTS = np.arange(1024)  # of Sobol, and their negatives


def run(options) -> list[dict]:
    """One row for each world, move, number of rounds, baseline, way and log."""
    jax.config.update("jax_enable_x64", True)
    return [
        row
        for world, move in itertools.product(options.worlds, MOVES)
        for row in _rows_of(world, move, options)
    ]


def _rows_of(world: str, move: str, options) -> Iterator[dict]:
    number, users = SIZES["worlds"].index(world), world.startswith("users")
    key = jax.random.fold_in(jax.random.key(options.seed), number)
    keys = jax.random.split(key, options.replicates)
    counts = max(options.rounds), options.n, options.d
    points = _learning_worlds._draws(options.d)[np.concatenate([POINTS, 4096 + POINTS])]
    value = functools.partial(_value, number, points=points)
    played = _played(keys, number, MOVES.index(move), *counts)
    unit, _ = unit_of(world.split()[0], options.d)
    for count in options.rounds:
        part = Played(*(x[:, :count] for x in played))
        for way, (means, share, found) in _judged(part, users).items():
            values = np.asarray(value(means.reshape(-1, options.d)))
            made = (values.reshape(means.shape[:2]) * np.asarray(share)).sum(axis=1)
            bound, refused, ess = map(np.asarray, found)
            for k, baseline in enumerate(BASELINES):
                base = np.asarray(value(part.mean[:, (0, -1)[k]]))
                about = {"world": world, "move": move, "rounds": count}
                about |= {"baseline": baseline, "way": way}
                cell = bound[:, k], (made - base), refused[:, k], ess[:, k]
                yield about | _facts(*cell, unit)


def _facts(bound, gain, refused, ess, unit) -> dict:
    """Of a cell: how many certificates hold, how many certify, and what is certified and gained as
    shares of what can be gained.
    """
    promised = np.where(refused, 0, np.maximum(np.nan_to_num(bound, neginf=0), 0))
    stated = np.where(refused, -np.inf, bound)
    return {
        "logs": len(bound),
        "held": int(np.sum(stated <= gain + 1e-9)),
        "certified": int(np.sum(promised > 0)),
        "bound": float(np.mean(promised) / unit),
        "gain": float(np.mean(gain) / unit),
        "ess": float(np.median(ess)),
        "refused": float(np.mean(refused)),
    }


# The table.

HEAD = ("logs", "hold", "Wilson's ends", "least of a cell", "fail", "certified")
HEAD += ("certified gain", "true gain", "ESS", "refused")


def table(rows: list[dict]) -> str:
    """By the worlds that chose, and those only reported; then by rounds, and by world and move."""
    groups = {"chosen on": CHOSEN_ON, "reported on": REPORTED_ON}
    of = {name: group for group, names in groups.items() for name in names}
    named = [row | {"of": of[row["world"]]} for row in rows]
    keys = ("of", "baseline", "way")
    tables = [_table(named, keys), _table(named, ("of", "baseline", "rounds", "way"))]
    return "\n\n".join([*tables, _table(named, ("world", "move", "way"))])


def _table(rows, keys):
    lines = [[*key, *_line(some)] for key, some in _study.grouped(rows, *keys).items()]
    return _study.markdown((*keys, *HEAD), lines, "l" * len(keys))


def _line(rows):
    logs, held = (sum(row[key] for row in rows) for key in ("logs", "held"))
    low, high = wilson_interval(held, logs)
    cells = _study.grouped(rows, "world", "move", "rounds", "baseline").values()
    shares = [(some[0]["held"] / some[0]["logs"], some[0]["logs"]) for some in cells]
    fail = sum(_judge.fails(share, 1 - LEVEL, size) for share, size in shares)
    mean = lambda key: np.average([x[key] for x in rows])  # noqa: E731
    certified = sum(row["certified"] for row in rows) / logs
    yield from (logs, f"{held / logs:.3f}", f"{low:.3f} to {high:.3f}")
    yield from (f"{min(share for share, _ in shares):.3f}", f"{fail} of {len(shares)}")
    yield from (f"{certified:.2f}", f"{mean('bound'):.3f}", f"{mean('gain'):.3f}")
    yield from (f"{mean('ess'):.0f}", f"{mean('refused'):.2f}")

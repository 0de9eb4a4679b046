"""What is next week's value, and who earns it: following, frozen weights, or the full history?

Rewards are a bowl around an optimum that turns slowly, jumps, has another place on weekends, or
stays; their mean wanders in all of them. Five parts.

`rounds`: a week of `rows` explored around what is served teaches the weights of the next one. Old
weeks count by a half-life, which is fixed, or that whose weights had the best certified gain over
what was served in the weeks since they were made (`certified`), or that whose surfaces predicted
these weeks best (`predicted`). `value`: `evaluate --half-life`, `--weekdays` on eight weeks, or ten
days, against the value in the week after. `learn`: what `learn --half-life` certifies of such a
log, against the gain in the week after. `drift`: size and power of the test of `check`. `opfv`: the
published design of OPFV (KDD 2025): a year of ten arms with eight time features, the value at the
same feature of the year after, without its contexts, by SNIPS and by its own formula; λ is the
share of the rewards' change that the feature explains.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mopl_jax as mopl
from benchmarks import _study
from benchmarks._beside import beside
from mopl_jax import estimators, intervals
from mopl_jax.diagnostics.surface_drift import by_day, surface_drift, trend
from mopl_jax.io.half_life import chosen_half_life
from mopl_jax.io.recency import Recency
from mopl_jax.numerics import quadratic

SIZES = {"replicates": 100, "weeks": 30, "rows": 1000, "logs": 600, "tests": 300, "learnt": 20}
SIZES |= {"seed": 3}
QUICK = {"replicates": 2, "weeks": 6, "rows": 200, "logs": 8, "tests": 4, "learnt": 1}
PARTS = ("rounds", "value", "learn", "drift", "opfv")
RESULTS = tuple(f"next_week_{part}" for part in PARTS)
WORLDS = ("none", "turns", "jumps", "weekends")
D, CURVE, NOISE, SPREAD, NARROW = 3, 0.3, 1.0, 0.5, 0.7  # NARROW: the target's scale, over SPREAD
HALF_LIVES = (0.5, 1.0, 2.0, 4.0, 8.0, np.inf)  # in weeks
CHOOSING = ("certified", "predicted")  # of a half-life
FIRST, MEMORY, FAR = 4, 6, 2.0  # weeks that teach frozen weights, that choose, and how far they go
JUMP = 0.5  # of the weeks
Z, ALPHA = 1.645, 0.05


def optimum(world: str, week: np.ndarray, weeks: float) -> np.ndarray:
    """The best weights (n, D) at times in weeks, of which a study has so many."""
    place = np.zeros((len(week), D))
    place[:, 0] = 1.0
    if world == "turns":
        angle = np.pi * week / weeks
        place[:, 0], place[:, 1] = np.cos(angle), np.sin(angle)
    if world == "jumps":
        place[:, 0] = np.where(week > JUMP * weeks, -1.0, 1.0)
    if world == "weekends":
        place[:, 0] = np.where(week % 1 > 5 / 7, -1.0, 1.0)
    return place


def mean_reward(action: np.ndarray, best: np.ndarray, week: np.ndarray) -> np.ndarray:
    """Of actions (n, D); the level wanders for all of them alike."""
    return 0.5 * np.sin(week) - 0.5 * CURVE * np.square(action - best).sum(axis=1)


def run(options) -> Iterator[_study.Rows]:
    """The five parts."""
    jax.config.update("jax_enable_x64", True)
    yield _study.Rows(_rounds(options))
    yield _study.Rows(_values(options))
    yield _study.Rows(_learnt(options))
    yield _study.Rows(_drifts(options))
    yield _study.Rows(_opfv(options))


# Rounds.


def _rounds(options) -> Iterator[dict]:
    """A row for each world, way and week: the mean loss to the best weights of the week."""
    ways = ["frozen", *HALF_LIVES, *CHOOSING]
    cells = [(options, world, ways, k) for world in WORLDS for k in range(options.replicates)]
    found = np.array([*beside(_follow_all, cells)])
    shape = len(WORLDS), options.replicates, *found.shape[1:]
    for world, (loss, chosen) in zip(WORLDS, found.reshape(shape).mean(axis=1), strict=True):
        for (i, way), week in itertools.product(enumerate(ways), range(options.weeks)):
            name = "full history" if way == np.inf else way if isinstance(way, str) else f"{way:g}w"
            yield {
                "world": world,
                "way": name,
                "week": week,
                "loss": loss[i, week],
                "half_life": float(2 ** chosen[i, week]) if way in CHOOSING else None,
            }


def _follow_all(options, world, ways, k):
    """What `follow` gives of each way, (2, ways, weeks)."""
    rng, about = functools.partial(np.random.default_rng, [options.seed, k]), (options.weeks,)
    each = [follow(rng(), world, way, *about, options.rows) for way in ways]
    return np.swapaxes(np.array(each), 0, 1)


def follow(rng, world: str, way, weeks: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The loss in each week of one way, and log₂ of the half-life it took."""
    served, grams, offers, told = np.zeros(D), [], [], []
    loss, taken = np.zeros(weeks), np.zeros(weeks)
    for t in range(weeks):
        week = t + rng.random(rows)
        best = optimum(world, week, weeks)
        action = served + SPREAD * rng.normal(size=(rows, D))
        reward = mean_reward(action, best, week) + NOISE * rng.normal(size=rows)
        loss[t] = 0.5 * CURVE * np.square(served - best).sum(axis=1).mean()
        features = np.asarray(quadratic.features(action))
        # each week has its own level
        centred = np.concatenate([features, reward[:, None]], axis=1)
        centred = centred - centred.mean(axis=0)
        grams.append(centred[:, 1:-1].T @ centred[:, 1:])
        if way == "certified" and offers:
            told.append([_gain(_highest(x), served, action, reward) for x in offers])
        if way == "predicted" and offers:
            told.append([_error(x, grams[-1]) for x in offers])
        offers = [_fit(grams, half_life) for half_life in HALF_LIVES]
        k = HALF_LIVES.index(np.inf if isinstance(way, str) else way)
        if way in CHOOSING and len(told) > 1:
            k = (_certified if way == "certified" else _predicted)(np.asarray(told[-MEMORY:]))
        if way != "frozen" or t < FIRST:
            served = _highest(offers[k])
        taken[t] = np.log2(min(HALF_LIVES[k], 16.0))
    return loss, taken


def _fit(grams, half_life) -> np.ndarray:
    """The surface of all weeks, the last one counting once: its slopes and bends."""
    age = np.arange(len(grams))[::-1]
    total = np.tensordot(0.5 ** (age / half_life), np.stack(grams), 1)
    ridge = 1e-3 * np.trace(total[:, :-1]) / len(total) * np.eye(len(total))
    return np.linalg.solve(total[:, :-1] + ridge, total[:, -1])


def _error(found, gram) -> float:
    """The squared error of a surface on a week, but for a constant."""
    return float(found @ gram[:, :-1] @ found - 2 * found @ gram[:, -1])


def _highest(found) -> np.ndarray:
    """The highest point of a surface."""
    _, slope, bend = quadratic.unpack(np.concatenate([[0.0], found]), D)
    value, vector = np.linalg.eigh(bend)
    point = vector @ ((vector.T @ slope) / np.maximum(-value, 0.05))
    return point * min(1, FAR / max(np.linalg.norm(point), 1e-12))


def _gain(offer, served, action, reward) -> tuple[float, float]:
    """What the offer would have had over what was served, by SNIPS, and its variance."""
    new, old = (_snips(mean, served, action, reward) for mean in (offer, served))
    return new[0] - old[0], np.square(new[1] - old[1]).sum()


def _snips(mean, served, action, reward):
    scale = NARROW * SPREAD
    far = np.square((action - mean) / scale) - np.square((action - served) / SPREAD)
    w = np.exp(-0.5 * far.sum(axis=1))
    p = w / w.sum()
    return p @ reward, p * (reward - p @ reward)


def _predicted(errors) -> int:
    """The half-life whose surfaces predicted the last weeks best."""
    return int(np.argmin(errors.mean(axis=0)))


def _certified(found) -> int:
    """The half-life with the largest lower bound of its mean gain in the last weeks."""
    mean, variance = found[..., 0].mean(axis=0), found[..., 1].sum(axis=0) / len(found) ** 2
    return int(np.argmax(mean - Z * np.sqrt(variance)))


# The value of the next period.


def _values(options) -> Iterator[dict]:
    """A row for each world, length of the log and weighing."""
    for world, (days, ways) in itertools.product(WORLDS, LOGS.items()):
        found = [_one_log(options, world, days, ways, k) for k in range(options.logs)]
        estimates, truth = (np.stack(x) for x in zip(*found, strict=True))
        for i, (half_life, weekdays) in enumerate(ways):
            value, low, high, size = estimates[:, i].T
            name = "whole log" if half_life == np.inf else f"half-life {half_life:g}w"
            yield {
                "world": world,
                "days": days,
                "weighing": name + (", weekdays" if weekdays else ""),
                "coverage": float(np.mean((low <= truth) & (truth <= high))),
                "error": float(np.sqrt(np.mean(np.square(value - truth)))),
                "width": float(np.median(high - low)),
                "ess": float(np.median(size)),
                "logs": options.logs,
            }


LOGS = {
    56: [(np.inf, False), (4.0, False), (2.0, False), (1.0, False), (2.0, True)],
    10: [(np.inf, False), (np.inf, True)],
}


def _one_log(options, world, days, ways, k):
    """Value, ends and ESS of each weighing, and the value in the week after the log.

    The level of the reward stays here: no weighing of a log foresees it.
    """
    rng = np.random.default_rng([options.seed, days, k])
    n, weeks = options.rows * 2, days / 7
    week = np.sort(rng.uniform(0, weeks, n))
    action = SPREAD * rng.normal(size=(n, D))
    span = weeks if world == "jumps" else 2 * weeks
    best = optimum(world, week, span)
    reward = mean_reward(action, best, week * 0) + NOISE * rng.normal(size=n)
    target = np.array([0.3, 0.0, 0.0])
    ahead = weeks + np.arange(700) / 700
    later = optimum(world, ahead, span)
    drawn = np.full((len(ahead), D), target)
    spread = 0.5 * CURVE * D * (NARROW * SPREAD) ** 2
    truth = float(mean_reward(drawn, later, ahead * 0).mean()) - spread
    far = np.square((action - target) / NARROW) - np.square(action)
    log_weight = -0.5 * far.sum(axis=1) / SPREAD**2
    rows = np.stack([_rows_of(week, *way) for way in ways])
    return np.asarray(_answers(jnp.asarray(log_weight + np.log(rows)), jnp.asarray(reward))), truth


def _rows_of(week, half_life, weekdays):
    """As `evaluate` weighs them; the first day is a Monday."""
    time = week * 7 * 86_400.0 + 4 * 86_400.0
    plain = Recency(half_life * 7 * 86_400.0, float(time.max()))
    if not weekdays:
        return plain(time)
    day = (week * 7).astype(int) % 7
    return plain._replace(levels=tuple(np.bincount(day, plain(time), 7)))(time, day)


@jax.jit
def _answers(log_weights, reward):
    def one(log_weight):
        estimate = estimators.snips(log_weight, reward)
        ends = intervals.recommended(estimate, ALPHA)
        p = jax.nn.softmax(log_weight)
        return jnp.stack([estimate.value, ends.lower, ends.upper, 1 / jnp.sum(p * p)])

    return jax.vmap(one)(log_weights)


# What is learnt for the next period.


def _learnt(options) -> Iterator[dict]:
    """A row for each world and weighing."""
    cells = [(options, world, k) for world in WORLDS for k in range(options.learnt)]
    learnt = np.array([*beside(_all_learnt, cells)]).reshape(len(WORLDS), options.learnt, -1, 4)
    for world, found in zip(WORLDS, learnt, strict=True):
        for i, way in enumerate(TAUGHT):
            certified, gain, guess, half_life = found[:, i].T
            yield {
                "world": world,
                "weighing": way if isinstance(way, str) else f"half-life {way:g}w",
                "gain": float(gain.mean()),
                "guess": float(guess.mean()),
                "certified": float(certified.mean()),
                "false": float(np.mean(certified > gain)),
                "half_life": float(np.median(half_life)),
                "logs": options.learnt,
            }


def _all_learnt(*cell):
    return [*_one_learnt(*cell)]


TAUGHT = ("whole log", 2.0, 1.0, "auto")


def _one_learnt(options, world, k):
    """Of each weighing what is certified, what is gained in the week after by the certified policy
    and by the best guess, and the half-life.
    """
    rng = np.random.default_rng([options.seed, 77, k])
    n, weeks = options.rows * 8, 8.0
    week: Any = np.sort(rng.uniform(0, weeks, n))
    span = weeks if world == "jumps" else 2 * weeks
    action: Any = SPREAD * rng.normal(size=(n, D))
    reward: Any = mean_reward(action, optimum(world, week, span), week) + NOISE * rng.normal(size=n)
    later = optimum(world, weeks + np.arange(700) / 700, span)
    played = mopl.Gaussian.diagonal(np.zeros(D), SPREAD)
    density: Any = np.asarray(jax.vmap(played.log_density)(action))
    block = mopl.Logs(action, density, reward, time=week)
    for way in TAUGHT:
        half_life = chosen_half_life(lambda: [block]) if way == "auto" else way
        half_life = np.inf if way == "whole log" else half_life
        each = np.exp2((week - week.max()) / half_life)
        logs = mopl.Logs(action, density, reward, sampling_weight=each)
        made: Any = mopl.learn(logs, share=0.5, seed=k)
        base = made.whitening.mean
        gains = [
            float(0.5 * CURVE * (np.square(base - later) - np.square(x - later)).sum(axis=1).mean())
            for x in (made.policy.mean, made.proposal.guess.mean)
        ]
        yield max(float(made.certificate.gain_bound), 0.0), *gains, min(half_life, 16.0)


# The test of drift.


def _drifts(options) -> Iterator[dict]:
    """A row for each world, size, users and question."""
    settings = [*itertools.product(WORLDS, (500, 2000, 8000), (None, 0.3))]
    cells = [(options, *setting, k) for setting in settings for k in range(options.tests)]
    every = np.array([*beside(_p_values, cells)]).reshape(len(settings), options.tests, 2)
    for (world, n, users), found in zip(settings, every, strict=True):
        for i, asked in enumerate(("over the log", "with the weekday")):
            yield {
                "world": world,
                "rows": n,
                "users": n if users is None else int(users * n),
                "asked": asked,
                "at 5 %": float(np.mean(found[:, i] < 0.05)),
                "at 1 %": float(np.mean(found[:, i] < 0.01)),
                "tests": options.tests,
            }


def _p_values(options, world, n, users, k):
    rng = np.random.default_rng([options.seed, n, k])
    week = np.sort(rng.uniform(0, 4, n))
    action = SPREAD * rng.normal(size=(n, D))
    unit = np.arange(n) if users is None else rng.integers(0, int(users * n), n)
    own = 0.0 if users is None else (0.5 * rng.normal(size=(n, D))[unit] * action).sum(axis=1)
    noise = np.exp(0.3 * action[:, 0]) * rng.normal(size=n)
    reward = mean_reward(action, optimum(world, week, 4), week) + own + noise
    ask = functools.partial(surface_drift, action, reward, week, unit=unit)
    both = trend(week), by_day((week * 7).astype(int) % 7)
    return [ask(basis=x, beside=y).p_value for x, y in (both, both[::-1])]


# OPFV's design.


def _opfv(options) -> Iterator[dict]:
    """A row for each number of rows and λ."""
    sizes, shares = (500, 1000, 2000, 4000), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    for n, share in itertools.product(sizes, shares):
        found = np.array([_year(options, n, share, k) for k in range(options.logs)])
        error = np.sqrt(np.mean(np.square(found[:, :-1] - found[:, -1:]), axis=0))
        yield {"rows": n, "lambda": share} | dict(zip(WEIGHED, error.tolist(), strict=True))


WEIGHED = ("whole log", "same feature", "OPFV without a model", "OPFV")


def _year(options, n, share, k, arms=10, features=8):
    """SNIPS of all rows and of those with the feature of the future time, OPFV with 0 and with a
    model of the rewards, and the truth.
    """
    rng = np.random.default_rng([options.seed, n, k])
    level, worth = rng.uniform(-3, 3, features), rng.uniform(-3, 3, (features, arms))
    slow, slopes = rng.uniform(-1, 1, arms), rng.uniform(-1, 1, arms)

    def mean(time):
        """(n, arms) at times in years."""
        feature = (time % 1 * features).astype(int)
        by_feature = level[feature, None] + worth[feature]
        return share * by_feature + (1 - share) * (slow + slopes * time[:, None])

    time, ahead = rng.random(n), 1 + rng.random(1)
    scores = rng.normal(size=arms)
    logging = np.exp(0.1 * scores) / np.exp(0.1 * scores).sum()
    target = np.full(arms, 0.2 / arms) + 0.8 * np.eye(arms)[np.argmax(mean(ahead)[0])]
    arm = rng.choice(arms, n, p=logging)
    reward = mean(time)[np.arange(n), arm] + rng.normal(size=n)
    weight = (target / logging)[arm]
    same = (time * features).astype(int) == int(ahead[0] % 1 * features)
    values = [weight @ reward / weight.sum(), (weight * same) @ reward / (weight @ same)]
    values += [_opfv_of(weight, reward, arm, same, x) for x in (0 * target, target)]
    return [*values, float(mean(ahead)[0] @ target)]


def _opfv_of(weight, reward, arm, same, target) -> float:
    """Mean of 1{φ(t) = φ(t')} / p(φ(t')) · w · (r − f(φ, a)), plus Σ π(a) f(φ(t'), a), with p the
    share of such rows and f the mean reward of the arm among them in the other half of the rows;
    f = 0 where the `target` is (Shimizu et al., KDD 2025, arXiv 2506.20417).
    """
    half, found = np.arange(len(arm)) % 2, 0.0
    for k in (0, 1):
        there = same & (half != k)
        count = np.bincount(arm[there], minlength=len(target))
        model = np.bincount(arm[there], reward[there], len(target)) / np.maximum(count, 1)
        model = model * target.any()
        rest = (weight * same * (reward - model[arm]))[half == k].mean() / same.mean()
        found += 0.5 * (rest + target @ model)
    return float(found)


# The tables.


def table(rounds, value, learn, drift, opfv) -> str:
    """One a part."""
    asked = {
        "Mean loss a week to the best weights of the week (standard errors about 2 %)": _losses(
            rounds
        ),
        "The value in the week after the log": _study.columns(value, tuple(value[0])),
        "What is learnt of eight weeks, in the week after them": _study.columns(
            learn, tuple(learn[0])
        ),
        "How often the test of the surface rejects": _study.columns(drift, tuple(drift[0])),
        "OPFV's design: root mean squared error of SNIPS and of OPFV": _study.columns(
            opfv, tuple(opfv[0])
        ),
    }
    return "\n\n".join(f"## {head}\n\n{text}" for head, text in asked.items())


def _losses(rows):
    groups = _study.grouped(rows, "way", "world")
    ways = dict.fromkeys(way for way, _ in groups)
    later = {key: [x["loss"] for x in some if x["week"] > FIRST] for key, some in groups.items()}
    means = {key: float(np.mean(x)) if x else None for key, x in later.items()}
    lines = [[way, *(means[way, world] for world in WORLDS)] for way in ways]
    return _study.markdown(("way", *WORLDS), lines)

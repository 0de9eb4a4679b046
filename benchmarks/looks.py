"""What does a certificate after every small round cost, valid at all looks, beside one at the end?

Small rounds that all teach (`small_rounds`): half of the users of a round explore around the
weights that all rounds so far make the best, and teach; half explore between these and the first
weights, and certify: they have no say. After each round all of them, each by the density of its own
round and 1/d₂ of the round, answer for the gain of the weights of now, by SNIPS and `ess_skew`,
unless fewer than ten effective users do. The bound is that of one look (`fixed`), of as many looks
as there are rounds, each at its share of alpha (`shared`), of any number of looks (`mixture`, the
bound of `asymptotic_cs`), or of O'Brien and Fleming. The latter two are made for one quantity that
is looked at again and again; here it is another one after every round, for which only `shared` is
proved. `at the end`: as many certifying users, spent once the last round has taught, between its
weights and the first; one look.

Worlds: `bowl`, a quadratic of eight weights that can gain a third of the noise's standard
deviation; `flat`, nothing to gain; the simulated platform, by the learnt metric. A run fails where
the bound of any look exceeds the true gain at that look. Users are all of them.
"""

from collections.abc import Iterator
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.random import fold_in

from benchmarks import _loop_metric, _study
from benchmarks._loop import PLAN, START, World, as_long
from mopl_jax import estimators, intervals
from mopl_jax.diagnostics.verdicts import REFUSE_ESS
from mopl_jax.estimators.ess import kish
from mopl_jax.metrics import sequential
from mopl_jax.numerics import devices
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.simulation import closed_loop, online
from mopl_jax.simulation.recommender import Visit
from mopl_jax.simulation.small_rounds import Search, search

SIZES = {"runs": (20, 20, 4), "rounds": 16, "users": 512, "experiments": 300, "seed": 5}
SIZES |= {"arm": closed_loop.ARM, "truth": 2**14}
QUICK = {"runs": (2, 1, 1), "rounds": 3, "experiments": 12, "arm": 512, "truth": 512}
WORLDS = ("bowl", "flat", "platform")
ALPHA = 0.05
RULES = ("fixed", "shared", "mixture", "obrien_fleming", "at the end")
SERVED = PLAN.fine * PLAN.scale
FAR, GAIN = 1.2, 0.33  # of the bowl: how far its best weights are, and what they gain, in noises


@pytree_dataclass(static=("signals",))
class Bowl:
    """A platform of one signal: −½ `curve` times the squared distance to `best`, and noise."""

    best: jax.Array
    curve: jax.Array
    signals: tuple[str, ...] = ("reward",)

    def mean(self, action: Any) -> Any:
        """Of actions (…, d)."""
        return -0.5 * self.curve * jnp.sum(jnp.square(action - self.best), axis=-1)

    def visit(self, key: Any, action: Any) -> Visit:
        """One user."""
        mean = self.mean(action)
        return Visit(jnp.stack([mean + jax.random.normal(key)]), mean)


class Place(NamedTuple):
    """Where a run happens: its platform, what is rewarded, and the true gain (a mean, and its
    error) of weights over the first ones, played with the same scale.
    """

    platform: Any
    metric: Any
    gain: Any


def run(options) -> _study.Rows:
    """A row for each world, run, look and rule."""
    mesh = devices.start()
    places = {"bowl": _bowl(GAIN), "flat": _bowl(0.0)}
    if options.runs[-1]:
        places["platform"] = _platform(World(mesh, options.truth), options)
    return _study.Rows(
        {"world": world, "run": k} | row
        for (world, place), runs in zip(places.items(), options.runs, strict=False)
        for k in range(runs)
        for row in _looks(place, fold_in(jax.random.key(options.seed), k), options)
    )


def _bowl(gain) -> Place:
    aside = np.random.default_rng(0).normal(size=START.size)
    best = as_long(START + FAR * aside / np.linalg.norm(aside))
    curve = 2 * gain / np.square(best - START).sum()
    bowl = Bowl(jnp.asarray(best, jnp.float32), jnp.asarray(curve, jnp.float32))
    first = float(bowl.mean(START))
    return Place(bowl, None, lambda now: float(bowl.mean(jnp.asarray(now))) - first)


def _platform(world, options) -> Place:
    metrics, _ = _loop_metric.learnt(world, options)
    metric = metrics["proxy"]

    def gain(now):
        signals = world.play(now).signals.astype(float) - world.base.signals
        return float((signals @ metric).mean())

    return Place(world.platform, metric, gain)


def _looks(place, key, options) -> Iterator[dict]:
    each = options.users // 2
    how = Search(each, PLAN.scale, PLAN.radius)
    parts, taught = (
        [],
        search(place.platform, START, fold_in(key, 0), options.rounds, how, place.metric),
    )
    for t, (*_, now) in enumerate(taught, start=1):
        parts.append(_certifying(place, fold_in(key, t), now, each))
        late = [_certifying(place, fold_in(key, 900 + t), now, t * each)]
        levels = [_level(rule, t, options.rounds) for rule in RULES]
        held = _bounds(parts, now, levels[:-1], options.rounds * each)
        end = _bounds(late, now, levels[-1:], options.rounds * each)
        about = {"look": t, "users": t * options.users, "gain": place.gain(now)}
        for rule, bound in zip(RULES, [*held, *end], strict=True):
            yield about | {"rule": rule, "bound": bound}


def _level(rule, t, rounds) -> float:
    """Of an interval whose lower end is the bound: twice that of a bound on one side; for `mixture`
    that of the critical value at alpha (see `asymptotic_cs`).
    """
    if rule in sequential.BOUNDS and rule != "fixed":
        level = ALPHA if rule == "mixture" else 2 * ALPHA
        critical = sequential.BOUNDS[rule](np.full(1, t), rounds, level)[0]
        return 2 * NormalDist().cdf(-critical)
    return 2 * ALPHA / (rounds if rule == "shared" else 1)


class Part(NamedTuple):
    """Rows of certifying users: actions, rewards, and the mean that played them."""

    action: np.ndarray
    reward: np.ndarray
    mean: np.ndarray


def _certifying(place, key, now, users) -> Part:
    middle = 0.5 * (now + START)
    logging = Gaussian.diagonal(jnp.asarray(middle, jnp.float32), PLAN.scale)
    traffic = online.play(place.platform, logging, key, (0, users))
    logs = online.log(traffic, logging, place.metric)
    return Part(np.asarray(logs.action, float), np.asarray(logs.reward, float), middle)


def _bounds(parts, now, levels, size) -> list[float]:
    """Lower ends, at each level, of the gain over the first weights, both played with the scale of
    what is served; nothing where few rows decide, as `certify` has it. Rows are filled up to
    `size`, so that one compiled function serves all looks.
    """
    d2 = [sum(_d2(x.mean, mean) for mean in (now, START)) for x in parts]
    reward = np.concatenate([x.reward for x in parts])
    rest = size - len(reward)
    pairs = [
        np.concatenate([_log_ratio(x, mean) - np.log(y) for x, y in zip(parts, d2, strict=True)])
        for mean in (now, START)
    ]
    filled = [np.pad(x, (0, rest), constant_values=-np.inf) for x in pairs]
    with jax.enable_x64(True):
        found = _ends(*map(jnp.asarray, (*filled, np.pad(reward, (0, rest)), np.array(levels))))
        return np.asarray(found).tolist()


@jax.jit
def _ends(own, first, reward, levels):
    made, base = estimators.snips(own, reward), estimators.snips(first, reward)
    gain = estimators.difference(made, base)
    size = jnp.minimum(kish(made.log_weight), kish(base.log_weight))
    ends = jax.vmap(lambda level: intervals.ess_skew(gain, level).lower)(levels)
    return jnp.where(size < REFUSE_ESS, -jnp.inf, ends)


def _log_ratio(part, mean):
    target = np.square(part.action - mean).sum(axis=1) / SERVED**2
    return 0.5 * (np.square(part.action - part.mean).sum(axis=1) / PLAN.scale**2 - target)


def _d2(logged, mean):
    """E w² of the policy around a mean over that which logged, but for a constant."""
    return np.exp(np.square(mean - logged).sum() / (2 * PLAN.scale**2 - SERVED**2))


def table(rows: list[dict]) -> str:
    """Of each world and rule: users until certified, and how often a run fails."""
    lines = []
    for (world, rule), some in _study.grouped(rows, "world", "rule").items():
        runs = list(_study.grouped(some, "run").values())
        bound, gain = (
            np.array([[x[name] for x in run] for run in runs]) for name in ("bound", "gain")
        )
        looks = slice(-1, None) if rule == "at the end" else slice(None)
        failed, above = ((bound > x)[:, looks].any(axis=1).sum() for x in (gain, 0))
        line = [world, rule, len(runs), *(_until(some, bound, rule, x) for x in (0.5, 0.9))]
        line += [*(float(np.median(x[:, -1])) for x in (bound, gain))]
        lines.append([*line, f"{failed} of {len(runs)}", f"{above} of {len(runs)}"])
    head = ("world", "rule", "runs", "users until half are certified", "until 90 %", "last bound")
    head += ("true gain", "a bound above the gain", "above 0")
    return _study.markdown(head, lines, "llr")


def _until(rows, bound, rule, share) -> str:
    """Users until so many of the runs had a certified gain at some look, or at this one where it is
    the only one.
    """
    above = bound > 0
    above = above if rule == "at the end" else np.logical_or.accumulate(above, axis=1)
    enough = np.flatnonzero(above.mean(axis=0) >= share)
    users = sorted({x["users"] for x in rows})
    return f"{users[enough[0]]:,}" if enough.size else "never"

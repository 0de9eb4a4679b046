"""What should the next round explore with: what the last one did, around the best guess, or what is
expected to certify most?

Worlds of `_learning_worlds` with normal noise of 0.5 (d weights, `n` rows a round), and the
simulated platform of `closed_loop` by the metric learnt there (eight weights, `users` a round).
Half of a round's rows teach with all rows before them; the other half certify what these propose
over production, one-sided 95 %, and what is certified becomes production. The next round is
explored with what the first one was (`repeat`), with its scale around production (`production`) or
in the `middle` between that and the best guess, with the best guess and its scale, as `mopl learn`
said it (`guess`), or with what `learning.exploration` proposes (`proposed`). Regrets are of weights
played exactly, as shares of that of the first weights (in `centre`, where nothing is to be gained,
in units of the reward); of the platform as they are served, as shares of the attainable gain. True
gains are those of the policies.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _learning_worlds, _loop, _pieces, _study
from benchmarks._learning_worlds import CHOOSING, RADIUS, REPORTING
from benchmarks.certificates import REFUSED, unit_of
from mopl_jax.intervals.ess_corrected import ess_skew
from mopl_jax.learning.certification import certify_compiled
from mopl_jax.learning.constraints import ball
from mopl_jax.learning.exploration import next_exploration
from mopl_jax.learning.objective import doubly_robust
from mopl_jax.learning.proposal import propose
from mopl_jax.learning.whitening import standard
from mopl_jax.logs import Logs
from mopl_jax.numerics import devices
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.simulation import online

KEPT = tuple(name for name in (*CHOOSING, *REPORTING) if name not in ("heavy", "users"))
SIZES = {"replicates": 6, "n": 400, "d": 5, "rounds": 4, "seeds": 5, "users": 2048}
SIZES |= {"worlds": (*KEPT, "platform"), "truth": 2**14, "seconds": 500}
QUICK = {"replicates": 1, "d": 2, "rounds": 2, "seeds": 1, "users": 400, "truth": 512}
QUICK |= {"worlds": ("quadratic", "platform")}
KEYS = ("world", "seed", "explorer", "round")
LEVEL = 0.05
EXPLORERS = ("repeat", "production", "middle", "guess", "proposed")


def run(options) -> _study.Rows:
    """One row for each world, log, explorer and round, in pieces as those of `certificates`."""
    jax.config.update("jax_enable_x64", True)

    @functools.cache
    def place(world):
        return _platform(options) if world == "platform" else _world(world, options)

    def rows_of(world, seed, explorer):
        return _rounds(place(world), world, seed, explorer, options.rounds)

    runs = (
        (world, seed, explorer)
        for seed in range(options.replicates)
        for world in options.worlds
        for explorer in EXPLORERS
        if seed < options.seeds or world != "platform"
    )
    return _study.Rows(_pieces.more(options, "next_round", KEYS, runs, rows_of))


class Place(NamedTuple):
    """Where rounds are played.

    `first`: what explores first; around production
    `play(policy, seed, number)`: a round's actions (n, d), rewards (n,) and mean regret
    `gain(mean, scale, baseline)`: true, of the policy over the baseline played with its scale
    `regret(mean)`: of weights
    `project`: where means may be
    """

    first: Gaussian
    n: int
    play: Any
    gain: Any
    regret: Any
    project: Any


def _world(world: str, options) -> Place:
    d, n, point = options.d, options.n, functools.partial(_learning_worlds.point, world)
    unit, top = unit_of(world, d)

    def play(policy, seed, number):
        rng = np.random.default_rng([seed, d, n, KEPT.index(world), number])
        action = np.asarray(policy.mean) + rng.normal(size=(n, d)) @ _factor(policy).T
        mean = np.asarray(_learning_worlds._means(world)(action))
        return action, (mean + 0.5 * rng.normal(size=n)) / unit, (top - mean.mean()) / unit

    def gain(mean, scale, baseline):
        at = functools.partial(_learning_worlds.smoothed_gain, world, scale=scale)
        return (at(mean) - at(baseline)) / unit

    first = Gaussian.diagonal(np.zeros(d), 1.0)
    return Place(first, n, play, gain, lambda mean: (top - point(mean)) / unit, _region(d))


@functools.cache
def _region(d):
    """One for all worlds, so that what is compiled serves them all."""
    return ball(standard(jnp.zeros(d)), RADIUS)


def _factor(policy):
    scale = np.asarray(policy.scale)
    return np.diag(scale) if scale.ndim == 1 else scale


def _platform(options) -> Place:
    """By the metric that `closed_loop` stored and its attainable gain; of one length."""
    world = _loop.World(devices.start(), options.truth)
    stored = _study.read("closed_loop_metric")
    metric = next(row["weights"] for row in stored if row["metric"] == "proxy")
    attainable = stored.about["study"]["attainable"]
    reward = np.asarray(metric) * stored.about["study"]["validation"]["rate"] / attainable
    length = float(np.linalg.norm(_loop.START))

    def play(policy, seed, number):
        key = world.part(1000 * (1 + seed) + number)
        traffic = online.play(world.platform, _small(policy), key, (0, options.users), world.mesh)
        lost = 1 - (traffic.expected.mean() - world.base.expected.mean()) / attainable
        return traffic.action.astype(float), traffic.signals @ reward, float(lost)

    def gain(mean, scale, baseline):
        means = (_small(Gaussian(jnp.asarray(x), jnp.asarray(scale))) for x in (mean, baseline))
        span = 0, options.truth
        new, old = (online.play(world.platform, x, world.part(0), span, world.mesh) for x in means)
        return float(((new.signals - old.signals) @ reward).mean())

    first = Gaussian.diagonal(_loop.START.astype(float), _loop.PLAN.scale)
    regret = lambda mean: 1 - world.gain(mean).mean / attainable  # noqa: E731
    project = lambda mean: length * mean / jnp.linalg.norm(mean)  # noqa: E731
    return Place(first, options.users, play, gain, regret, project)


def _small(policy):
    """In float32, as the platform is."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), policy)


def _rounds(place, world, seed, explorer, rounds) -> Iterator[dict]:
    d, n, half = place.first.dim, place.n, place.n // 2
    action, density, reward = np.zeros((rounds * n, d)), np.zeros(rounds * n), np.zeros(rounds * n)
    production, policy, expected = place.first.mean, place.first, None
    for number in range(rounds):
        now = slice(number * n, number * n + n)
        action[now], reward[now], lost = place.play(policy, seed, number)
        density[now] = jax.vmap(policy.log_density)(jnp.asarray(action[now]))
        logs = Logs(*map(jnp.asarray, (action, density, reward)))
        kept = jnp.asarray(np.arange(rounds * n) < number * n + half, float)
        made = _proposed(logs, float(n - half), production, kept, policy, place.project)
        held = jax.tree.map(lambda x, at=now: x[at][half:], logs)
        facts = _judged(place, made, held, production)
        production = made.certified.mean if facts["certified"] else production
        weights = {"guess": made.guess.mean, "production": production}
        facts |= {f"{name}_regret": float(place.regret(x)) for name, x in weights.items()}
        about = {"world": world, "seed": seed, "explorer": explorer, "round": number + 1}
        yield about | facts | {"lost": float(lost), "expected": expected}
        policy, expected = _next(explorer, place, made, policy, production)


def _judged(place, made, held, production) -> dict:
    """The certificate of what is proposed, and whether it holds."""
    found = jax.device_get(_certified(made, held, production))
    bound = float(found.gain_bound[0])
    gain = place.gain(made.certified.mean, _factor(made.certified), production)
    sure = bound > 0 and int(found.diagnosis.verdict[0]) < REFUSED
    served = {"bound": bound if sure else 0.0, "gain": float(gain) if sure else 0.0}
    return {"certified": sure, "holds": bound <= gain + 1e-9} | served


def _next(explorer, place, made, policy, production) -> tuple[Gaussian, float | None]:
    """What explores next, and what it is expected to certify where that is known."""
    first = place.first
    if explorer == "proposed":
        asked = made, policy, float(place.n), production, LEVEL, place.project
        found = next_exploration(*asked)
        return found.policy, float(found.worth)
    middle = 0.5 * (made.guess.mean + production)
    means = {"repeat": first.mean, "production": production, "middle": middle}
    return (made.guess if explorer == "guess" else Gaussian(means[explorer], first.scale)), None


@functools.partial(jax.jit, static_argnames="project")
def _proposed(logs, rows, production, kept, logging, project):
    return propose(
        logs, rows, production, kept=kept, radius=RADIUS, project=project, logging=logging
    )


@jax.jit
def _certified(made, held, production):
    asked = made.certified, held, production, made.surfaces
    return certify_compiled(*asked, doubly_robust, ess_skew, LEVEL)


HEAD = ("logs", "certified gain in all, bounds", "more than repeating", "true")
HEAD += ("more than repeating", "regret of production", "of the best guess")
HEAD += ("lost while exploring", "rounds certified", "certificates that hold", "expected", "found")
SAID = "Standard errors are those of the differences to `repeat` on the same log, over logs."


def table(rows: list[dict]) -> str:
    """By group of worlds and explorer, after the last round, of logs that all explorers have; then
    by world.
    """
    rows = whole(rows)
    tables = [("worlds", grouped(rows)), ("world", _study.grouped(rows, "world"))]
    return "\n\n".join([*(_table(*each) for each in tables), SAID])


def whole(rows: list[dict]) -> list[dict]:
    """Those of logs that all explorers have."""
    logs = _study.grouped(rows, "world", "seed").values()
    return [
        row for log in logs if len({x["explorer"] for x in log}) == len(EXPLORERS) for row in log
    ]


def grouped(rows: list[dict]) -> dict[tuple[str], list[dict]]:
    """By what the worlds were used for."""
    of = {"platform": "the platform", "centre": "nothing to gain"}
    of |= dict.fromkeys(REPORTING, "only reported")
    return _study.grouped([row | {"of": of.get(row["world"], "chosen by")} for row in rows], "of")


def sums(rows: list[dict], key: str) -> dict[str, np.ndarray]:
    """By explorer, of each log the sum over its rounds."""
    return {
        explorer: np.array(
            [sum(row[key] for row in run) for run in _study.grouped(some, "world", "seed").values()]
        )
        for (explorer,), some in _study.grouped(rows, "explorer").items()
    }


def mean_and_error(each: np.ndarray) -> tuple[float, float]:
    """The mean and its standard error, NaN of one."""
    error = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan
    return float(each.mean()), float(error)


def _table(name, groups):
    lines = [
        [*of, *line] for of, some in groups.items() for line in _lines(sorted(some, key=_by_log))
    ]
    return _study.markdown((name, "explorer", *HEAD), lines, "ll")


def _by_log(row):
    return row["world"], row["seed"], row["round"]


def _lines(rows):
    """Means over logs; what is lost is that of the rounds after the first, which all share, and
    so is what is expected of them and found.
    """
    totals = [sums(rows, key) for key in ("bound", "gain")]
    for (explorer,), some in _study.grouped(rows, "explorer").items():
        each = [total[explorer] for total in totals]
        apart = [x - total["repeat"] for x, total in zip(each, totals, strict=True)]
        pairs = [
            x for own, more in zip(each, apart, strict=True) for x in (_mean(own), _both(more))
        ]
        last = [row for row in some if row["round"] == max(x["round"] for x in some)]
        later = [row for row in some if row["round"] > 1]
        ends = [_of(last, f"{key}_regret") for key in ("production", "guess")]
        means = [_of(later, key) for key in ("lost", "certified")]
        held = f"{sum(row['holds'] for row in some)} of {len(some)}"
        found = [_of(later, x) if explorer == "proposed" else None for x in ("expected", "bound")]
        yield [explorer, len(each[0]), *pairs, *ends, *means, held, *found]


def _of(rows, key):
    return _mean(np.array([row[key] for row in rows]))


def _mean(each):
    return f"{each.mean():.3f}"


def _both(each):
    """What it has more, and the standard error."""
    if not each.any():
        return None
    mean, error = mean_and_error(each)
    return f"{mean:+.3f} ± {error:.3f}" if len(each) > 1 else f"{mean:+.3f}"

"""Which intervals hold where each round's logging policy was chosen from the rounds before?

`rounds` logs of `n` rows each. Every round plays a normal policy of scale `SPREAD`; the mean of the
next one is a step of at most `STEP`, in standard deviations, from this one, chosen by a quadratic
surface of all rows so far: its best point (`greedy`), that of one draw of its coefficients
(`thompson`), the best point where rows not learnt from certify a gain (`certified`), the best point
of an ever narrower policy (`narrowing`), or a direction that no reward has a say in (`blind`). Then
the pooled log answers for a policy that was declared before (`declared`), for what it has over the
first one (`gain`), and for that which the last round was played around (`chosen`). Truth is exact.

Rows are weighed by the density of their own round (`own`), by the mixture of all rounds
(`mixture`), or by their own round's and a weight for the round, which is known before it is played:
1/√d₂ makes the variance of a round the same (`stable`; Bibaut et al., NeurIPS 2021), 1/d₂ is best
where d₂ is all that differs (`best`). `martingale` is the doubly robust score with the surface of
earlier rounds, weighed by 1/√d₂ (Hadad et al., PNAS 2021); `last` takes the last round alone.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import _judge, _study
from mopl_jax import estimators, intervals
from mopl_jax.coverage import engine
from mopl_jax.estimators.divergence import population_d2
from mopl_jax.learning.response_surface import fit_surface, highest
from mopl_jax.numerics import linalg
from mopl_jax.policies import Gaussian
from mopl_jax.simulation import environments as worlds_of

SIZES = {"replicates": 600, "n": 200, "d": (2, 5), "rounds": (2, 5, 10), "seed": 7}
QUICK = {"replicates": 8, "n": 64, "d": (2,), "rounds": (2, 3)}
SPREAD, TARGET, STEP, ALPHA = 0.5, 0.7, 0.75, 0.05  # TARGET: the target's scale, over SPREAD
SCALE = TARGET * SPREAD
NARROWER, FLOOR = 0.9, 0.6  # of the scale a round; of it at least, so that d₂ stays finite
MOVES = ("blind", "certified", "greedy", "thompson", "narrowing")
TARGETS = ("declared", "chosen", "gain")
WAYS = ("own", "mixture", "stable", "best", "last", "martingale")
INTERVALS = ("normal", "recommended", "asymptotic_cs")


def worlds(d: int) -> dict[str, Any]:
    """Optimum within reach; none; nothing to find; skewed rewards; clicks."""
    far = jnp.full(d, 1.0 / d**0.5)
    normal, one = worlds_of.Normal(jnp.asarray(1.0)), jnp.ones(())
    peak = worlds_of.Quadratic(one, far, 0.5 * jnp.eye(d))
    flat = worlds_of.Quadratic(one, far, jnp.zeros((d, d)))
    slope = worlds_of.Quadratic(one, 20 * far, 0.02 * jnp.eye(d))
    skewed = worlds_of.LogNormal(one, jnp.asarray(0.8))
    rate = worlds_of.Probit(far, jnp.asarray(-1.3), one, jnp.zeros(()))
    made = {"optimum": (peak, normal), "slope": (slope, normal), "flat": (flat, normal)}
    made |= {"skewed": (flat, skewed), "clicks": (rate, worlds_of.Bernoulli())}
    return {name: worlds_of.Environment(*each) for name, each in made.items()}


class Played(NamedTuple):
    """What t rounds of n rows left: `mean` and `scale` (t, d) of each, and their rows (t, n, …)."""

    mean: jax.Array
    scale: jax.Array
    action: jax.Array
    reward: jax.Array


# The rounds.


def _play(key, environment, move, rounds, n, d) -> Played:
    """The rounds, and one policy more, of which no rows count."""
    reference = Gaussian.diagonal(jnp.zeros(d), SPREAD)

    def step(state, t):
        mean, scale, action, reward = state
        here = jax.random.fold_in(key, t)
        logs = engine.replicate(here, environment, Gaussian(mean, scale), n)
        action, reward = action.at[t].set(logs.action), reward.at[t].set(logs.reward)
        past = (jnp.arange(rounds) <= t)[:, None] * jnp.ones((rounds, n))
        rows = action.reshape(-1, d), reward.ravel(), past.ravel()
        after = _moved(jax.random.fold_in(here, 9), move, mean, scale, rows, t, n, reference)
        narrow = jnp.where(move == MOVES.index("narrowing"), NARROWER, 1.0)
        floor = FLOOR * SPREAD
        return (after, jnp.maximum(scale * narrow, floor), action, reward), (mean, scale)

    empty = jnp.zeros((rounds, n, d)), jnp.zeros((rounds, n))
    start = (reference.mean, reference.scale, *empty)
    (*_, action, reward), (mean, scale) = lax.scan(step, start, jnp.arange(rounds))
    return Played(mean, scale, action, reward)


def _moved(key, move, mean, scale, rows, t, n, reference):
    """The mean of the next round."""
    action, reward, kept = rows
    # of the last round, every other row certifies and does not teach
    held = ((jnp.arange(len(reward)) // n == t) & (jnp.arange(len(reward)) % 2 == 1)) * 1.0
    certifies = move == MOVES.index("certified")
    surface = fit_surface(action, reward, reference, kept=kept - certifies * held)
    drawn = surface.coefficients + linalg.cholesky(surface.covariance) @ jax.random.normal(
        key, surface.coefficients.shape
    )
    sampled = surface.__class__(reference, drawn, surface.covariance, surface.waves)
    best, other = (_towards(mean, highest(each, 4.0)) for each in (surface, sampled))
    sure = _gain_is_certain(mean, best, scale, action, reward, held)
    blind = mean + STEP * SPREAD * 0.5 / len(mean) ** 0.5
    choices = [blind, jnp.where(sure, best, mean), best, other, best]
    return jnp.stack(choices)[move]


def _towards(mean, best):
    """At most a step."""
    gap = best - mean
    length = jnp.sqrt(jnp.sum(jnp.square(gap)))
    return mean + gap * jnp.minimum(1, STEP * SPREAD / jnp.maximum(length, 1e-12))


def _gain_is_certain(mean, best, scale, action, reward, held):
    """Whether the held rows, logged by N(mean, scale), certify a gain at 95 %, one-sided."""
    logging = Gaussian(mean, scale)

    def estimate(centre):
        policy = Gaussian(centre, TARGET * scale)
        log_weight = jax.vmap(lambda a: policy.log_density(a) - logging.log_density(a))(action)
        return estimators.snips(jnp.where(held > 0, log_weight, -jnp.inf), reward)

    new, old = estimate(best), estimate(mean)
    influence = (new.influence - old.influence) / len(reward)
    return new.value - old.value > 1.645 * jnp.sqrt(jnp.sum(jnp.square(influence)))


# The answers.


def _answers(played: Played, means):
    """Ends (way, interval, 2) of the value of the policy around one mean, or of what it has over
    that around another.
    """
    targets = [Gaussian.diagonal(mean, SCALE) for mean in means]
    d2 = sum(_d2(played, target) for target in targets)  # one weight a round for both
    found = [_ways(played, target, d2) for target in targets]
    made = found[0] if len(found) == 1 else jax.vmap(estimators.difference)(*found)

    def ends(estimate):
        each = [intervals.bind(name)(estimate, ALPHA) for name in INTERVALS]
        return jnp.asarray([[x.lower, x.upper] for x in each])

    return jax.vmap(ends)(made)


def _ways(played, target, d2):
    """The estimate in each of `WAYS`, stacked."""
    n, d = played.action.shape[1:]
    action, reward = played.action.reshape(-1, d), played.reward.ravel()
    own, mixture = _log_weights(played, action, target)
    part = np.repeat(np.arange(len(played.mean)), n)
    log_d2 = jnp.log(d2)[part]
    last = jnp.where(part == part[-1], own, -jnp.inf)
    log_weights = jnp.stack([own, mixture, own - 0.5 * log_d2, own - log_d2, last])
    found = jax.vmap(estimators.snips, (0, None))(log_weights, reward)
    scored = estimators.snips(-0.5 * log_d2, _scores(played, target, own))
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), found, scored)


def _log_weights(played, action, target):
    """log w of each row by the density of its own round, and by the mixture of all."""
    rounds, n, _ = played.action.shape
    each = jax.vmap(lambda m, s: jax.vmap(Gaussian(m, s).log_density)(action), out_axes=1)(
        played.mean, played.scale
    )
    part = np.repeat(np.arange(rounds), n)
    log_target = jax.vmap(target.log_density)(action)
    own = log_target - jnp.take_along_axis(each, part[:, None], axis=1)[:, 0]
    return own, log_target - jax.nn.logsumexp(each, axis=1) + jnp.log(rounds)


def _d2(played, target):
    return jax.vmap(lambda m, s: population_d2(Gaussian(m, s), target))(played.mean, played.scale)


def _scores(played, target, log_weight):
    """E q + w (r − q) of each row; q is the surface of the rounds before its own, and in the first
    one that of the other half of its rows.
    """
    rounds, n, d = played.action.shape
    action, reward = played.action.reshape(-1, d), played.reward.ravel()
    index, reference = jnp.arange(rounds * n), Gaussian.diagonal(jnp.zeros(d), SPREAD)

    def score(t, half):
        before = jnp.where(t == 0, (index < n) & (index % 2 != half), index < t * n)
        surface = fit_surface(action, reward, reference, kept=before * 1.0)
        left = reward - jax.vmap(surface)(action)
        return surface.expectation(target) + jnp.exp(log_weight) * left

    number = jnp.arange(-1, rounds)  # the first round twice, by the surface of either half
    scores = lax.map(lambda i: score(jnp.maximum(i, 0), i + 1), number)
    own = jnp.repeat(jnp.arange(rounds), n)
    return jnp.where(own == 0, scores[index % 2, index], scores[own + 1, index])


@functools.partial(jax.jit, static_argnames=("rounds", "n", "d"))
def _played(keys, environment, move, rounds, n, d):
    return lax.map(lambda key: _play(key, environment, move, rounds, n, d), keys, batch_size=16)


@jax.jit
def _judged(played, means):
    """Ends (r, target, way, interval, 2): of the two policies, and of the first over the start."""

    def one(x):
        played, means = x
        values = jax.vmap(lambda mean: _answers(played, [mean]))(means)
        gain = _answers(played, [means[0], jnp.zeros_like(means[0])])
        return jnp.concatenate([values, gain[None]])

    return lax.map(one, (played, means), batch_size=8)


def run(options) -> list[dict]:
    """One row for each world, d, move, number of rounds, target, way and interval."""
    jax.config.update("jax_enable_x64", True)
    cells = [(d, *world) for d in options.d for world in worlds(d).items()]
    return [
        row
        for (d, name, world), move in itertools.product(cells, MOVES)
        for row in _rows({"world": name, "d": d, "move": move}, world, options)
    ]


def _rows(about, environment, options) -> Iterator[dict]:
    d, move = about["d"], jnp.asarray(MOVES.index(about["move"]))
    keys = jax.random.split(jax.random.fold_in(jax.random.key(options.seed), d), options.replicates)
    played = _played(keys, environment, move, max(options.rounds), options.n, d)
    value = jax.jit(jax.vmap(lambda m: environment.policy_value(Gaussian.diagonal(m, SCALE))))
    for rounds in options.rounds:
        part = Played(*(x[:, :rounds] for x in played))
        declared = jnp.full((options.replicates, d), 0.5 * SPREAD / d**0.5)
        means = jnp.stack([declared, part.mean[:, -1]], axis=1)
        ends = np.asarray(_judged(part, means))
        truths = np.asarray(value(means.reshape(-1, d))).reshape(-1, 2)
        gain = truths[:, :1] - np.asarray(value(jnp.zeros((1, d))))
        far = float(np.median(np.linalg.norm(part.mean[:, -1], axis=-1))) / SPREAD
        said = about | {"rounds": rounds, "distance": far, "replicates": options.replicates}
        yield from _cells(said, ends, np.concatenate([truths, gain], axis=1))


def _cells(about, ends, truths) -> Iterator[dict]:
    """A row for each target, way and interval."""
    order = itertools.product(*map(enumerate, (TARGETS, WAYS, INTERVALS)))
    for (k, target), (j, way), (i, interval) in order:
        if (target, way) == ("gain", "martingale"):  # two scores of one weight have no difference
            continue
        low, high = ends[:, k, j, i].T
        truth = truths[:, k]
        yield about | {
            "target": target,
            "weights": way,
            "interval": interval,
            "coverage": float(np.mean((low <= truth) & (truth <= high))),
            "miss_below": float(np.mean(truth < low)),
            "miss_above": float(np.mean(truth > high)),
            "width": float(np.median(high - low)),
        }


NONE = {"coverage": 2.0}  # of a way that is not there
AIM, MOVED = 0.945, ("greedy", "thompson", "narrowing")


def table(rows: list[dict]) -> str:
    """What fails in how many cells, and how wide it is; then coverage by move, at ten rounds."""
    said = "Of `recommended`, least coverage over worlds and d:"
    return f"{_failures(rows)}\n\n{said}\n\n{_moves(rows)}"


def _failures(rows):
    base = {_cell_of(x): x["width"] for x in rows if _way(x) == ("own", "recommended")}
    lines = []
    for (target, way, interval), cells in _study.grouped(
        rows, "target", "weights", "interval"
    ).items():
        share = [x["coverage"] for x in cells]
        low = [_judge.fails(x, AIM, cells[0]["replicates"]) for x in share]
        wide = [x["width"] / base[_cell_of(x)] for x in cells]
        last = max(x["rounds"] for x in cells)
        moved = [
            x["width"] / base[_cell_of(x)]
            for x in cells
            if x["rounds"] == last and x["move"] in MOVED
        ]
        sides = (max(x[f"miss_{side}"] for x in cells) for side in ("below", "above"))
        ends = (f"{np.median(share):.3f}", f"{min(share):.3f}", *(f"{x:.3f}" for x in sides))
        line = (target, way, interval, f"{sum(low)} of {len(low)}", *ends)
        lines.append([*line, f"{np.median(wide):.2f}", f"{np.median(moved):.2f}"])
    head = ("target", "weights", "interval", "fail", "median", "least", "below", "above")
    head += ("width", f"width, {max(x['rounds'] for x in rows)} rounds that move")
    return _study.markdown(head, lines, "lllr")


def _cell_of(row):
    return tuple(row[key] for key in ("world", "d", "move", "rounds", "target"))


def _way(row):
    return row["weights"], row["interval"]


def _moves(rows):
    kept = [x for x in rows if x["interval"] == "recommended"]
    groups = _study.grouped(kept, "target", "move", "rounds")
    lines = []
    for key, cells in groups.items():
        by_way = _study.grouped(cells, "weights")
        least = [min(x["coverage"] for x in by_way.get((way,), ()) or [NONE]) for way in WAYS]
        lines.append([*key, *(f"{x:.3f}" if x < 2 else "" for x in least)])
    return _study.markdown(("target", "move", "rounds", *WAYS), lines, "llr")

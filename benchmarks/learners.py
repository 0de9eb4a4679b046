"""Which learner has the least regret on the same logs, as a point and smoothed?

Worlds and logs are those of `benchmarks/_learning_worlds.py`, the same as of `learning.py`, and
all rows teach. Means stay within the radius. `mopl learn` is its best guess. `surface` is the
maximum of a quadratic. `snips bound` and `dr bound` maximise the lower end of `ess_exact` at 95 %
of SNIPS, and of the surface with SNIPS of what it leaves, with the mean of N(μ, 0.7² I). `poem`
(Swaminathan & Joachims, ICML 2015): the clipped IPS estimate less λ standard errors, losses in
[−1, 0], clipped at the ratio of the 90 % and 10 % quantiles of the densities, λ by the
estimate on a quarter of the rows. `pois` (Metelli et al., NeurIPS 2018): the IPS estimate less
‖R‖∞ √((1 − δ)/δ · d₂/n), d₂ in closed form, δ = 0.4. Both learn mean and scale. Regret is a share
of that of doing nothing (in `centre` in units of the reward): of the mean played exactly, and of
N(mean, 0.7² I) beside the best such policy. The aim: in a cell a mean regret of at most 1.2 times
that of the best other learner, plus 0.02.
"""

import functools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _learning_worlds, _pieces, _study
from benchmarks._learning_worlds import RADIUS, REPORTING, WORLDS, _draws
from benchmarks._study import grouped, markdown
from benchmarks.certificates import taught, unit_of
from mopl_jax.estimators.divergence import population_d2
from mopl_jax.intervals.ess_corrected import ess_exact
from mopl_jax.learning.constraints import ball
from mopl_jax.learning.objective import doubly_robust, estimates
from mopl_jax.learning.proposal import climb
from mopl_jax.learning.response_surface import fit_surface, highest
from mopl_jax.learning.whitening import normals, standard
from mopl_jax.logs import log_weights
from mopl_jax.policies import Gaussian

SIZES = {
    "logs": 100,
    "seconds": 500,
    "d": (5, 5, 2),
    "n": (4000, 1000, 4000),
    "worlds": tuple(WORLDS),
}
QUICK = {"logs": 1, "d": (2,), "n": (400,), "worlds": ("quadratic",)}
KEYS = ("world", "noise", "d", "n", "seed", "learner")
SCALE, LIMITS = 0.7, (0.2, 1.0)  # what is played with; between which a learnt scale stays
STARTS, LAMBDAS, DELTA = 12, (0.0, 0.3, 1.0, 3.0), 0.4
FIRST = 512  # Sobol points, and their mirror images, by which the best smoothed policy is found
OURS, AIM, MORE = "mopl learn", 1.2, 0.02


def run(options) -> _study.Rows:
    """One row for each log and learner, in pieces as those of `certificates`."""
    jax.config.update("jax_enable_x64", True)
    return _study.Rows(_pieces.more(options, "learners", KEYS, _logs_of(options), rows_of))


def _logs_of(options) -> Iterator[tuple]:
    for seed in range(options.logs):
        for cell in _learning_worlds.cells(options):
            yield *cell, seed


def rows_of(world: str, noise: str, d: int, n: int, seed: int) -> Iterator[dict]:
    """Point and smoothed regret of each learner."""
    logs = jax.tree.map(jnp.asarray, _learning_worlds.draw(seed, world, noise, d, n))
    unit, top = unit_of(world, d)
    best = best_smoothed(world, d)
    ours = taught(logs, jnp.ones(n), float(n)).guess.mean
    means = {OURS: ours} | others(jax.tree.map(_single, logs))
    for name, mean in means.items():
        row = dict(zip(KEYS, (world, noise, d, n, seed, name), strict=True))
        row |= {"regret": (top - _learning_worlds.point(world, mean)) / unit}
        yield row | {"smoothed": (best - smoothed(world, np.asarray(mean))) / unit}


def _single(x):
    """What is real in float32, as others learn by: their objectives are made for it."""
    return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x


def smoothed(world: str, mean) -> float:
    """The value of N(mean, 0.7² I)."""
    around = np.asarray(mean) + SCALE * np.asarray(_draws(len(mean)))
    return float(np.mean(np.asarray(_learning_worlds._means(world)(around))))


@functools.cache
def best_smoothed(world: str, d: int) -> float:
    """The largest value of such a policy within the radius: the best of those climbed to."""
    first, f = _draws(d)[:FIRST], jax.vmap(WORLDS[world])
    around = SCALE * jnp.concatenate([first, -first])

    def height(mean):
        return jnp.mean(f(_feasible(mean)[None] + around))

    ends, _ = jax.jit(jax.vmap(functools.partial(climb, height)))(_starts(d, RADIUS))
    return max(smoothed(world, _feasible(mean)) for mean in ends)


def _feasible(mean):
    return ball(standard(mean), RADIUS)(mean)


def _starts(d, length):
    way = normals(STARTS, d)
    way = way / np.linalg.norm(way, axis=1)[:, None] * np.linspace(0, length, STARTS)[:, None]
    return jnp.asarray(way)


@jax.jit
def others(logs) -> dict[str, jax.Array]:
    """The means that the others learn."""
    surface = fit_surface(logs.action, logs.reward, standard(logs.action[0]))
    bound = functools.partial(_bound, logs)
    policies = {
        "snips bound": _highest(logs, bound(None), fixed=True),
        "dr bound": _highest(logs, bound(doubly_robust(surface)), fixed=True),
        "poem": poem(logs),
        "pois": _highest(logs, _pois(logs)),
    }
    means = {name: policy.mean for name, policy in policies.items()}
    return {"surface": highest(surface, RADIUS)} | means


def _bound(logs, estimator) -> Callable[[Gaussian], jax.Array]:
    value = estimates(logs, estimator)
    return lambda policy: ess_exact(value(policy), 0.1).lower


def _highest(logs, height: Callable[[Gaussian], jax.Array], fixed: bool = False) -> Gaussian:
    """The highest policy that is climbed to from several starts."""
    unit = jnp.std(logs.reward)

    def policy(at):
        scale = SCALE if fixed else jnp.exp(jnp.clip(at[-1], *np.log(LIMITS)))
        return Gaussian(_feasible(at[:-1]), jnp.full_like(at[:-1], scale))

    def finite(at):
        high = height(policy(at)) / unit
        return jnp.where(jnp.isfinite(high), high, -jnp.inf)

    starts = _starts(logs.action.shape[1], 0.6 * RADIUS)
    starts = jnp.concatenate([starts, jnp.full((STARTS, 1), np.log(SCALE))], axis=1)
    climbs = jax.vmap(functools.partial(climb, finite))
    ends, reached = climbs(starts.astype(logs.action.dtype))
    return policy(ends[jnp.argmax(reached)])


def poem(logs) -> Gaussian:
    """λ by a quarter of the rows, then all rows."""
    low, high = jnp.min(logs.reward), jnp.max(logs.reward)
    gain = (logs.reward - low) / (high - low)
    ends = jnp.quantile(logs.log_propensity, jnp.asarray([0.9, 0.1]))
    most = jnp.exp(ends[0] - ends[1])
    held = jnp.arange(len(gain)) % 4 == 0

    def terms(policy):
        return jnp.minimum(jnp.exp(log_weights(policy, logs)), most) * gain

    def objective(penalty, kept):
        n = jnp.sum(kept)

        def height(policy):
            each = terms(policy)
            mean = jnp.sum(kept * each) / n
            variance = jnp.sum(kept * jnp.square(each - mean)) / (n - 1)
            return mean - penalty * jnp.sqrt(variance / n)

        return height

    def judged(penalty):
        return objective(0.0, held)(_highest(logs, objective(penalty, ~held)))

    penalties = jnp.asarray(LAMBDAS, gain.dtype)
    chosen = penalties[jnp.argmax(jax.lax.map(judged, penalties))]
    return _highest(logs, objective(chosen, jnp.ones_like(gain)))


def _pois(logs):
    most = jnp.max(jnp.abs(logs.reward)) * math.sqrt((1 - DELTA) / DELTA)
    played, n = standard(logs.action[0]), len(logs.reward)

    def height(policy):
        value = jnp.mean(jnp.exp(log_weights(policy, logs)) * logs.reward)
        return value - most * jnp.sqrt(population_d2(played, policy) / n)

    return height


# Tables.


def table(rows: list[dict]) -> str:
    """Means over cells and how often the aim is met, the latter by size, then every cell."""
    names = list(dict.fromkeys(row["learner"] for row in rows))
    lines = [line for some in _kinds(rows).values() for line in _means(*some, names)]
    head = ("worlds", "regret", "cells", "logs", *names, "aim met", "worst over nothing")
    keys = ("world", "noise", "d", "n")
    every = []
    for key, some in sorted(grouped(rows, *keys).items()):
        for kind in ("regret", "smoothed"):
            made = [f"{x:.3f}" for x in _of_cell(some, kind).values()]
            every.append([*key, kind, len(some) // len(names), *made])
    cells = markdown((*keys, "regret", "logs", *names), every, "llrrl")
    sizes = markdown(("d", "n", "cells", "logs", "aim met", "smoothed"), _sizes(rows), "r")
    return f"{markdown(head, lines, 'll')}\n\n{sizes}\n\n{cells}"


def _sizes(rows) -> Iterator[list]:
    """How often the aim is met by logs of one size."""
    for size, some in sorted(grouped(rows, "d", "n").items()):
        cells = grouped(some, "world", "noise").values()
        logs = sum(row["learner"] == OURS for row in some)
        met = (sum(_meets(_of_cell(x, kind)) for x in cells) for kind in ("regret", "smoothed"))
        yield [*size, len(cells), logs, *met]


def _meets(cell) -> bool:
    return cell[OURS] <= AIM * min(v for name, v in cell.items() if name != OURS) + MORE


def _kinds(rows):
    made: dict[str, tuple[str, list[dict]]] = {}
    for row in rows:
        kind = "only reported" if row["world"] in REPORTING else "chosen by"
        name = f"{kind}, {row['noise']}"
        made.setdefault(name, (name, []))[1].append(row)
    return dict(sorted(made.items()))


def _of_cell(rows, kind):
    """The mean regret of each learner."""
    return {
        name: float(np.mean([row[kind] for row in some]))
        for (name,), some in grouped(rows, "learner").items()
    }


def _means(name, rows, names) -> Iterator[list]:
    """Without the world that has nothing to gain, but for the aim."""
    cells = grouped(rows, "world", "noise", "d", "n")
    for kind in ("regret", "smoothed"):
        made = {key: _of_cell(some, kind) for key, some in cells.items()}
        some = [cell for key, cell in made.items() if key[0] != "centre"]
        means = [f"{np.mean([cell[x] for cell in some]):.3f}" for x in names]
        met = [*map(_meets, made.values())]
        over = max(cell[OURS] - (key[0] != "centre") for key, cell in made.items())
        logs = len(rows) // len(names)
        yield [name, kind, len(cells), logs, *means, f"{sum(met)} of {len(met)}", f"{over:+.2f}"]

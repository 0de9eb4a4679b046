"""Does a bound that holds for a whole class of policies certify more than folds?

No row is held out: the gain of every policy of the class, 1,024 means within the radius times three
scales, is estimated on all rows, doubly robust with the surface that the other three quarters
teach. q is the 95 % quantile of the supremum over the class of the studentised process with
multipliers on each row (each user), and V̂ − q·ŝ holds for all of them at once, so for the one
with the largest (PoLeCe, arXiv 2502.10653). `normal` multipliers are N(0, 1), `skewed` ones have
the third moments of the terms (Mammen 1993). Policies of fewer than 100 effective rows are left
out. Worlds, logs and units are those of `certificates.py`, whose stored rows of the same logs are
`half` and `folds of 4`: the table has the logs that all rules have seen, and coverage of all.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import binom

from benchmarks import _learning_worlds, _pieces, _study
from benchmarks._learning_worlds import RADIUS
from benchmarks._study import grouped, markdown
from benchmarks.certificates import PARTS, D, parts_of, unit_of
from mopl_jax.learning.waves import fit_waves
from mopl_jax.learning.whitening import normals
from mopl_jax.logs import num_units
from mopl_jax.numerics.pytree import stacked
from mopl_jax.policies import Gaussian

SIZES = {"replicates": 40, "seconds": 500, "n": 4000, "worlds": ("quadratic", "saturating", "ring")}
QUICK = {"replicates": 1, "n": 800, "worlds": ("quadratic",)}
KEYS = ("world", "noise", "n", "seed", "multipliers")
MEANS, SCALES, DRAWS, ENOUGH, LEVEL = 1024, (0.5, 0.7, 0.85), 500, 100.0, 0.95


def run(options) -> _study.Rows:
    """One row for each log and kind of multipliers, in pieces as those of `certificates`."""
    jax.config.update("jax_enable_x64", True)
    return _study.Rows(_pieces.more(options, "class_bounds", KEYS, _logs_of(options), rows_of))


def _logs_of(options) -> Iterator[tuple]:
    for seed in range(options.replicates):
        for world in options.worlds:
            for noise in _learning_worlds.noises(world):
                yield world, noise, options.n, seed


def rows_of(world: str, noise: str, n: int, seed: int) -> Iterator[dict]:
    """What is certified of the policy with the largest bound, and what is true of it."""
    logs = jax.tree.map(jnp.asarray, _learning_worlds.draw(seed, world, noise, D, n))
    unit, _ = unit_of(world, D)
    each, gain, terms, size = (np.asarray(x) for x in _terms(logs, parts_of(logs, seed)))
    error = np.sqrt(np.sum(terms**2, axis=0))
    for kind, multipliers in _multipliers(num_units(logs), seed).items():
        allowed = size >= ENOUGH
        process = (multipliers @ terms[:, allowed]) / error[allowed]
        q = np.quantile(np.max(process, axis=1), LEVEL)
        bound = np.where(allowed, gain - q * error, -np.inf)
        best = int(np.argmax(bound))
        mean, scale = each[best, :-1], np.diag(np.full(D, each[best, -1]))
        true = _learning_worlds.smoothed_gain(world, mean, scale)
        facts = {"q": float(q), "gain": true / unit, "bound": float(bound[best]) / unit}
        yield dict(zip(KEYS, (world, noise, n, seed, kind), strict=True)) | facts


def _multipliers(units, seed):
    """Of mean 0 and variance 1; the skewed ones of third moment 1."""
    rng = np.random.default_rng([17, seed])
    low, high = (1 - 5**0.5) / 2, (1 + 5**0.5) / 2
    skewed = np.where(rng.random((DRAWS, units)) < high / 5**0.5, low, high)
    return {"normal": rng.normal(size=(DRAWS, units)), "skewed": skewed}


@jax.jit
def _terms(logs, part):
    """The class (k, d+1), and of each policy the gain, its terms by unit (units, k), ESS."""
    n, d = logs.action.shape
    fold = jnp.asarray(part)
    surfaces = [fit_waves(logs, (fold != k).astype(float)).surface for k in range(PARTS)]
    left = logs.reward - jnp.stack([x.of_rows(logs.action) for x in surfaces])[fold, jnp.arange(n)]
    surface = stacked(surfaces)

    def value(policy):
        model = jax.vmap(lambda x: x.expectation(policy))(surface)[fold]
        p = jax.nn.softmax(jax.vmap(policy.log_density)(logs.action) - logs.log_propensity)
        rest = p @ left
        terms = (model - jnp.mean(model)) / n + p * (left - rest)
        return jnp.mean(model) + rest, terms, 1 / jnp.sum(jnp.square(p))

    def gain(at):
        scale = jnp.full(d, at[-1])
        made, base = value(Gaussian(at[:-1], scale)), value(Gaussian(jnp.zeros(d), scale))
        terms, units = made[1] - base[1], num_units(logs)
        if logs.cluster is not None:
            terms = jax.ops.segment_sum(terms, logs.cluster, units)
        return made[0] - base[0], terms, made[2]

    each = jnp.asarray(_class(d))
    found = jax.lax.map(gain, each)
    return each, found[0], found[1].T, found[2]


def _class(d):
    """Means of all lengths in all directions, each with every scale."""
    way = normals(MEANS, d)
    length = RADIUS * (np.arange(MEANS) + 1) / MEANS
    means = way / np.linalg.norm(way, axis=1)[:, None] * length[:, None]
    return np.concatenate([np.column_stack([means, np.full(MEANS, scale)]) for scale in SCALES])


def summary(rows: list[dict]) -> list:
    """Logs, how often and how much is certified, the true gain, whether it holds."""
    gain, bound = (np.array([row[key] for row in rows]) for key in ("gain", "bound"))
    held, promised = bound <= gain + 1e-9, np.maximum(bound, 0)
    facts = np.mean(promised > 0), np.mean(promised), np.mean(gain), np.mean(held)
    tail = binom.cdf(held.sum(), len(held), LEVEL)
    return [len(rows), *(f"{x:.3f}" for x in facts), f"{tail:.2g}"]


def table(rows: list[dict]) -> str:
    """Class and folds on the same logs, then coverage of all logs of the class."""
    head = ("world", "noise", "rule", "logs", "positive", "certified", "true", "holds", "tail")
    stored = _study.read("certificates")
    known = {(x["world"], x["noise"], x["n"], x["seed"]) for x in stored}
    same = [x for x in rows if (x["world"], x["noise"], x["n"], x["seed"]) in known]
    seen = {(x["world"], x["noise"], x["n"], x["seed"]) for x in same}
    others = [
        {**x, "multipliers": x["rule"], "bound": x["bound"] if x["verdict"] < 2 else -np.inf}
        for x in stored
        if (x["world"], x["noise"], x["n"], x["seed"]) in seen
        and x["rule"] in ("half", "folds of 4")
    ]
    cells = grouped(same + others, "world", "noise", "multipliers").items()
    first = [[*key, *summary(some)] for key, some in sorted(cells)]
    every = grouped(rows, "world", "noise", "multipliers").items()
    second = [
        [*key, *summary(some), f"{np.mean([x['q'] for x in some]):.2f}"] for key, some in every
    ]
    one = markdown(head, first, "lll")
    return f"{one}\n\n{markdown((*head, 'q'), second, 'lll')}"

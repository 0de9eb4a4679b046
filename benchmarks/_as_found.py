"""Intervals of other libraries and papers as found, from their formulas, beside ours on the same
logs.

Δ-SNIPS of Jeunen & Ustimenko, the continuous design (olivierjeunen/delta-OPE-recsys-2024): d = 3,
logging N(0.475, 0.5 I), policies N(0.505, 0.05 I) and N(0.5, 0.05 I), reward mean(a) + 0.25 noise;
the delta method in four terms with 1.96. obp (st-tech/zr-obp): SNIPS' rows w r / mean(w) are
resampled, so that the normaliser stays what it was. scope-rl (hakuhodo-technologies/scope-rl):
Hoeffding's half-width as max(x) √(log(2/α)/2 · n), where n belongs below the line.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax.estimators import snips
from mopl_jax.estimators.contrast import difference
from mopl_jax.intervals import hoeffding, normal, percentile, recommended

ALPHA, Z = 0.05, 1.96
LOGGING, PRODUCTION, TARGET, LOGGED, PLAYED, NOISE = 0.475, 0.5, 0.505, 0.5, 0.05, 0.25


def rows(logs: int, seed: int) -> Iterator[dict]:
    """A row for each source, case, n and interval: coverage and median width."""
    rng = np.random.default_rng(seed)
    for n in (32, 406, 5160):
        yield from _judged(_pairs(rng, n), logs, {"source": "Δ-OPE", "case": "σ² = 0.05", "n": n})
    for offset in (0.0, 5.0):
        about = {"source": "obp", "case": f"rewards around {offset:g}", "n": 500}
        yield from _judged(_frozen(rng, 500, offset), logs // 4, about)
    for n in (100, 10_000):
        about = {"source": "scope-rl", "case": "clicks of 10 %", "n": n}
        yield from _judged(_bounded(rng, n), logs // 4, about)


def _judged(draw: Callable[[], tuple[float, dict]], logs, about) -> Iterator[dict]:
    found = [draw() for _ in range(logs)]
    for name in found[0][1]:
        ends = np.array([each[name] for _, each in found], float)
        hit = [low <= truth <= high for (truth, _), (low, high) in zip(found, ends, strict=True)]
        width = float(np.median(ends[:, 1] - ends[:, 0]))
        yield about | {"interval": name, "coverage": float(np.mean(hit)), "width": width}


def _pairs(rng, n):
    """The difference of two policies, by their formula and by ours."""

    def log_density(action, mean, variance):
        squares = np.sum((action - mean) ** 2, axis=1) / variance
        return -0.5 * (squares + 3 * np.log(2 * np.pi * variance))

    @jax.jit
    def ours(target, production, reward):
        made = difference(snips(target, reward), snips(production, reward))
        ends = [f(made, ALPHA) for f in (normal, recommended)]
        return jnp.stack([jnp.stack([x.lower, x.upper]) for x in ends])

    def draw():
        action = LOGGING + LOGGED**0.5 * rng.standard_normal((n, 3))
        reward = action.mean(axis=1) + NOISE * rng.standard_normal(n)
        logged = log_density(action, LOGGING, LOGGED)
        weights = [log_density(action, mean, PLAYED) - logged for mean in (TARGET, PRODUCTION)]
        target, production, rewards = (jnp.asarray(x) for x in (*weights, reward))
        mine = np.asarray(ours(target, production, rewards))
        theirs = _delta_method(np.exp(weights[0]), np.exp(weights[1]), reward)
        return TARGET - PRODUCTION, {"as found": theirs, "normal": mine[0], "recommended": mine[1]}

    return draw


def _delta_method(w, v, reward):
    """g'Cg of the covariance C of w r, w, v r, v, with g the gradient of the two ratios."""
    columns = np.stack([w * reward, w, v * reward, v])
    a, b, c, d = columns.mean(axis=1)
    gradient = np.array([1 / b, -a / b**2, -1 / d, c / d**2])
    error = (gradient @ np.cov(columns) @ gradient / len(reward)) ** 0.5
    return a / b - c / d - Z * error, a / b - c / d + Z * error


def _frozen(rng, n, offset):
    """SNIPS of a target unlike the logger, its rows resampled and its value recomputed."""
    ours = jax.jit(lambda *log: percentile(snips(*log), ALPHA, resamples=500))

    def draw():
        action = rng.standard_normal(n)
        log_weight = 0.5 * action**2 - 0.5 * ((action - 0.7) / 0.7) ** 2
        reward = offset + 0.3 * action + rng.standard_normal(n)
        weight = np.exp(log_weight)
        terms = weight * reward / weight.mean()
        means = terms[rng.integers(0, n, (500, n))].mean(axis=1)
        mine = ours(jnp.asarray(log_weight), jnp.asarray(reward))
        found = np.quantile(means, [ALPHA / 2, 1 - ALPHA / 2])
        return offset + 0.21, {"as found": found, "percentile": (mine.lower, mine.upper)}

    return draw


def _bounded(rng, n):
    """Clicks weighted by an arm that is logged half of the time and played always."""
    ours = jax.jit(lambda *log: hoeffding(snips(*log), ALPHA, reward_range=(0.0, 1.0), w_max=2.0))

    def draw():
        weight = 2.0 * (rng.random(n) < 0.5)
        reward = (rng.random(n) < 0.1).astype(float)
        terms = weight * reward
        half = terms.max() * (np.log(2 / ALPHA) / 2 * n) ** 0.5
        with np.errstate(divide="ignore"):
            mine = ours(jnp.asarray(np.log(weight)), jnp.asarray(reward))
        found = terms.mean() - half, terms.mean() + half
        return 0.1, {"as found": found, "hoeffding": (mine.lower, mine.upper)}

    return draw

"""How many users does a search spend, one A/B test for each candidate? Part of `closed_loop`.

Random steps, one weight at a time, Bayesian optimisation; by the North Star, and by the learnt
metric with as many times fewer users. The tests of a search are drawn from their sampling
distribution, true difference plus normal noise, instead of being simulated user by user.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from benchmarks._loop import START, World, as_long

TESTS = {  # users in each arm: certain, and cheap
    "North Star": (50_000, 5_000),
    "learnt metric": (1_024, 128),
}


class Tests(NamedTuple):
    """What a test finds: `effects(weights)` -> true gain and the difference that a test of endless
    users would show; the noise of a difference; how many candidates are tested.
    """

    effects: Callable[[np.ndarray], tuple[float, float]]
    noise: float
    candidates: int


def rows(world: World, metric: np.ndarray, rate: float, options) -> Iterator[dict]:
    """True gain of what each search has adopted, after each of its tests; `rate`: days for a unit
    of the metric.
    """
    sizes = [(reward, size) for reward, some in TESTS.items() for size in some]
    for (reward, size), name, seed in itertools.product(sizes, SEARCH, range(options.searches)):
        tests = _tests(world, rate * metric if reward == "learnt metric" else None, size, options)
        found = SEARCH[name](tests, np.random.default_rng(seed))
        about = {"method": name, "reward": reward, "test": size, "seed": seed}
        for number, gain in enumerate(found):
            yield about | {"users": 2 * size * number, "true_gain": gain}


def _tests(world, metric, size, options) -> Tests:
    """By a metric, or by the North Star if there is none."""
    expected = world.base.expected[: options.search_truth]
    base = world.base.signals[: options.search_truth].astype(float)
    weights = np.eye(base.shape[1])[-1] if metric is None else metric

    def effects(w):
        played = world.play(w, options.search_truth)
        gain = float((played.expected.astype(float) - expected).mean())
        shown = gain if metric is None else float(((played.signals - base) @ weights).mean())
        return gain, shown

    noise = float((base @ weights).std()) * math.sqrt(2 / size)
    return Tests(effects, noise, options.candidates)


def _climb(tests, rng, steps):
    """Adopt a step whose test is significant, two-sided 5 %."""
    now, stands, path = START.astype(float), (0.0, 0.0), [0.0]
    for step in steps:
        tried = as_long(now + step)
        found = tests.effects(tried)
        if found[1] - stands[1] + tests.noise * rng.normal() > 1.96 * tests.noise:
            now, stands = tried, found
        path.append(stands[0])
    return path


def _random_steps(tests, rng):
    return _climb(tests, rng, 0.25 * rng.normal(size=(tests.candidates, START.size)))


def _one_weight(tests, rng):
    axes = 0.4 * np.concatenate([np.eye(START.size), -np.eye(START.size)])
    order = np.resize(rng.permutation(len(axes)), tests.candidates)
    return _climb(tests, rng, axes[order])


def _bayesian(tests, rng):
    """Expected improvement under a Gaussian process; after each test the tried weights of the best
    posterior mean stand.
    """
    tried, seen, truth, path = START[None].astype(float), [0.0], [0.0], [0.0]
    for _ in range(tests.candidates):
        pool = as_long(
            START + rng.normal(size=(2000, START.size)) * rng.uniform(0.1, 0.6, (2000, 1))
        )
        mean, sd = _posterior(tried, seen, tests.noise, pool)
        ahead = mean - _posterior(tried, seen, tests.noise, tried)[0].max()
        density = sd * np.exp(-((ahead / sd) ** 2) / 2) / math.sqrt(2 * math.pi)
        chosen = pool[np.argmax(ahead * _cdf(ahead / sd) + density)]
        gain, measured = tests.effects(chosen)
        tried = np.concatenate([tried, chosen[None]])
        truth.append(gain)
        seen.append(measured + tests.noise * rng.normal())
        best = np.argmax(_posterior(tried, seen, tests.noise, tried)[0])
        path.append(truth[int(best)])
    return path


SEARCH = {
    "random steps": _random_steps,
    "one weight at a time": _one_weight,
    "Bayesian optimisation": _bayesian,
}


def _posterior(at, seen, noise, where, spread=0.05, length=1.5):
    """Mean and standard deviation of a Gaussian process with a squared-exponential kernel, at
    `where`.
    """

    def kernel(a, b):
        return spread**2 * np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / (2 * length**2))

    across = kernel(where, at)
    noisy = kernel(at, at) + noise**2 * np.eye(len(at))
    solved = np.linalg.solve(noisy, np.column_stack([seen, across.T]))
    variance = spread**2 - np.einsum("ij,ji->i", across, solved[:, 1:])
    return across @ solved[:, 0], np.sqrt(np.maximum(variance, 1e-12))


def _cdf(z):
    return 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))

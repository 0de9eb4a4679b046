"""Worlds whose click rate, or rewards inside the range, depend on the action; truths are exact.

A rate depends on one projection of the action, which is normal under the target. The held-out half
differs in the logger, the shape of the rate or the dimension.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats


class World(NamedTuple):
    """A logger, a target and rewards: `draw(rng, shape)` gives log weights and rewards, `truth` the
    target's value.
    """

    half: str
    family: str  # of rewards: clicks, or inside the range
    name: str
    draw: Callable
    truth: float


# Rates, as functions of a projection z of the action.


def logit(offset: float, slope: float) -> Callable:
    """A click rate σ(offset + slope · z)."""
    return lambda z: 1 / (1 + np.exp(-offset - slope * z))


def step(low: float, high: float) -> Callable:
    """A click rate that jumps at z = 1."""
    return lambda z: np.where(z > 1, high, low)


def hump(z: np.ndarray) -> np.ndarray:
    """Clicks near z = 1 alone."""
    return 0.3 * np.exp(-2 * np.square(z - 1))


# Rewards, given the rate that is their mean.


def clicks(rng: np.random.Generator, rate: np.ndarray) -> np.ndarray:
    """0 or 1."""
    return (rng.random(rate.shape) < rate).astype(float)


def spread(concentration: float) -> Callable:
    """Beta rewards, all inside the range."""
    return lambda rng, rate: rng.beta(concentration * rate, concentration * (1 - rate))


def inside(share: float) -> Callable:
    """Clicks of which a share, drawn at random, are half-way to their rate."""

    def draw(rng, rate):
        click = clicks(rng, rate)
        return np.where(rng.random(rate.shape) < share, (click + rate) / 2, click)

    return draw


def stars(rng: np.random.Generator, rate: np.ndarray) -> np.ndarray:
    """Ratings of 0 … 4 quarters."""
    return rng.binomial(4, rate) / 4


# Worlds.


def arms(half: str, rates, logging, target) -> World:
    """Two or more arms, each with its click rate and its probabilities."""
    rates, logging, target = (np.asarray(x) for x in (rates, logging, target))

    def draw(rng, shape):
        arm = rng.choice(len(rates), shape, p=logging)
        return np.log(target / logging)[arm], clicks(rng, rates[arm])

    name = f"arms {_listed(rates)}, {_listed(logging)} → {_listed(target)}"
    return World(half, "clicks", name, draw, float(np.sum(target * rates)))


def _listed(x):
    return "/".join(f"{y:.3g}" for y in x)


class Logger(NamedTuple):
    """One coordinate of a logging policy: `draw(rng, shape)` and its log density."""

    draw: Callable
    log_density: Callable


def _mixed(rng, shape):
    return 0.7 * rng.standard_normal(shape) + np.where(rng.random(shape) < 0.1, 1.5, -0.5)


def _log_mixed(a):
    near, far = (stats.norm.logpdf(a, m, 0.7) for m in (-0.5, 1.5))
    return np.logaddexp(np.log(0.9) + near, np.log(0.1) + far)


NORMAL = Logger(np.random.Generator.standard_normal, lambda a: stats.norm.logpdf(a))
LAPLACE = Logger(
    lambda rng, shape: rng.laplace(size=shape), lambda a: -np.abs(a) - math.log(2)
)  # heavier tails than the target's
MIXED = Logger(_mixed, _log_mixed)  # nine in ten near −0.5, the others near 1.5


def gaussian(half, family, name, target, rate, reward=clicks, logger=NORMAL) -> World:
    """A normal target (d, mean and scale of each coordinate); z = Σ a / √d."""
    d, mean, scale = target

    def draw(rng, shape):
        log_weight, z = np.zeros(shape), np.zeros(shape)
        for _ in range(d):
            a = logger.draw(rng, shape)
            log_target = -0.5 * np.square((a - mean) / scale) - 0.5 * math.log(2 * math.pi)
            log_weight += log_target - math.log(scale) - logger.log_density(a)
            z += a / math.sqrt(d)
        return log_weight, reward(rng, rate(z))

    return World(half, family, name, draw, mean_of(rate, mean * math.sqrt(d), scale))


def mean_of(rate: Callable, mean: float, scale: float) -> float:
    """The mean of a rate under a normal z, by a sum over a grid (a jump costs 1e-3 of a width)."""
    z = np.linspace(-9, 9, 200_001)
    weight = np.exp(-z * z / 2)
    return float(np.sum(rate(mean + scale * z) * weight) / weight.sum())


TARGETS = {
    "narrow, d = 1": (1, 0.5, 0.7),
    "shifted, d = 1": (1, 0.7, 0.95),
    "point, d = 1": (1, 0.0, 0.3),
    "far, d = 1": (1, 1.5, 0.7),
    "wide, d = 1": (1, 0.5, 1.2),
    "d = 2": (2, 0.4, 0.7),
    "d = 5": (5, 0.3, 0.75),
    "d = 10": (10, 0.35, 0.75),
}
RATES = {
    "σ(−2+z)": logit(-2, 1.0),
    "σ(−2−z)": logit(-2, -1.0),
    "σ(−4+1.5z)": logit(-4, 1.5),
    "σ(−4−1.5z)": logit(-4, -1.5),
    "σ(2z)": logit(0, 2.0),
    "σ(−1+.5z)": logit(-1, 0.5),
    "σ(−1−.5z)": logit(-1, -0.5),
    "0.7 %": logit(-5, 0.0),
    "10 %": logit(-2.2, 0.0),
    "σ(2+z)": logit(2, 1.0),
}
ARMS = (
    ((0.05, 0.2), (0.9, 0.1), (0.7, 0.3)),
    ((0.3, 0.01), (0.8, 0.2), (0.2, 0.8)),
    ((0.01, 0.1), (0.97, 0.03), (0.6, 0.4)),
    ((0.1, 0.01), (0.97, 0.03), (0.6, 0.4)),
    ((0.03, 0.6), (0.9, 0.1), (0.5, 0.5)),
    ((0.6, 0.03), (0.9, 0.1), (0.5, 0.5)),
    ((0.5, 0.9), (0.7, 0.3), (0.1, 0.9)),
)
INSIDE = {
    "beta, 4": (spread(4.0), logit(-0.5, 0.5)),
    "beta, 20, near an end": (spread(20.0), logit(-3, 0.3)),
    "beta, 400": (spread(400.0), logit(-0.5, 0.05)),
    "10 % clicks, 1 % inside": (inside(0.01), logit(-2.2, 0.0)),
    "1 % clicks, 1 % inside": (inside(0.01), logit(-4.6, 0.0)),
    "stars, rising": (stars, logit(0.5, 0.7)),
    "stars, falling": (stars, logit(1.5, -0.7)),
}
APART = (1, 0.5, 0.6)


def worlds() -> list[World]:
    """Both halves."""
    chosen = [arms("chosen on", *each) for each in ARMS]
    for (at, target), (name, rate) in itertools.product(TARGETS.items(), RATES.items()):
        chosen.append(gaussian("chosen on", "clicks", f"{name}, {at}", target, rate))
    for at, (name, (reward, rate)) in itertools.product(("narrow, d = 1", "d = 5"), INSIDE.items()):
        world = gaussian("chosen on", "inside", f"{name}, {at}", TARGETS[at], rate, reward)
        chosen.append(world)
    return chosen + _held_out()


def _held_out():
    """Other loggers, shapes and dimensions, and the cells in which the failure was found."""
    make = functools.partial(gaussian, "held out", "clicks")
    even = (0.05,) * 2 + (0.3,) * 3
    return [
        arms("held out", (0.02, 0.5), (0.95, 0.05), (0.5, 0.5)),
        arms("held out", (0.5, 0.02), (0.95, 0.05), (0.5, 0.5)),
        arms("held out", (0.005, 0.02), (0.95, 0.05), (0.5, 0.5)),
        arms("held out", (0.002, 0.01), (0.95, 0.05), (0.5, 0.5)),
        arms("held out", (0.3, 0.2, 0.1, 0.05, 0.02), even[::-1], (0.2,) * 5),
        arms("held out", (0.02, 0.05, 0.1, 0.2, 0.3), even[::-1], (0.2,) * 5),
        make("σ(−3+2z), d = 1", APART, logit(-3, 2.0)),
        make("σ(−3−2z), d = 1", APART, logit(-3, -2.0)),
        make("step up, d = 1", APART, step(0.02, 0.3)),
        make("step down, d = 1", APART, step(0.3, 0.02)),
        make("hump, d = 3", (3, 0.3, 0.8), hump),
        make("σ(−3+z), d = 20", (20, 0.1, 0.85), logit(-3, 1.0)),
        make("σ(−3−z), d = 20", (20, 0.1, 0.85), logit(-3, -1.0)),
        make("σ(−3+z), Laplace logger", (2, 0.7, 0.8), logit(-3, 1.0), logger=LAPLACE),
        make("σ(−3−z), Laplace logger", (2, 0.7, 0.8), logit(-3, -1.0), logger=LAPLACE),
        make("σ(−3+1.5z), mixed logger", (1, 1.0, 0.7), logit(-3, 1.5), logger=MIXED),
        make("σ(−3−1.5z), mixed logger", (1, 1.0, 0.7), logit(-3, -1.5), logger=MIXED),
        make("1 %, d = 3", (3, 0.3, 0.8), logit(-4.6, 0.0)),
        make("10 %, d = 3", (3, 0.3, 0.8), logit(-2.2, 0.0)),
        *(
            gaussian("held out", "inside", f"{name}, d = 3", (3, 0.3, 0.8), rate, reward)
            for name, (reward, rate) in {
                "beta, 1": (spread(1.0), logit(-2, 1.0)),
                "beta, 10": (spread(10.0), logit(-2, -1.0)),
                "beta, 1000": (spread(1000.0), logit(1, 0.1)),
                "clicks, 3 % inside": (inside(0.03), logit(-3, 1.0)),
                "stars, rare": (stars, logit(-3, 0.7)),
            }.items()
        ),
    ]

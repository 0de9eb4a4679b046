"""Which interval for rewards in a known range where they depend on the action? Click rates that
rise and fall with the weights, and rewards inside the range.

Worlds "chosen on" chose the two constants of `proportions.variance_ratio` (their margins: every
click rate at every target); those "held out" differ from them in the logger, the shape of the
rate or the dimension and were looked at once. Truths are exact: a rate depends on one projection
of the action, which is normal under the target. A cell fails where coverage is below 0.945 by
more than two Monte-Carlo standard errors. A cell's clicks are its median ESS times min(V, 1 − V).
"""

import functools
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mopl_jax import intervals
from mopl_jax.estimators import snips
from mopl_jax.intervals.default import recommended
from mopl_jax.intervals.interval import Interval
from mopl_jax.intervals.moments import moments_of
from mopl_jax.io import storage

RESULTS = Path(__file__).parent / "results"
ALPHA = 0.05
SIZES = {"chosen on": (16, 64, 256, 1024, 4096), "held out": (64, 256, 1024, 4096, 16384)}
REPLICATES = {"chosen on": 1024, "held out": 2048}
TOGETHER = 2**20  # rows drawn at once


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

    return World(half, family, name, draw, _mean(rate, mean * math.sqrt(d), scale))


def _mean(rate, mean, scale):
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


# Candidates: formulas of the moments and of how many rewards are inside the range.


def _switch(sums, num_inside):
    """The rule before: `ess_wilson_skew` if all rewards are at the ends of the range, else
    `ess_skew` cut to the range.
    """
    wilson = intervals.ess_wilson_skew.at(sums, ALPHA)
    skewed = intervals.ess_skew.at(sums).interval(ALPHA)
    return Interval(
        jnp.where(num_inside == 0, wilson.lower, jnp.clip(skewed.lower, 0, 1)),
        jnp.where(num_inside == 0, wilson.upper, jnp.clip(skewed.upper, 0, 1)),
    )


CANDIDATES = {
    "ess_wilson": lambda sums, _: intervals.ess_wilson.at(sums, ALPHA),
    "switch": _switch,
    "ess_score": lambda sums, _: intervals.ess_score.at(sums, ALPHA),
    "recommended": lambda sums, _: recommended.at(sums, ALPHA, reward_range=(0.0, 1.0)),
}


@jax.jit
def _limits(sums, num_inside):
    return {name: ends(sums, num_inside) for name, ends in CANDIDATES.items()}


@jax.jit
def _sums(log_weight, reward):
    """Moments, and rewards inside the range, of each log (r, n)."""

    def one(log_weight, reward):
        num_inside = jnp.sum((reward != 0) & (reward != 1))
        return moments_of(snips(log_weight, reward)), num_inside

    return jax.vmap(one)(log_weight, reward)


def rows() -> list[dict]:
    """One row per world, size and candidate."""
    found = []
    for number, world in enumerate(worlds()):
        for n, (sums, num_inside) in _drawn(world, number).items():
            ends = jax.device_get(_limits(sums, num_inside))
            found += [_row(world, n, sums, name, each) for name, each in ends.items()]
    return found


def _drawn(world, number):
    """The moments of all replicates, by size; sizes share their draws."""
    sizes, rng = SIZES[world.half], np.random.default_rng(number)
    drawn, shape = {n: [] for n in sizes}, (TOGETHER // sizes[-1], sizes[-1])
    for _ in range(REPLICATES[world.half] // shape[0]):
        log_weight, reward = (x.astype(np.float32) for x in world.draw(rng, shape))
        for n in sizes:
            drawn[n].append(jax.device_get(_sums(log_weight[:, :n], reward[:, :n])))
    return {n: jax.tree.map(lambda *x: np.concatenate(x), *parts) for n, parts in drawn.items()}


def _row(world, n, sums, name, ends):
    ess = float(np.median(sums.kish))
    oracle = 2 * 1.959964 * float(np.std(sums.value.astype(float)))
    row = {
        "half": world.half,
        "family": world.family,
        "world": world.name,
        "n": n,
        "interval": name,
        "truth": world.truth,
        "ess_median": ess,
        "clicks": ess * min(world.truth, 1 - world.truth),
        "replicates": len(sums.value),
        "miss_above": float(np.mean(ends.lower > world.truth)),
        "miss_below": float(np.mean(ends.upper < world.truth)),
        "width_ratio": float(np.median(ends.upper - ends.lower)) / oracle if oracle else math.nan,
    }
    return row | {"coverage": 1 - row["miss_above"] - row["miss_below"]}


def main() -> None:
    """Run, store every cell, print the tables."""
    storage.write_results(
        RESULTS / "click_rates.parquet", rows(), storage.provenance(study="click_rates")
    )
    report()


# Tables.

LARGE = SIZES["held out"][-3:]


def report() -> None:
    """results/click_rates.md from the stored cells with ESS ≥ 2."""
    stored = storage.read_results(RESULTS / "click_rates.parquet")[0]
    kept = [r for r in stored if r["ess_median"] >= 2]
    text = f"{_summary(kept)}\n\n{_each(kept)}\n"
    (RESULTS / "click_rates.md").write_text(text)
    print(text)


def _summary(stored):
    """A line per half, family of rewards and candidate."""
    head = ("half", "rewards", "interval", "cells", "fail", "worst", "lower end fails")
    head += ("upper end fails", "width, clicks < 4", "4 … 16", "16 … 64", "≥ 64", "widest there")
    lines = [f"| {' | '.join(head)} |", "| --- | --- | --- |" + " --: |" * (len(head) - 3)]
    for half, family, name in itertools.product(REPLICATES, ("clicks", "inside"), CANDIDATES):
        some = [
            r for r in stored if (r["half"], r["family"], r["interval"]) == (half, family, name)
        ]
        lines.append(f"| {half} | {family} | {name} | {_line(some)} |")
    return "\n".join(lines)


def _line(some):
    fail = np.mean([_too_often(1 - r["coverage"], 0.055, r) for r in some])
    ends = (
        np.mean([_too_often(r[side], 0.025, r) for r in some])
        for side in ("miss_above", "miss_below")
    )
    widths = (
        [r["width_ratio"] for r in some if low <= r["clicks"] < high]
        for low, high in ((0, 4), (4, 16), (16, 64), (64, math.inf))
    )
    widest = max(r["width_ratio"] for r in some if r["clicks"] >= 64)
    shares = [f"{fail:.3f}", f"{min(r['coverage'] for r in some):.3f}", *(f"{x:.3f}" for x in ends)]
    return " | ".join(
        [f"{len(some)}", *shares, *(f"{np.median(x):.2f}" for x in widths), f"{widest:.2f}"]
    )


def _too_often(share, expected, row):
    """Whether a share of misses is above what is expected by more than two Monte-Carlo standard
    errors.
    """
    return share > expected + 2 * (expected * (1 - expected) / row["replicates"]) ** 0.5


def _each(stored):
    """Coverage and width of the held-out worlds at the three largest sizes, before and now."""
    head = ("held out", *(f"n = {n:,}: {name}" for n in LARGE for name in ("switch", "now")))
    lines = [f"| {' | '.join(head)} |", "| --- |" + " --: |" * (len(head) - 1)]
    for world in dict.fromkeys(r["world"] for r in stored if r["half"] == "held out"):
        cells = [
            f"{r['coverage']:.3f} ({r['width_ratio']:.2f})"
            for n in LARGE
            for name in ("switch", "recommended")
            for r in stored
            if (r["half"], r["world"], r["n"], r["interval"]) == ("held out", world, n, name)
        ]
        lines.append(f"| {world} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

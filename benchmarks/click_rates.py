"""Which interval for rewards in a known range where they depend on the action? Click rates that
rise and fall with the weights, and rewards inside the range.

Worlds "chosen on" chose the two constants of `proportions.variance_ratio` (their margins: every
click rate at every target); those "held out" differ from them in the logger, the shape of the
rate or the dimension and were looked at once. Truths are exact: a rate depends on one projection
of the action, which is normal under the target. A cell fails where coverage is below 0.945 by
more than two Monte-Carlo standard errors. A cell's clicks are its median ESS times min(V, 1 − V).
"""

import itertools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from benchmarks._click_worlds import worlds
from benchmarks._judge import bound_fails, fails
from mopl_jax import intervals
from mopl_jax.estimators import snips
from mopl_jax.intervals.default import recommended
from mopl_jax.intervals.interval import Interval
from mopl_jax.intervals.moments import moments_of

SIZES = {"chosen": (16, 64, 256, 1024, 4096), "held_out": (64, 256, 1024, 4096, 16384)}
SIZES |= {"chosen_replicates": 1024, "held_out_replicates": 2048, "every": 1}
QUICK = {"chosen": (16,), "held_out": (64,), "every": 25}
QUICK |= {"chosen_replicates": 64, "held_out_replicates": 64}
ALPHA, AIM = 0.05, 0.945
TOGETHER = 2**20  # rows drawn at once
HALVES, FAMILIES = ("chosen on", "held out"), ("clicks", "inside")


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


def run(options) -> list[dict]:
    """One row per world, size and candidate; of every so many worlds."""
    return [
        row
        for number, world in list(enumerate(worlds()))[:: options.every]
        for row in _cells(number, world, options)
    ]


def _cells(number, world, options) -> Iterator[dict]:
    first = world.half == HALVES[0]
    sizes = options.chosen if first else options.held_out
    replicates = options.chosen_replicates if first else options.held_out_replicates
    for n, (sums, num_inside) in _drawn(number, world, sizes, replicates).items():
        ends = jax.device_get(_limits(sums, num_inside))
        for name, each in ends.items():
            yield _row(world, n, sums, name, each)


def _drawn(number, world, sizes, replicates):
    """The moments of all replicates, by size; sizes share their draws."""
    rng, shape = np.random.default_rng(number), (min(TOGETHER // sizes[-1], replicates), sizes[-1])
    drawn = {n: [] for n in sizes}
    for _ in range(replicates // shape[0]):
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


def table(rows: list[dict]) -> str:
    """Cells with ESS ≥ 2: every candidate, then the held-out worlds one by one."""
    kept = [row for row in rows if row["ess_median"] >= 2]
    return f"{summary(kept)}\n\n{each_world(kept)}"


def summary(rows: list[dict]) -> str:
    """A line per half, family of rewards and candidate."""
    head = ("half", "rewards", "interval", "cells", "fail", "worst", "lower end fails")
    head += ("upper end fails", "width, clicks < 4", "4 … 16", "16 … 64", "≥ 64", "widest there")
    groups = _study.grouped(rows, "half", "family", "interval")
    order = itertools.product(HALVES, FAMILIES, CANDIDATES)
    lines = [[*cell, *_line(groups[cell])] for cell in order if cell in groups]
    return _study.markdown(head, lines, "lllr")


def _line(some):
    shares = [np.mean([fails(r["coverage"], AIM, r["replicates"]) for r in some])]
    shares.append(min(r["coverage"] for r in some))
    shares += [
        np.mean([bound_fails(r, s, ALPHA) for r in some]) for s in ("miss_above", "miss_below")
    ]
    widths = [
        [r["width_ratio"] for r in some if low <= r["clicks"] < high]
        for low, high in itertools.pairwise((0, 4, 16, 64, math.inf))
    ]
    shown = [f"{np.median(x):.2f}" if x else "" for x in widths]
    widest = f"{max(widths[-1]):.2f}" if widths[-1] else ""
    return [len(some), *(f"{x:.3f}" for x in shares), *shown, widest]


def each_world(rows: list[dict]) -> str:
    """Coverage and width of the held-out worlds at the three largest sizes, before and now."""
    held = [row for row in rows if row["half"] == HALVES[1]]
    large = sorted({row["n"] for row in held})[-3:]
    names = {"switch": "switch", "recommended": "now"}
    head = ("held out", *(f"n = {n:,}: {name}" for n in large for name in names.values()))
    lines = []
    for (world,), some in _study.grouped(held, "world").items():
        of = {
            (r["n"], r["interval"]): f"{r['coverage']:.3f} ({r['width_ratio']:.2f})" for r in some
        }
        lines.append([world, *(of[n, name] for n in large for name in names if (n, name) in of)])
    return _study.markdown(head, lines)

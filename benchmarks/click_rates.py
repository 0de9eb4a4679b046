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

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._click_worlds import worlds
from mopl_jax import intervals
from mopl_jax.estimators import snips
from mopl_jax.intervals.default import recommended
from mopl_jax.intervals.interval import Interval
from mopl_jax.intervals.moments import moments_of

ALPHA = 0.05
N = {"chosen on": (16, 64, 256, 1024, 4096), "held out": (64, 256, 1024, 4096, 16384)}
REPLICATES = {"chosen on": 1024, "held out": 2048}
TOGETHER = 2**20  # rows drawn at once
SIZES = {"share": 1.0}  # of the replicates
QUICK = {"share": 0.125}


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


def run(options) -> list[dict]:
    """One row per world, size and candidate."""
    found = []
    for number, world in enumerate(worlds()):
        replicates = int(REPLICATES[world.half] * options.share)
        for n, (sums, num_inside) in _drawn(world, number, replicates).items():
            ends = jax.device_get(_limits(sums, num_inside))
            found += [_row(world, n, sums, name, each) for name, each in ends.items()]
    return found


def _drawn(world, number, replicates):
    """The moments of all replicates, by size; sizes share their draws."""
    sizes, rng = N[world.half], np.random.default_rng(number)
    drawn, shape = {n: [] for n in sizes}, (TOGETHER // sizes[-1], sizes[-1])
    for _ in range(max(replicates // shape[0], 1)):
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


# Tables.

LARGE = N["held out"][-3:]


def table(rows: list[dict]) -> str:
    """Each candidate on both halves, over cells with ESS ≥ 2; then each held-out world."""
    kept = [r for r in rows if r["ess_median"] >= 2]
    return f"{_summary(kept)}\n\n{_each(kept)}"


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

"""Which interval for clicks? Proportions with an effective sample size, on both halves of the
click worlds of the stress study.

Rewards of 10 % and 1 % in every dimension and at every target. The rule: of those that fail in
no more cells of the first half (d = 1, 5, 20) than false alarms explain, the narrowest once ESS
≥ 50. The second half (d = 2, 10) has other seeds. With equal weights coverage is a sum of
binomial probabilities: exact, and lowest where the lattice hurts most.
"""

import dataclasses
import functools
import itertools
import types
from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks.stress import aim
from mopl_jax.coverage import engine, study
from mopl_jax.estimators import snips
from mopl_jax.estimators.ess import kish
from mopl_jax.intervals import Interval, clopper_pearson, ess_wilson, ess_wilson_skew
from mopl_jax.intervals.interval import supported
from mopl_jax.intervals.moments import Moments, moments
from mopl_jax.intervals.proportions import score, skewed_score
from mopl_jax.intervals.reward_range import within
from mopl_jax.io import storage
from mopl_jax.numerics import devices
from mopl_jax.numerics.student import student_quantile

RESULTS = Path(__file__).parent / "results"
STUDY = RESULTS.parent / "studies" / "stress.toml"
MOST = 2048  # rows of equal weight
SIZES, REPLICATES, ALPHA = (8, 32, 128, 512, 2048, 16384), 400, 0.05
HALVES = {"chosen on": ((1, 5, 20), 31), "held out": ((2, 10), 32)}


def _continuity(estimate, alpha):
    """Wilson's interval whose lower end starts half a click lower, as if each weighed 1/ESS."""
    less = jnp.maximum(estimate.value - 0.5 / kish(estimate.log_weight), 0)
    lower = ess_wilson(dataclasses.replace(estimate, value=less), alpha).lower
    return Interval(lower, ess_wilson(estimate, alpha).upper)


def _lower_only(estimate, alpha):
    return Interval(ess_wilson_skew(estimate, alpha).lower, ess_wilson(estimate, alpha).upper)


def _uncapped(estimate, alpha):
    """`ess_wilson_skew` with all of the skewness, also where a few heavy rows make it."""
    sums, v = moments(estimate), estimate.value
    df = jnp.where(supported(estimate), sums.df, 1)
    term = (jnp.square(student_quantile(alpha / 2, df)) - 1) / 6 * sums.cubic
    low, high = score(
        jnp.clip(v - (1 - 2 * v) * jnp.where(term < 1, term, 1), 0, 1), sums.kish, df, alpha
    )
    return within(estimate, low, high, (0.0, 1.0))


CANDIDATES = {
    "ess_wilson": ess_wilson,
    "ess_wilson, lower end half a click lower": _continuity,
    "ess_wilson, lower end of ess_wilson_skew": _lower_only,
    "ess_wilson_skew, uncapped": _uncapped,
    "ess_wilson_skew": ess_wilson_skew,
    "clopper_pearson": clopper_pearson,
}


@jax.jit
def _made(log_weights, rewards):
    """Limits (r, n, candidate), values and ESS (r, n) of a batch of logs."""

    def one(log):
        estimates = [snips(*(x[:n] for x in log)) for n in SIZES]
        ends = [[f(e, ALPHA) for f in CANDIDATES.values()] for e in estimates]
        stack = functools.partial(jax.tree.map, lambda *x: jnp.stack(x))
        facts = stack(*[(e.value, kish(e.log_weight)) for e in estimates])
        return stack(*[stack(*some) for some in ends]), *facts

    return jax.lax.map(one, (log_weights, rewards), batch_size=32)


def _cells(world, seed):
    """One row per target, n and candidate."""
    key, mesh = jax.random.fold_in(jax.random.key(seed), world.d), devices.one_device()
    keys = engine.batch_keys(key, 0, REPLICATES, mesh)
    action = engine.draw_batch(keys, world.logging, SIZES[-1], mesh)
    reward = engine.reward_batch(keys, world.environment, action, mesh)
    for name, target in world.targets.items():
        log_weights = engine.weigh_batch(target, world.logging, action, mesh)
        ends, values, sizes = jax.device_get(_made(log_weights, reward))
        truth, oracle = world.truth(name), 2 * 1.959964 * np.std(values.astype(float), axis=0)
        for (j, n), (i, candidate) in itertools.product(enumerate(SIZES), enumerate(CANDIDATES)):
            low, high = ends.lower[:, j, i], ends.upper[:, j, i]
            about = {
                "world": world.name,
                "d": world.d,
                "estimand": name,
                "n": n,
                "interval": candidate,
            }
            about |= {"ess_median": float(np.median(sizes[:, j])), "replicates": REPLICATES}
            about |= {
                "miss_above": float(np.mean(low > truth)),
                "miss_below": float(np.mean(high < truth)),
            }
            about["coverage"] = 1 - about["miss_above"] - about["miss_below"]
            yield about | {"width_ratio": float(np.median(high - low) / oracle[j])}


def main() -> None:
    """Run, store every cell, print both halves."""
    spec, rows = study.read(STUDY), []
    spec["world"] = [entry for entry in spec["world"] if entry["name"].startswith("bernoulli")]
    for world in study.build(spec).worlds:
        for half, (dimensions, seed) in HALVES.items():
            if world.d in dimensions:
                rows += [row | {"half": half} for row in _cells(world, seed)]
    storage.write_results(
        RESULTS / "clicks.parquet", rows, storage.provenance(study="stress.toml", sizes=SIZES)
    )
    report()


def report() -> None:
    """results/clicks.md from the stored cells with ESS ≥ 2."""
    rows = [r for r in storage.read_results(RESULTS / "clicks.parquet")[0] if r["ess_median"] >= 2]
    head = (
        "half",
        "interval",
        "cells",
        "below the aim",
        "worst",
        "lower end fails",
        "upper end fails",
    )
    head += ("width, ESS ≥ 50, 10 %", "1 %", "width, ESS < 10")
    lines = [f"| {' | '.join(head)} |", "| --- | --- |" + " --: |" * (len(head) - 2)]
    for half, name in itertools.product(HALVES, CANDIDATES):
        some = [r for r in rows if (r["half"], r["interval"]) == (half, name)]
        lines.append(f"| {half} | {name} | {_line(some)} |")
    text = "\n".join(lines) + f"\n\n{exact()}\n"
    (RESULTS / "clicks.md").write_text(text)
    print(text)


def exact() -> str:
    """Markdown: coverage with n equal weights, for n = 8 … 2,048 and click rates within a fifth of
    1 and 10 %.
    """
    head = ("equal weights", "rate", "mean coverage", "lowest", "share of (n, rate) below 0.94")
    lines = [f"| {' | '.join(head)} |", "| --- | --: |" + " --: |" * (len(head) - 2)]
    for (name, ends), rate in itertools.product(
        {"ess_wilson": score, "ess_wilson_skew": skewed_score}.items(), (0.01, 0.1)
    ):
        found = np.array(
            [
                _binomial(ends, n, rate * x)
                for n in range(8, MOST + 1, 6)
                for x in np.linspace(0.8, 1.2, 9)
            ]
        )
        lines.append(
            f"| {name} | {rate:.0%} | {found.mean():.3f} | {found.min():.3f} |"
            f" {np.mean(found < 0.94):.3f} |"
        )
    return "\n".join(lines)


def _binomial(ends, n, rate):
    """Exact coverage of a rate by n rows of equal weight."""
    low, high = _scores(ends, n)
    return stats.binom.pmf(np.arange(MOST + 1), n, rate)[(low <= rate) & (rate <= high)].sum()


@functools.cache
def _scores(ends, n):
    return [np.asarray(end, float) for end in _of_equal(ends, jnp.asarray(float(n)))]


@functools.partial(jax.jit, static_argnames="ends")
def _of_equal(ends, n):
    """Both ends for 0 … `MOST` clicks of n rows, those beyond n clicks unused."""
    shares = jnp.minimum(jnp.arange(MOST + 1) / n, 1)
    if ends is score:
        return score(shares, n, n - 1, ALPHA)
    return skewed_score(
        shares,
        cast(Moments, types.SimpleNamespace(kish=n, squared=1 / n, df=n - 1, cubic=1 / n)),
        ALPHA,
    )


def _line(some):
    wide = [
        _median([r for r in some if r["world"] == w and r["ess_median"] >= 50])
        for w in ("bernoulli_10", "bernoulli_1")
    ]
    ends = (
        np.mean([_too_often(r[side], 0.025, r) for r in some])
        for side in ("miss_above", "miss_below")
    )
    below = sum(_too_often(1 - r["coverage"], 1 - aim(r), r) for r in some)
    worst = min(r["coverage"] for r in some)
    few = _median([r for r in some if r["ess_median"] < 10])
    return f"{len(some)} | {below} | {worst:.3f} | " + " | ".join(
        [*(f"{x:.3f}" for x in ends), *wide, few]
    )


def _too_often(share, expected, row):
    """Whether a share of misses is above what is expected by more than two Monte-Carlo standard
    errors.
    """
    return share > expected + 2 * (expected * (1 - expected) / row["replicates"]) ** 0.5


def _median(rows):
    return f"{np.median([r['width_ratio'] for r in rows]):.3f}"


if __name__ == "__main__":
    main()

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
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _equal_weights, _study
from benchmarks._judge import below, bound_fails
from benchmarks._sweep import batch_keys, by_halves, logs_of
from mopl_jax.estimators import snips
from mopl_jax.estimators.ess import kish, supported
from mopl_jax.intervals import Interval, clopper_pearson, ess_wilson, ess_wilson_skew
from mopl_jax.intervals.moments import moments_of
from mopl_jax.intervals.reward_range import within
from mopl_jax.numerics.proportion import wilson_ends
from mopl_jax.numerics.student import student_quantile

SIZES = {"replicates": 400, "n": (8, 32, 128, 512, 2048, 16384), "d": (1, 5, 20, 2, 10)}
QUICK = {"replicates": 32, "n": (32, 512), "d": (1, 2)}
RESULTS = ("clicks", "clicks_exact")
ALPHA = 0.05
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
    sums, v = moments_of(estimate), estimate.value
    df = jnp.where(supported(estimate), sums.df, 1)
    term = (jnp.square(student_quantile(alpha / 2, df)) - 1) / 6 * sums.cubic
    shifted = jnp.clip(v - (1 - 2 * v) * jnp.where(term < 1, term, 1), 0, 1)
    low, high = wilson_ends(shifted, sums.kish, student_quantile(alpha / 2, df))
    return within(estimate, low, high, (0.0, 1.0))


CANDIDATES = {
    "ess_wilson": ess_wilson,
    "ess_wilson, lower end half a click lower": _continuity,
    "ess_wilson, lower end of ess_wilson_skew": _lower_only,
    "ess_wilson_skew, uncapped": _uncapped,
    "ess_wilson_skew": ess_wilson_skew,
    "clopper_pearson": clopper_pearson,
}


@functools.partial(jax.jit, static_argnames="sizes")
def _made(log_weights, rewards, sizes):
    """Limits (r, n, candidate), values and ESS (r, n) of a batch of logs."""
    stack = functools.partial(jax.tree.map, lambda *x: jnp.stack(x))

    def one(log):
        estimates = [snips(*(x[:n] for x in log)) for n in sizes]
        ends = [[f(e, ALPHA) for f in CANDIDATES.values()] for e in estimates]
        facts = stack(*[(e.value, kish(e.log_weight)) for e in estimates])
        return stack(*[stack(*some) for some in ends]), *facts

    return jax.lax.map(one, (log_weights, rewards), batch_size=32)


def run(options) -> Iterator[list[dict]]:
    """One row per half, world, target, n and candidate; then equal weights, exactly."""
    yield _candidates(options)
    yield list(_equal_weights.rows(ALPHA))


def _candidates(options):
    return by_halves(HALVES, lambda name: name.startswith("bernoulli"), _cells, options)


def _cells(world, seed, options) -> Iterator[dict]:
    keys = batch_keys(seed, world, options.replicates)
    for name, log_weight, reward in logs_of(world, keys, options.n[-1]):
        ends, values, sizes = jax.device_get(_made(log_weight, reward, options.n))
        truth, oracle = world.truth(name), 2 * 1.959964 * np.std(values.astype(float), axis=0)
        for (j, n), (i, candidate) in itertools.product(
            enumerate(options.n), enumerate(CANDIDATES)
        ):
            low, high = ends.lower[:, j, i], ends.upper[:, j, i]
            about = {"world": world.name, "d": world.d, "estimand": name, "n": n}
            about |= {"interval": candidate, "ess_median": float(np.median(sizes[:, j]))}
            above, under = float(np.mean(low > truth)), float(np.mean(high < truth))
            about |= {"replicates": options.replicates, "miss_above": above, "miss_below": under}
            about |= {"coverage": 1 - above - under}
            yield about | {"width_ratio": float(np.median(high - low) / oracle[j])}


def table(rows: list[dict], equal: list[dict]) -> str:
    """Each candidate on both halves, over cells with ESS ≥ 2; then equal weights, exactly."""
    head = ("half", "interval", "cells", "below the aim", "worst", "lower end fails")
    head += ("upper end fails", "width, ESS ≥ 50, 10 %", "1 %", "width, ESS < 10")
    groups = _study.grouped((r for r in rows if r["ess_median"] >= 2), "half", "interval")
    pairs = itertools.product(HALVES, CANDIDATES)
    lines = [[*pair, *_line(groups[pair])] for pair in pairs if pair in groups]
    return f"{_study.markdown(head, lines, 'llr')}\n\n{_equal_weights.table(equal)}"


def _line(some):
    many = _study.grouped((r for r in some if r["ess_median"] >= 50), "world")
    wide = [_median(many.get((world,), ())) for world in ("bernoulli_10", "bernoulli_1")]
    ends = [np.mean([bound_fails(r, s, ALPHA) for r in some]) for s in ("miss_above", "miss_below")]
    shares = [f"{x:.3f}" for x in (min(r["coverage"] for r in some), *ends)]
    few = [r for r in some if r["ess_median"] < 10]
    return [len(some), sum(map(below, some)), *shares, *wide, _median(few)]


def _median(rows):
    return f"{np.median([r['width_ratio'] for r in rows]):.3f}" if rows else ""

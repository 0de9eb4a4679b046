"""How cautious must `ess_skew` be? Its two constants, chosen on half of the worlds of the stress
study, tried on the other.

The rule: of the pairs whose median width over an oracle's stays at 1.10 or less, once ESS ≥ 50,
in every reward family of the first half (d = 1, 5, 20), the one with the fewest cells below the
aim. The second half (d = 2, 10) has other seeds.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from benchmarks._judge import below
from benchmarks._sweep import batch_keys, by_halves, logs_of
from mopl_jax.coverage import engine
from mopl_jax.estimators import snips
from mopl_jax.estimators.estimator import Columns, member
from mopl_jax.intervals import Wald
from mopl_jax.intervals.ess_corrected import ess_skew

SIZES = {"replicates": 400, "n": (8, 32, 128, 512, 2048), "d": (1, 5, 20, 2, 10)}
QUICK = {"replicates": 32, "n": (32, 128), "d": (1, 2)}
FAMILIES = (
    "linear",
    "quadratic",
    "cosine",
    "zero_inflated",
    "log_normal",
    "student_t3",
    "heteroscedastic",
)
HALVES = {"chosen on": ((1, 5, 20), 11), "held out": ((2, 10), 12)}
ESS_SCALE, SKEW_FACTOR = (0.0, 8.0, 16.0, 32.0, 64.0), (1.0, 1.5, 2.0)
GRID = tuple(itertools.product(ESS_SCALE, SKEW_FACTOR))
WIDEST = 1.10


@functools.partial(jax.jit, static_argnames="sizes")
def _sums(log_weight, reward, sizes):
    of_snips = member(snips)
    one = lambda x: engine.moments_at(sizes, Columns(x[1], (x[0],)), of_snips)  # noqa: E731
    return jax.lax.map(one, (log_weight, reward), batch_size=32)


@jax.jit
def _ends(sums):
    """Limits (pair, r, n) of all pairs of constants."""
    made = [
        Wald(functools.partial(ess_skew.formula, ess_scale=m, skew_factor=c))
        .at(sums)
        .interval(0.05)
        for m, c in GRID
    ]
    return jax.tree.map(lambda *x: jnp.stack(x), *made)


def run(options) -> list[dict]:
    """One row per half, world, target, n and pair."""
    return by_halves(HALVES, FAMILIES.__contains__, _cells, options)


def _cells(world, seed, options) -> Iterator[dict]:
    """One row per target, n and pair: coverage, width over the oracle's, ESS."""
    keys = batch_keys(seed, world, options.replicates)
    for name, log_weight, reward in logs_of(world, keys, options.n[-1]):
        sums = _sums(log_weight, reward, options.n)
        ends, truth = jax.device_get(_ends(sums)), world.truth(name)
        hit = np.mean((ends.lower <= truth) & (truth <= ends.upper), axis=1)
        oracle = 2 * 1.959964 * np.std(np.asarray(sums.value, float), axis=0)
        width = np.median(ends.upper - ends.lower, axis=1) / oracle
        size = np.median(sums.kish, axis=0)
        for (i, pair), (j, n) in itertools.product(enumerate(GRID), enumerate(options.n)):
            about = {"world": world.name, "d": world.d, "estimand": name, "n": n}
            about |= {"ess_median": float(size[j]), "ess_scale": pair[0], "skew_factor": pair[1]}
            about |= {"coverage": float(hit[i, j]), "width_ratio": float(width[i, j])}
            yield about | {"replicates": options.replicates}


def summary(rows: list[dict], families: tuple[str, ...] = FAMILIES) -> list[dict]:
    """Per half and pair: the share of cells with ESS ≥ 2 below the aim by two standard errors, the
    worst, the widths.
    """
    kept = [row for row in rows if row["ess_median"] >= 2 and row["world"] in families]
    cells = _study.grouped(kept, "half", "ess_scale", "skew_factor")
    return [_line(pair, some, families) for pair, some in sorted(cells.items())]


def _line(pair, some, families):
    many = _study.grouped((r for r in some if r["ess_median"] >= 50), "world")
    wide = [np.median([r["width_ratio"] for r in many.get((f,), ())]) for f in families]
    few = [r["width_ratio"] for r in some if r["ess_median"] < 10]
    return dict(zip(("half", "ess_scale", "skew_factor"), pair, strict=True)) | {
        "cells": len(some),
        "below": float(np.mean([below(r) for r in some])),
        "worst": min(r["coverage"] for r in some),
        "width": float(max(wide)),
        "width_few": float(np.median(few)),
    }


def choice(rows: list[dict], families: tuple[str, ...] = FAMILIES) -> tuple[float, float]:
    """The pair that the rule takes, from the half that it is chosen on."""
    first = [line for line in summary(rows, families) if line["half"] == "chosen on"]
    fitting = [line for line in first if line["width"] <= WIDEST] or first
    best = min(fitting, key=lambda line: (line["below"], line["width_few"]))
    return best["ess_scale"], best["skew_factor"]


def left_out(rows: list[dict]) -> Iterator[dict]:
    """Each family judged, in the held-out half, with the pair that the other families choose."""
    for family in FAMILIES:
        pair = choice(rows, tuple(f for f in FAMILIES if f != family))
        for line in summary(rows, (family,)):
            if (line["half"], line["ess_scale"], line["skew_factor"]) == ("held out", *pair):
                yield {"family": family} | line


def table(rows: list[dict]) -> str:
    """Every pair on both halves, the chosen one marked; then each family left out."""
    best = choice(rows)
    head = ("ess_scale", "skew_factor", "cells", "below the aim", "worst", "width, ESS ≥ 50")
    marks = {True: "chosen", False: ""}
    pairs = [
        [*_cells_of("half", x), f"{x['width_few']:.2f}", marks[best == _pair(x)]]
        for x in summary(rows)
    ]
    first = _study.markdown(("half", *head, "width, ESS < 10", ""), pairs, "lrrrrrrrl")
    second = _study.markdown(("family", *head), (_cells_of("family", x) for x in left_out(rows)))
    return (
        f"{first}\n\nEach family in the held-out half, with what the rule chooses on the other"
        f" families:\n\n{second}"
    )


def _pair(line):
    return line["ess_scale"], line["skew_factor"]


def _cells_of(key, line):
    shares = [f"{line[name]:.3f}" for name in ("below", "worst", "width")]
    return [line[key], *(f"{x:g}" for x in _pair(line)), line["cells"], *shares]

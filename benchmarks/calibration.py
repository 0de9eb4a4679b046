"""How cautious must `ess_skew` be? Its two constants, chosen on half of the worlds of the study of
differences, tried on the other.

Values of policies and differences of them. The rule: of the pairs that fail in at most 1 % of
cells, and whose ends, as bounds, fail in at most 5 % of those with 50 effective rows or more, the
one with the smallest median width from five effective rows on. The second half (d = 2, 10) has
other seeds, and families of another structure.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from benchmarks._judge import below, bound_fails
from benchmarks._sweep import batch_keys, by_halves, logs_of
from mopl_jax.coverage import engine
from mopl_jax.estimators.estimator import Columns
from mopl_jax.intervals import Wald
from mopl_jax.intervals.ess_corrected import ess_skew

SIZES = {"replicates": 400, "n": (8, 32, 128, 512, 2048), "d": (1, 5, 2, 10)}
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
OTHER = ("saturating", "rare_revenue")
HALVES = {"chosen on": ((1, 5), 11), "held out": ((2, 10), 12)}
FEW_TERMS, STRETCH = (4.0, 8.0, 16.0, 32.0, 64.0), (0.0, 1.0, 1.5, 2.0, 3.0)
GRID = tuple(itertools.product(FEW_TERMS, STRETCH))
MOST_BELOW, MOST_MISSED = 0.01, 0.05  # of cells


@functools.partial(jax.jit, static_argnames="sizes")
def _sums(log_weights, reward, sizes):
    of_log = engine.member_of("snips", (None,) * len(log_weights))
    one = lambda x: engine.moments_at(sizes, Columns(x[1], x[0]), of_log)  # noqa: E731
    return jax.lax.map(one, (log_weights, reward), batch_size=32)


@jax.jit
def _ends(sums):
    """Limits (pair, r, n) of all pairs of constants."""
    made = [
        Wald(functools.partial(ess_skew.formula, few_terms=m, stretch=c)).at(sums).interval(0.05)
        for m, c in GRID
    ]
    return jax.tree.map(lambda *x: jnp.stack(x), *made)


def run(options) -> list[dict]:
    """One row per half, world, estimand, n and pair."""
    return by_halves(HALVES, (*FAMILIES, *OTHER).__contains__, _cells, options, "differences")


def _cells(world, seed, options) -> Iterator[dict]:
    """One row per estimand, n and pair: coverage, width over the oracle's, ESS."""
    keys = batch_keys(seed, world, options.replicates)
    logs = {name: rest for name, *rest in logs_of(world, keys, options.n[-1])}
    for estimand, names in world.estimands.items():
        log_weights, reward = tuple(logs[name][0] for name in names), logs[names[0]][1]
        sums = _sums(log_weights, reward, options.n)
        ends, truth = jax.device_get(_ends(sums)), world.truth(estimand)
        missed = np.mean(ends.lower > truth, axis=1), np.mean(ends.upper < truth, axis=1)
        oracle = 2 * 1.959964 * np.std(np.asarray(sums.value, float), axis=0)
        width = np.median(ends.upper - ends.lower, axis=1) / oracle
        size = np.median(sums.kish, axis=0)
        for (i, pair), (j, n) in itertools.product(enumerate(GRID), enumerate(options.n)):
            about = {"world": world.name, "d": world.d, "estimand": estimand, "n": n}
            about |= {"ess_median": float(size[j]), "few_terms": pair[0], "stretch": pair[1]}
            above, under = (float(side[i, j]) for side in missed)
            about |= {"miss_above": above, "miss_below": under, "coverage": 1 - above - under}
            about |= {"width_ratio": float(width[i, j]), "replicates": options.replicates}
            yield about


def summary(rows: list[dict], families: tuple[str, ...] = FAMILIES) -> list[dict]:
    """Per half and pair: the share of cells with ESS ≥ 2 below the aim by two standard errors, the
    worst, the widths.
    """
    kept = [row for row in rows if row["ess_median"] >= 2 and row["world"] in families]
    cells = _study.grouped(kept, "half", "few_terms", "stretch")
    return [_line(pair, some) for pair, some in sorted(cells.items())]


def _line(pair, some):
    few, many = (
        [r for r in some if low <= r["ess_median"] < high] for low, high in ((5, 10), (50, np.inf))
    )
    missed = {
        side: float(np.mean([bound_fails(r, side) for r in many]))
        for side in ("miss_above", "miss_below")
    }
    widths = [r["width_ratio"] for r in some if r["ess_median"] >= 5]
    return dict(zip(("half", "few_terms", "stretch"), pair, strict=True)) | {
        "cells": len(some),
        "below": float(np.mean([below(r) for r in some])),
        "worst": min(r["coverage"] for r in some),
        **missed,
        "width": float(np.median(widths)),
        "width_few": float(np.median([r["width_ratio"] for r in few])) if few else np.nan,
        "width_many": float(np.median([r["width_ratio"] for r in many])) if many else np.nan,
    }


def choice(rows: list[dict], families: tuple[str, ...] = FAMILIES) -> tuple[float, float]:
    """The pair that the rule takes, from the half that it is chosen on."""
    first = [line for line in summary(rows, families) if line["half"] == "chosen on"]
    fitting = [line for line in first if _fits(line)] or first
    best = min(fitting, key=lambda line: line["width"])
    return best["few_terms"], best["stretch"]


def _fits(line):
    missed = max(line["miss_above"], line["miss_below"])
    return line["below"] <= MOST_BELOW and missed <= MOST_MISSED


def left_out(rows: list[dict]) -> Iterator[dict]:
    """Each family judged, in the held-out half, with the pair that the other families choose."""
    for family in FAMILIES:
        pair = choice(rows, tuple(f for f in FAMILIES if f != family))
        for line in summary(rows, (family,)):
            if (line["half"], line["few_terms"], line["stretch"]) == ("held out", *pair):
                yield {"family": family} | line


def _other(rows):
    """The families of another structure with the chosen pair, in the held-out half."""
    best = choice(rows)
    for family in OTHER:
        for line in summary(rows, (family,)):
            if (line["half"], *_pair(line)) == ("held out", *best):
                yield {"family": family} | line


def table(rows: list[dict]) -> str:
    """Every pair on both halves, the chosen one marked; then each family left out, and others."""
    best = choice(rows)
    ends = ("lower end fails", "upper end fails")
    widths = ("width, ESS ≥ 5", "5–10", "≥ 50")
    head = ("few_terms", "stretch", "cells", "below the aim", "worst", *ends, *widths)
    marks = {True: "chosen", False: ""}
    pairs = [[*_cells_of("half", x), marks[best == _pair(x)]] for x in summary(rows)]
    first = _study.markdown(("half", *head, ""), pairs, "lrrrrrrrrrrl")
    second = _study.markdown(("family", *head), (_cells_of("family", x) for x in left_out(rows)))
    third = _study.markdown(("family", *head), (_cells_of("family", x) for x in _other(rows)))
    return (
        f"{first}\n\nEach family in the held-out half, with what the rule chooses on the other"
        f" families:\n\n{second}\n\nFamilies of another structure, held out:\n\n{third}"
    )


def _pair(line):
    return line["few_terms"], line["stretch"]


def _cells_of(key, line):
    shares = [f"{line[name]:.3f}" for name in ("below", "worst", "miss_above", "miss_below")]
    widths = [f"{line[name]:.2f}" for name in ("width", "width_few", "width_many")]
    return [line[key], *(f"{x:g}" for x in _pair(line)), line["cells"], *shares, *widths]

"""Does one more click, or half of one, mend the upper end of rates that depend on the weights?

Where clicks are rare the far end of `recommended` misses too often, as the heavy clicks that
decide may not be in the log. Fay and Feuer (Statistics in Medicine 1997) bound a weighted sum of
Poisson counts by a gamma quantile with one more count of the largest weight. Here the mean v of
SNIPS is raised by κ c and its variance by (κ c (1 − v))², c a row's weight: the largest, max p, or
Σp³/Σp², that of a typical term; the far end is the larger of that quantile and today's, for values
above a half mirrored. Clicks of `_click_worlds` and five worlds more choose, those held out
report. An end fails as in `_judge`; widths are over those of today on the same logs.
"""

from collections.abc import Iterator

import jax
import numpy as np
from scipy import stats

from benchmarks import _click_worlds, _study
from benchmarks._click_worlds import LAPLACE, arms, gaussian, logit, step
from benchmarks._judge import bound_fails
from benchmarks.click_rates import ALPHA, HALVES, _drawn, _limits

SIZES = {"n": (256, 1024), "replicates": 1024, "every": 3}
QUICK = {"n": (64,), "replicates": 32, "every": 30}
CANDIDATES = {
    "today": (0.0, "max_p"),
    "half a click of the largest weight": (0.5, "max_p"),
    "one of the largest weight": (1.0, "max_p"),
    "half a click of typical weight": (0.5, "cubic"),
    "one of typical weight": (1.0, "cubic"),
}


def _worlds(every: int) -> list:
    """All that are held out, and of the others one of so many, with five invented ones."""
    clicks = [world for world in _click_worlds.worlds() if world.family == "clicks"]
    first, held = ([x for x in clicks if x.half == half] for half in HALVES)
    return first[::every] + _invented() + held


def _invented() -> list:
    steep = logit(-3.5, 1.2)
    return [
        arms(HALVES[0], (0.004, 0.03), (0.93, 0.07), (0.4, 0.6)),
        arms(HALVES[0], (0.03, 0.004), (0.93, 0.07), (0.4, 0.6)),
        arms(HALVES[0], (0.01, 0.3), (0.9, 0.1), (0.5, 0.5)),
        gaussian(HALVES[0], "clicks", "step up, d = 2", (2, 0.4, 0.65), step(0.01, 0.15)),
        gaussian(HALVES[0], "clicks", "σ(−3.5+1.2z)", (1, 0.8, 0.7), steep, logger=LAPLACE),
    ]


def run(options) -> list[dict]:
    """One row for each world, size and candidate."""
    return [
        row
        for number, world in enumerate(_worlds(options.every))
        for n, drawn in _drawn(number, world, options.n, options.replicates).items()
        for row in _cells(world, n, drawn)
    ]


def _cells(world, n, drawn) -> Iterator[dict]:
    sums, ends = drawn[0], jax.device_get(_limits(*drawn))["recommended"]
    for name, (share, weight) in CANDIDATES.items():
        lower, upper = _moved(sums, ends, share, np.asarray(getattr(sums, weight), float))
        yield {
            "half": world.half,
            "world": world.name,
            "n": n,
            "interval": name,
            "replicates": len(upper),
            "ess_median": float(np.median(sums.kish)),
            "miss_above": float(np.mean(lower > world.truth)),
            "miss_below": float(np.mean(upper < world.truth)),
            "width": float(np.median(upper - lower) / np.median(ends.upper - ends.lower)),
        }


def _moved(sums, ends, share, weight):
    """The ends with the one that is far from a rare outcome moved out."""
    value, variance = (np.asarray(x, float) for x in (sums.value, sums.exact))
    rare = np.minimum(value, 1 - value)
    far = _gamma(rare + share * weight, variance + np.square(share * weight * (1 - rare)))
    far = np.minimum(far, 1) if share else np.zeros_like(rare)
    upper = np.where(value < 0.5, np.maximum(ends.upper, far), ends.upper)
    return np.where(value < 0.5, ends.lower, np.minimum(ends.lower, 1 - far)), upper


def _gamma(mean, variance):
    mean, variance = np.maximum(mean, 1e-12), np.maximum(variance, 1e-24)
    return stats.gamma.ppf(1 - ALPHA / 2, mean**2 / variance, scale=variance / mean)


def table(rows: list[dict]) -> str:
    """By half and candidate, of cells with two effective rows."""
    kept = [row for row in rows if row["ess_median"] >= 2]
    head = ("half", "far end", "cells", "upper end fails", "most missed", "lower end fails")
    head += ("width", "95 % of cells", "widest")
    groups = _study.grouped(kept, "half", "interval").items()
    return _study.markdown(head, ([*key, *_line(some)] for key, some in groups), "llr")


def _line(rows):
    upper, lower = (
        np.mean([bound_fails(row, side) for row in rows]) for side in ("miss_below", "miss_above")
    )
    width = [row["width"] for row in rows]
    shown = upper, max(row["miss_below"] for row in rows), lower
    shown += np.median(width), np.quantile(width, 0.95), max(width)
    return [len(rows), *(f"{x:.3f}" for x in shown)]

"""Do bounds at 95 % hold, each end of `recommended` alone, as a certified gain uses one?

The worlds and targets of the stress study in d = 1, 5 at alpha = 0.1, so that each end is a bound
at 95 %, and the values and differences of the study of differences.
"""

import tomllib
from typing import Any

import numpy as np

from benchmarks import _coverage, _study
from benchmarks._judge import answerable, bound_fails, family
from benchmarks._stress_tables import of, reach

SIZES = {"replicates": 500, "n": "16,64,256,1024,4096"}
QUICK = {"replicates": 8, "n": "16,64"}
RESULTS = ("one_side", "one_side_differences")
ALPHA, LEAST = 0.1, 50  # effective rows, from which on an end is asked to hold


def run(options):
    """The rows of both maps."""
    for name in ("stress", "differences"):
        yield _coverage.swept(_at_level(name), options.replicates, options.n)


def _at_level(name) -> dict[str, Any]:
    """A stored study, at this level, in two dimensions."""
    study = tomllib.loads((_study.STUDIES / f"{name}.toml").read_text())
    worlds = [world | {"d": [1, 5]} for world in study["world"]]
    return study | {"alpha": ALPHA, "intervals": ["recommended"], "world": worlds}


def table(values: list[dict], both: list[dict]) -> str:
    """By family and by what is estimated, from fifty effective rows on."""
    inside = [row for row in _kept(values) if reach(row) == "within"]
    beyond = [row for row in _kept(values) if reach(row) != "within"]
    groups = {"within the logger's reach": inside, "beyond it": beyond}
    groups |= {
        f"within, {name}": [x for x in inside if family(x) == name] for name in _families(inside)
    }
    groups |= {
        "values of the study of differences": [x for x in _kept(both) if not _is_difference(x)]
    }
    groups |= {"differences": [x for x in _kept(both) if _is_difference(x)]}
    head = ("cells with ESS ≥ 50", "cells", "lower end fails", "worst", "upper end fails", "worst")
    lines = [[name, len(some), *_missed(some)] for name, some in groups.items() if some]
    return _study.markdown(head, lines)


def _kept(rows):
    return [row for row in of(answerable(rows), "recommended") if row["ess_median"] >= LEAST]


def _families(rows):
    return dict.fromkeys(map(family, rows))


def _is_difference(row):
    return " - " in row["estimand"]


def _missed(rows):
    for side in ("miss_above", "miss_below"):
        yield f"{np.mean([bound_fails(row, side, ALPHA) for row in rows]):.3f}"
        yield f"{max(row[side] for row in rows):.3f}"

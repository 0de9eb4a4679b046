"""What does calibration to the target's mean and covariance save? SNIPS and `calibrated` on the
same logs, with the same intervals.

The nine families of the stress study in d = 1 and 5 chose the constants of
`estimators.calibration`; d = 2 and 10, and worlds of another structure (what the reward depends on,
how steeply, pooled loggers, mixtures as targets), are held out. Width is the ratio of the two
median widths on the same logs, over cells with twelve effective rows or more; the standard
deviation likewise. A second file has what any model could save: the standard deviation of SNIPS of
r − E[r | a] over that of SNIPS, √(E w²(r−E[r|a])² / E w²(r−V)²), by simulation of the target.
"""

import math

import jax
import numpy as np

from benchmarks import _coverage, _study
from benchmarks._judge import APART, below, bound_fails, family
from benchmarks._stress_tables import reach
from mopl_jax.coverage import study

SIZES = {"replicates": 0, "n": "", "d": (1, 2, 3, 5, 8, 10)}  # none: as the study says
SIZES |= {"draws": 200_000}
QUICK = {"replicates": 8, "n": "64", "d": (1,), "draws": 1000}
RESULTS = ("calibrated", "calibrated_limit")
ENOUGH, WIDER = 12, 1.05
HALVES = ("chosen on", "held out", "another structure")
STRESS = ("linear", "quadratic", "cosine", "bernoulli_10", "bernoulli_1", "zero_inflated")
STRESS += ("log_normal", "student_t3", "heteroscedastic")


def run(options):
    """One row for each world, target, n, estimator and interval; then one for each target."""
    spec = study.read(_study.STUDIES / "calibrated.toml")
    for world in spec["world"]:
        world["d"] = [d for d in world["d"] if d in options.d]
    spec["world"] = [world for world in spec["world"] if world["d"]]
    yield _coverage.swept(spec, options.replicates, options.n)
    yield limits(study.build(spec).worlds, options.draws)


def limits(worlds, draws: int) -> list[dict]:
    """The least ratio of standard deviations that a model of the rewards can have, by target."""
    return [
        {"world": world.name, "d": world.d, "estimand": name, "limit": _limit(world, name, draws)}
        for world in worlds
        for name in world.targets
    ]


def _limit(world, name, draws):
    """By pairs of rewards of one action, of the target: E[w f] under it is E[w²f] of the log."""
    target, truth = world.targets[name], float(world.environment.policy_value(world.targets[name]))
    keys = [jax.random.split(jax.random.key(seed), draws) for seed in range(3)]
    action = jax.vmap(target.sample)(keys[0])
    log_weight = jax.vmap(target.log_density)(action) - jax.vmap(world.logging.log_density)(action)
    weight = np.where(np.isfinite(log_weight), np.exp(np.asarray(log_weight, float)), 0)  # in a box
    draw = jax.vmap(world.environment.sample_reward)
    one, other = (np.asarray(draw(key, action), float) for key in keys[1:])
    whole = weight @ (np.square(one - truth) + np.square(other - truth))
    return min(1.0, math.sqrt(weight @ np.square(one - other) / whole)) if whole else 1.0


def table(rows: list[dict], limits: list[dict]) -> str:
    """Each interval by half, by family, and by reach; then what any model could save."""
    pairs = _pairs(rows)
    head = ("cells", "fails, SNIPS", "calibrated", "worst, SNIPS", "calibrated")
    head += ("lower end fails, SNIPS", "calibrated", "upper end fails, SNIPS", "calibrated")
    head += ("width", "cells wider by 5 %", "standard deviation", "its largest")
    keys = {
        "half": lambda row: f"{half(row)}, {row['interval']}",
        "reach": lambda row: f"{half(row)}, {reach(row)}, {row['interval']}",
        "family": lambda row: f"{family(row)}, {row['interval']}",
        "ESS": lambda row: f"{_bin(row)}, {row['interval']}",
    }
    tables = [
        _study.markdown((name, *head), _lines(pairs, key), "l" + "r" * len(head))
        for name, key in keys.items()
    ]
    return "\n\n".join([*tables, _of_limits(pairs, limits)])


def _of_limits(pairs, limits):
    """Over the cells that the widths are of."""
    least = {(row["world"], row["d"], row["estimand"]): row["limit"] for row in limits}
    many = [x for x in pairs if x[0]["ess_median"] >= ENOUGH and x[0]["interval"] == "recommended"]
    kinds = (lambda row: half(row), lambda row: f"{half(row)}, {family(row)}")
    lines = []
    for kind in kinds:
        for name in sorted({kind(pair[0]) for pair in many}, key=_place):
            some = [pair for pair in many if kind(pair[0]) == name]
            known = [least[x["world"], x["d"], x["estimand"]] for x, _ in some]
            medians = (_median(known), _median(_ratios(some, "median_width")))
            lines.append((name, len(some), *medians))
    head = ("recommended, ESS ≥ 12", "cells", "any model", "calibrated")
    return _study.markdown(head, lines)


def half(row: dict) -> str:
    """The half of the worlds that a row belongs to."""
    if family(row) not in STRESS:
        return HALVES[2]
    return HALVES[0] if row["d"] in (1, 5) else HALVES[1]


def _bin(row):
    edges = (2, 5, 12, 50, 250)
    low = max(edge for edge in edges if row["ess_median"] >= edge)
    return f"ESS ≥ {low:3}"


def _pairs(rows):
    """SNIPS and calibrated of each cell with two effective rows."""
    columns = ("world", "d", "estimand", "n", "interval")
    kept = [row for row in rows if row["ess_median"] >= 2 and row["world"] not in APART]
    kept = [row for row in kept if "unsmoothed" not in row["estimand"]]
    groups = _study.grouped(kept, *columns).values()
    return [
        tuple(
            next(row for row in some if row["estimator"] == name)
            for name in ("snips", "calibrated")
        )
        for some in groups
    ]


def _lines(pairs, key):
    groups = _study.grouped(({"key": key(pair[0]), "pair": pair} for pair in pairs), "key")
    order = sorted(groups, key=lambda name: _place(name[0]))
    return [[*name, *_line([each["pair"] for each in groups[name]])] for name in order]


def _place(name):
    return next((i for i, half in enumerate(HALVES) if name.startswith(half)), 0), name


def _line(pairs):
    each = list(zip(*pairs, strict=True))
    failed = [f"{np.mean(list(map(below, some))):.3f}" for some in each]
    worst = [f"{min(row['coverage'] for row in some):.3f}" for some in each]
    ends = [
        f"{np.mean([bound_fails(row, side) for row in some]):.3f}"
        for side in ("miss_above", "miss_below")
        for some in each
    ]
    many = [pair for pair in pairs if pair[0]["ess_median"] >= ENOUGH]
    width, deviation = (_ratios(many, name) for name in ("median_width", "oracle_width"))
    wider = f"{np.mean(width > WIDER):.3f}" if many else ""
    largest = f"{deviation.max():.2f}" if many else ""
    return [len(pairs), *failed, *worst, *ends, _median(width), wider, _median(deviation), largest]


def _ratios(pairs, name):
    found = np.array([made[name] / plain[name] for plain, made in pairs])
    return found[np.isfinite(found)]


def _median(values):
    return f"{np.median(values):.3f}" if len(values) else ""

"""Is a relation that changes half-way noticed, and could it be?

Histories of `benchmarks/_history.py`'s platform whose North Star follows other drivers in the later
half of the tests, wholly or in part; and histories in which all else changes: later tests of four
times the users, or of twice the effects. Rejections at 5 and 2 % of

*scores*: `mopl_jax.metrics.drift`, which is not told when, nor what changes.
*rates*: what a unit of the `gls` metric is worth in the earlier and the later half, a difference of
ratios of sums, by Student's t.
*oracle*: knows the time, the drivers, their sizes and the direction of the change; it estimates how
the North Star followed the drivers before, and how far it went in that direction.
"""

import itertools
from typing import Any

import jax
import numpy as np
from scipy import stats

from benchmarks import _history, _study
from benchmarks._history import LATER, RESPONSE
from mopl_jax.metrics import drift, objectives

SIZES = {
    "experiments": (20, 40, 80, 160, 320, 640),
    "amounts": (0.0, 0.25, 0.5, 1.0),
    "histories": 400,
}
QUICK = {"experiments": (20,), "amounts": (0.0, 1.0), "histories": 4}
ELSE = {"later users × 4": (4, 1), "later effects × 2": (1, 2)}  # factors on users and effects
DRIVERS = 0.6e-2**2 * 5 / 3 * np.eye(4)  # variance of Student's t with 5 degrees of freedom
LEVELS = (0.05, drift.LEVEL)
TESTS = ("scores", "rates", "oracle")


def run(options) -> list[dict[str, Any]]:
    """A row for each kind of change and number of tests."""
    jax.config.update("jax_enable_x64", True)
    kinds = [(f"{amount:.0%}", amount, 1, 1) for amount in options.amounts]
    kinds += [(name, 0.0, *factors) for name, factors in ELSE.items()]
    cells = itertools.product(kinds, options.experiments)
    return [_row(name, size, options.histories, *how) for (name, *how), size in cells]


def _row(name, size, count, *how):
    p = np.array([_p_values(size, number, *how) for number in range(count)])
    row = {"change": name, "experiments": size, "histories": count}
    for test, values in zip(TESTS, p.T, strict=True):
        row |= {f"{test}_{level:g}": float(np.mean(values < level)) for level in LEVELS}
    return row


def _p_values(size, number, amount, users, effects):
    past = _past(np.random.default_rng([11, number]), size, amount, users, effects)
    metric = np.asarray(objectives.learn(past))
    known = _oracle(past) if users == effects == 1 else 1.0
    return drift.drift(metric, past).p_value, _of_rates(metric, past), known


def _past(rng, size, amount, users, effects):
    """A history whose later half differs so."""
    drawn, later = _history.draw(rng, size), np.arange(size) >= size // 2
    drivers = np.linalg.lstsq(RESPONSE, drawn["effect"].T, rcond=None)[0].T
    effect = drawn["effect"] * np.where(later, effects, 1)[:, None]
    effect[:, -1] += np.where(later, amount * drivers @ (LATER - RESPONSE[-1]), 0)
    scale = np.where(later, users, 1)
    noise = (drawn["estimate"] - drawn["effect"]) / np.sqrt(scale)[:, None]
    made = {"users": drawn["users"] * scale, "effect": effect, "estimate": effect + noise}
    return _history.history(drawn | made | {"sign": _labels(effect[:, -1], drawn["null"])})


def _labels(north, null):
    """Those of the history: of the larger half of the effects."""
    large = np.abs(north) > np.quantile(np.abs(north[~null]), 1 - _history.KNOWN)
    return np.where(~null & large, np.sign(north), 0.0)


def _of_rates(weights, past):
    """The p-value of the difference of two rates; influences differ widely: Satterthwaite's."""
    index = np.asarray(past.experiment)
    later = index >= (index.max() + 1) // 2
    (before, variance, df), (after, other, more) = (
        _rate(*drift.rate_terms(weights, past, some)) for some in (~later, later)
    )
    freedom = (variance + other) ** 2 / (variance**2 / df + other**2 / more)
    return 2 * stats.t.sf(abs(after - before) / np.sqrt(variance + other), freedom)


def _rate(above, below, _):
    if not below.sum() > 0:
        return np.nan, np.nan, np.nan
    rate = above.sum() / below.sum()
    square = np.square((above - rate * below) / below.sum())
    variance = square.sum() * square.size / max(square.size - 1, 1)
    return rate, variance, square.sum() ** 2 / np.square(square).sum()


def _oracle(past):
    """y, less its noise that x shares, on what x says of the drivers, and on that again in the
    direction of the change, of later tests.
    """
    some = ~np.asarray(past.null)
    effect, noise = np.asarray(past.effect)[some], np.asarray(past.covariance)[some]
    later = (np.arange(some.size) >= some.size // 2)[some]
    to_x, star = DRIVERS @ RESPONSE[:-1].T, RESPONSE[-1]
    inverse = np.linalg.inv(RESPONSE[:-1] @ to_x + noise[:, :-1, :-1])
    shared = noise[:, :-1, -1]
    seen = np.einsum("eij,ej->ei", inverse, effect[:, :-1])
    outcome = effect[:, -1] - np.sum(shared * seen, axis=1)
    told = star @ to_x + shared  # covariance of y and x
    left = star @ DRIVERS @ star + noise[:, -1, -1]
    root = np.sqrt(left - np.einsum("ei,eij,ej->e", told, inverse, told))
    drivers = seen @ to_x.T
    moved = np.where(later, drivers @ (LATER - star), 0)
    design = np.column_stack([drivers, moved]) / root[:, None]
    covariance = np.linalg.inv(design.T @ design)
    z = (covariance @ design.T @ (outcome / root))[-1] / np.sqrt(covariance[-1, -1])
    return 2 * stats.norm.sf(abs(z))


def table(rows: list[dict]) -> str:
    """Rejections, by change, test and level."""
    sizes = dict.fromkeys(row["experiments"] for row in rows)
    lines = [
        (change, test, f"{level:.0%}", *(f"{row[f'{test}_{level:g}']:.1%}" for row in some))
        for (change,), some in _study.grouped(rows, "change").items()
        for test, level in itertools.product(TESTS, LEVELS)
        if test != "oracle" or change not in ELSE
    ]
    head = ("change of the relation", "test", "level", *(f"{size} tests" for size in sizes))
    return _study.markdown(head, lines, "lllr")

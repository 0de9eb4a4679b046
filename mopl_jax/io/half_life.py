"""The half-life of a log, chosen by how well its surfaces predict the rows that came next.

The log is cut into periods of equal length. For each half-life the quadratic surface of all earlier
periods, weighed by their age, predicts the rewards of the next one but for a constant; that whose
squared errors add up to the least is taken (prequential: Dawid, JRSS A 1984). Of a surface
that stays that is none. Values of policies would be noisier judges than surfaces are, and depend on
which policies are tried (`benchmarks/next_week.py` has both).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from mopl_jax.numerics import quadratic

PERIODS = 16
HALF_LIVES = math.inf, 8.0, 4.0, 2.0, 1.0, 0.5  # in periods; of two that are alike the longer one
RIDGE = 1e-3  # of a feature's mean square

Sums = Float[np.ndarray, "p f f"]


def chosen_half_life(rows: Callable[[], Iterable[Any]]) -> float:
    """The half-life, in the unit of the times; ∞ where older rows are as good as later ones.

    `rows()` are blocks with `time` (m,), `action` (m, d) and `reward` (m,), the same each time.
    """
    parts = [(x.time.min(), x.time.max(), x.action.std(axis=0), x.reward.mean()) for x in rows()]
    first, last = min(x[0] for x in parts), max(x[1] for x in parts)
    unit, level = np.max([x[2] for x in parts], axis=0), parts[0][3]
    length = (last - first) / PERIODS
    sums: Any = 0.0
    for block in rows():
        z = block.action / np.where(unit > 0, unit, 1)
        left = (block.reward - level)[:, None]
        columns = np.concatenate([quadratic.few_features(z), left], axis=1)
        period = np.minimum((block.time - first) / length, PERIODS - 1).astype(int)
        sums = sums + np.stack([_square(columns[period == k]) for k in range(PERIODS)])
    errors = [sum(_errors(_centred(sums), half_life)) for half_life in HALF_LIVES]
    return HALF_LIVES[int(np.argmin(errors))] * length


def _square(x):
    return x.T @ x


def _centred(sums: Sums) -> Sums:
    """Products of features and rewards less their means in each period, which has a level of its
    own.
    """
    count = np.maximum(sums[:, :1, :1], 1)
    return sums[:, 1:, 1:] - sums[:, 1:, :1] * sums[:, :1, 1:] / count


def _errors(sums: Sums, half_life: float):
    """Of each period but the first, by a surface of those before, less Σ r²."""
    for k in range(1, PERIODS):
        age = np.arange(k)[::-1]
        past = np.tensordot(0.5 ** (age / half_life), sums[:k], 1)
        gram = past[:-1, :-1]
        ridge = RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
        found = np.linalg.lstsq(gram + ridge, past[:-1, -1], rcond=None)[0]
        yield found @ sums[k, :-1, :-1] @ found - 2 * found @ sums[k, :-1, -1]

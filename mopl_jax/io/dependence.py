"""Whether the actions that one policy drew go along with a column.

Drawn by one policy for all rows, actions are independent of whatever was known before them. With x
a number's rank or an indicator of a level, and u the rank of a weight, or the rank of its distance
from the middle, or an indicator of one of a few values, all centred,

    t = Σ_j S_j / √max(Σ_j S_j², V),   S_j = Σ_i xᵢuᵢ over the rows of user j,

where V = Σ xᵢ² · mean(u²) is the variance of independent rows. Asked is the largest |t|, with
Bonferroni's correction. Ranks are bounded and symmetric, so that such sums over their own size have
no heavier tails than normal ones (de la Peña, Lai & Shao 2009); V keeps few rows of a level, which
happen to be alike, from deciding.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mopl_jax.policies.contextual import Levels

FEW = 32  # values of a weight up to which each is one of its own
MOST = 20  # levels of a column that are told apart, the most frequent ones

Numbers = Float[np.ndarray, " n"]


def dependence(
    action: Float[np.ndarray, "n d"],
    column: Numbers | Levels,
    unit: Int[np.ndarray, " n"] | None = None,
    part: Int[np.ndarray, " n"] | None = None,
    rows_each: Numbers | None = None,
) -> float:
    """The p-value of no dependence of actions on a column of levels or of numbers, NaN where one is
    missing.

    `unit`: users, whose rows may depend on one another, or have one action
    `part`: logs of several policies that are pooled, within each of which it is asked
    `rows_each`: how many rows each row speaks for
    """
    part = np.zeros(len(action), int) if part is None else part
    rows_each = np.ones(len(action)) if rows_each is None else rows_each
    x = _centred(_of_column(column, part), part, rows_each) * rows_each[:, None]
    u = _centred(_of_action(action, part), part, rows_each)
    if unit is not None:
        first, same = first_of_each(action, unit)
        unit = np.unique(unit, return_inverse=True)[1]
        if same:  # a user has one draw
            x, u, unit = _by_unit(x, unit), u[first], None
    total, variance = x.T @ u, np.square(x).sum(axis=0)[:, None] * np.square(u).mean(axis=0)
    t = total / np.sqrt(np.maximum(np.maximum(_squares(x, u, unit), variance), 1e-300))
    return min(1.0, math.erfc(float(np.abs(t).max()) / math.sqrt(2)) * t.size)


def first_of_each(
    action: Float[np.ndarray, "n d"], unit: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " u"], bool]:
    """The first row of each user, and whether all rows of a user have its action."""
    _, first, user = np.unique(unit, return_index=True, return_inverse=True)
    return first, bool((action == action[first][user]).all()) and len(first) < len(user)


def _squares(x, u, unit):
    """Σ S² of every pair of columns."""
    if unit is None:
        return np.square(x).T @ np.square(u)
    return np.stack([np.square(_by_unit(each[:, None] * u, unit)).sum(axis=0) for each in x.T])


def _by_unit(rows, unit):
    """Sums over the rows of each user."""
    order = np.argsort(unit, kind="stable")
    starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
    return np.add.reduceat(rows[order], starts, axis=0)


def _of_column(column, part) -> Any:
    if isinstance(column, Levels):
        most = np.argsort(-np.bincount(column.index), kind="stable")[:MOST]
        return (column.index[:, None] == most).astype(float)
    missing = np.isnan(column)
    known = np.where(missing, np.inf, column)  # alike, and after all others
    return np.stack([_within(part, _rank, known), missing], axis=1)


def _of_action(action, part) -> Any:
    return np.concatenate([_of_weight(weight, part) for weight in action.T], axis=1)


def _of_weight(weight, part):
    values = np.unique(weight)
    if len(values) <= FEW:
        return (weight[:, None] == values).astype(float)
    place = _within(part, _rank, weight)
    return np.stack([place, _within(part, _rank, np.abs(place))], axis=1)


def _rank(x):
    """From −½ to ½, equal entries in the middle of theirs."""
    _, index, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - 0.5 * count)[index] / len(x) - 0.5


def _within(part, function: Callable, x):
    """A function of the rows of each of the pooled logs."""
    found = np.empty(np.shape(x))
    for k in np.unique(part):
        found[part == k] = function(x[part == k])
    return found


def _centred(x, part, rows_each):
    """Less the mean of the rows of the same log."""
    total = np.bincount(part, rows_each)
    means = np.stack([np.bincount(part, rows_each * each) for each in x.T], axis=1)
    return x - (means / np.maximum(total, 1e-300)[:, None])[part]

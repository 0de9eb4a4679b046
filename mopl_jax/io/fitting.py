"""A logging policy that is estimated from the actions, where they are draws of one policy."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.special import fdtrc

from mopl_jax.io.dependence import dependence, first_of_each
from mopl_jax.io.refusals import within
from mopl_jax.policies.fitted import Fitted, fit_policy, levels_of

DISTANCE = 0.02  # between distributions of a weight, as for `check`
CRITICAL = 1.95  # of √n times it, at level 1e-3
LEVEL = 1e-4  # of the tests that actions depend on nothing, all together: what is refused stops
PERIODS, EDGE = 10, 50
ORDER = "order of the rows"


def fit_logging(rows: Any, place: str) -> Fitted:
    """The policy of the actions of some rows, one of each user whose actions are one.

    ValueError where actions change with the user, the context, or over time: then no one policy
    played them, and densities of one would be wrong.
    """
    action = np.asarray(rows.action, float)
    groups, one, same = dict(_groups(rows)), None, False
    when = np.arange(len(action)) if rows.time is None else np.asarray(rows.time)
    if rows.cluster is not None:
        one, same = first_of_each(action, rows.cluster)
        if same:  # weights are drawn once a user
            action, groups = action[one], {x: y[one] for x, y in groups.items() if x != "user"}
    tests = {name: _between(action, group) for name, group in groups.items()}
    if rows.context is not None:
        known = [dependence(rows.action, x, rows.cluster) for x in rows.context.T]
        tests["context"] = min(known) * len(known)
    for name, p_value in tests.items():
        if p_value * len(tests) < LEVEL:
            remedy = "log the density of each action (--propensity)"
            if name in ("time", ORDER):
                remedy = _apart(action, when[one] if same else when, name)
            if name == "context":
                remedy += ", or, if it is an outcome of them, name another context"
            raise ValueError(
                f"{place}: --fit-logging: actions depend on the {name} (p = {p_value:.1g}), so no"
                f" one policy played them; {remedy}"
            )
    with within(f"{place}: --fit-logging"):
        found = fit_policy(action)
        _check_shape(found, action)
    return found


def changed_most(action: np.ndarray, when: np.ndarray) -> int:
    """After how many rows, by `when` (n,), mean or size of actions (n, d) changes most."""
    moves = np.concatenate([action, np.abs(action - np.median(action, axis=0))], axis=1)
    moves = moves[np.argsort(when, kind="stable")]
    n, gap = len(moves), np.cumsum(moves - moves.mean(axis=0), axis=0)[:-1]
    before = np.arange(1, n)[:, None]
    size = (np.abs(gap) / (moves.std(axis=0) * np.sqrt(before * (n - before)))).max(axis=1)
    edge = n // EDGE  # so few rows on one side change a lot by chance
    return int(np.argmax(size[edge : n - 1 - edge])) + 1 + edge


def _apart(action, when, name) -> str:
    """What to do about actions that change over time, and where they change most."""
    n, most, by = len(action), changed_most(action, when), "" if name == ORDER else " by time"
    # not done unasked: where policy and rewards change together otherwise than once, periods that
    # are found miss the value nearly always (benchmarks/fit_periods.py)
    return (
        "name the files of each period apart ([[files]]), each of which is then estimated for"
        f" itself: they change most after about {most:,} of {n:,} rows{by}"
    )


def _check_shape(found: Fitted, action) -> None:
    """ValueError where the best family does not look like the actions, weight by weight."""
    levels, n = levels_of(found.policy, action), len(action)
    if levels is None:
        return
    steps = np.arange(1, n + 1)[:, None] / n
    distance = float(np.abs(np.sort(levels, axis=0) - steps).max())
    if distance > max(DISTANCE, CRITICAL / np.sqrt(n)):
        raise ValueError(
            f"actions look like no family that is known: the nearest, {found.family}, is"
            f" {distance:.2g} away (Kolmogorov–Smirnov); log the density of each action"
        )


def _groups(rows) -> Iterator[tuple[str, np.ndarray]]:
    if rows.cluster is not None:
        yield "user", np.asarray(rows.cluster)
    n = len(rows.action)
    if rows.time is None:
        yield ORDER, np.arange(n) * PERIODS // n
    else:
        yield "time", np.argsort(np.argsort(rows.time, kind="stable")) * PERIODS // n


def _between(action, group) -> float:
    """p-value of one mean, and of one size of deviations, in all groups, by analysis of variance;
    the least of all weights, corrected for their number.
    """
    away = np.abs(action - np.median(action, axis=0))
    p_values = [_anova(column, group) for column in (*action.T, *away.T)]
    return min(1.0, min(p_values) * len(p_values))


def _anova(x, group) -> float:
    _, group = np.unique(group, return_inverse=True)
    count = np.bincount(group)
    k, n = len(count), len(x)
    if k < 2 or n <= k or np.ptp(x) == 0:
        return 1.0
    means = np.bincount(group, x) / count
    between = (count * np.square(means - x.mean())).sum() / (k - 1)
    within = np.square(x - means[group]).sum() / (n - k)
    return float(fdtrc(k - 1, n - k, between / within)) if within > 0 else 0.0

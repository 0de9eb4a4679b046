"""Slopes that change with time: the test has its level, and sees what moves."""

import functools

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from worlds import standard
from yardsticks import binomial_tail

from mopl_jax.diagnostics.check import check_log
from mopl_jax.diagnostics.surface_drift import by_day, surface_drift, trend

DAYS = 28


def log(rng, n=1200, d=2, moves="not", users=None):
    """Action, reward, day and user: a bowl, a mean reward that wanders, noise that depends on the
    weights, and users whose slopes differ; and what `moves`.
    """
    action, day = rng.normal(size=(n, d)), np.sort(rng.uniform(0, DAYS, n))
    user = np.arange(n) if users is None else rng.integers(0, users, n)
    turned = 0.5 * np.pi * day / DAYS
    slope = np.zeros((n, d))
    if moves == "turns":
        slope[:, 0], slope[:, 1] = 0.4 * np.cos(turned), 0.4 * np.sin(turned)
    if moves == "jumps":
        slope[:, 0] = np.where(day > DAYS / 2, -0.2, 0.2)
    if moves == "weekends":
        slope[:, 0] = np.where(day.astype(int) % 7 > 4, -0.3, 0.3)
    own = 0.5 * rng.normal(size=(n, d))[user] if users else 0.0
    mean = ((slope + own) * action).sum(axis=1) - 0.2 * (action**2).sum(axis=1)
    noise = np.exp(0.3 * action[:, 0]) * rng.normal(size=n)
    return action, mean + np.sin(day) + 0.1 * day + noise, day, user


def p_values(moves, runs, **how):
    """Of a trend, and of weekdays, each beside the other."""
    rng = np.random.default_rng(7)
    for _ in range(runs):
        action, reward, day, user = log(rng, moves=moves, **how)
        ask = functools.partial(surface_drift, action, reward, day, unit=user)
        both = trend(day), by_day(day.astype(int) % 7)
        yield tuple(ask(basis=x, beside=y).p_value for x, y in (both, both[::-1]))


@pytest.mark.nightly
@pytest.mark.parametrize("users", [None, 400])
def test_a_surface_that_does_not_move_is_doubted_as_often_as_the_level_says(users):
    found = np.array(list(p_values("not", 400, users=users)))
    for alarms in (found < 0.05).sum(axis=0):
        assert binomial_tail(alarms, 400, 0.05) > 1e-3
        assert stats.binom.cdf(alarms, 400, 0.05) > 1e-3


@pytest.mark.parametrize(("moves", "which"), [("turns", 0), ("jumps", 0), ("weekends", 1)])
def test_what_moves_is_seen_by_its_own_test(moves, which):
    found = np.array(list(p_values(moves, 20)))
    seen, other = (found[:, k] < 0.01 for k in (which, 1 - which))
    assert seen.mean() > 0.8
    assert other.mean() <= 0.2


def test_the_change_of_a_slope_is_what_it_was_made():
    """Without noise in the slopes: from 0 to 0.8 of a standard deviation of the reward."""
    rng = np.random.default_rng(2)
    n = 40_000
    action, day = rng.normal(size=(n, 2)), np.sort(rng.uniform(0, 1, n))
    reward = 0.8 * day * action[:, 1] + rng.normal(size=n)
    found = surface_drift(action, reward, day, trend(day), np.arange(n))
    assert found.change * reward.std() == pytest.approx(0.8, abs=0.05)


def by_hand(action, reward, time, asked, unit, beside):
    """The p-value as the module's text has it: regressors cleared by least squares, scores user by
    user, F.
    """
    z = (action - action.mean(axis=0)) / action.std(axis=0)
    rank = stats.rankdata(time) - 0.5
    tenth = np.minimum(rank * 10 // len(z), 9)
    squares = [z[:, i] * z[:, j] for i in range(z.shape[1]) for j in range(i + 1)]
    steps = [(tenth == k).astype(float) for k in range(10)]
    both = [b * x for b in beside.T for x in z.T]
    given = np.stack([*z.T, *squares, *steps, *asked.T, *both], axis=1)
    columns = np.stack([*(b * x for b in asked.T for x in z.T), reward], axis=1)
    cleared = columns - given @ np.linalg.lstsq(given, columns, rcond=None)[0]
    scores = cleared[:, :-1] * cleared[:, -1:]
    users = np.array([scores[unit == user].sum(axis=0) for user in np.unique(unit)])
    c, q = users.shape
    u = users.sum(axis=0)
    wald = u @ np.linalg.inv(users.T @ users) @ u
    return stats.f.sf((c - q) / (c * q) * wald, q, c - q)


@pytest.mark.parametrize(("users", "whole_days"), [(None, False), (150, True)])
def test_the_p_value_is_that_of_the_formula(users, whole_days):
    """Of each question beside the other; with users that repeat, and times that are alike."""
    action, reward, day, user = log(np.random.default_rng(11), users=users)
    time = np.floor(day) if whole_days else day
    rank = (stats.rankdata(time) - 0.5) / len(time) - 0.5
    weekday = np.eye(7)[day.astype(int) % 7][:, 1:]
    asked = rank[:, None], weekday - weekday.mean(axis=0)
    made = trend(time), by_day(day.astype(int) % 7)
    for k in (0, 1):
        found = surface_drift(action, reward, time, made[k], user, beside=made[1 - k])
        expected = by_hand(action, reward, time, asked[k], user, asked[1 - k])
        assert found.p_value == pytest.approx(expected, rel=1e-6)


def test_rows_of_a_user_that_say_the_same_count_once():
    action, reward, day, user = log(np.random.default_rng(3))
    one = surface_drift(action, reward, day, trend(day), user)
    thrice = [np.repeat(x, 3, axis=0) for x in (action, reward, day, trend(day), user)]
    assert surface_drift(*thrice).p_value == pytest.approx(one.p_value, rel=1e-6)
    assert surface_drift(*thrice[:4], np.arange(3600)).p_value < one.p_value


def test_too_few_users_are_not_asked():
    action, reward, day, _ = log(np.random.default_rng(1))
    found = surface_drift(action, reward, day, trend(day), np.arange(1200) % 15)
    assert np.isnan(found.p_value)


@pytest.mark.parametrize(
    ("moves", "levels"),
    [
        ("not", ["trust", "trust"]),
        ("turns", ["caution", "trust"]),
        ("weekends", ["trust", "caution"]),
    ],
)
def test_check_says_that_the_surface_moves(moves, levels):
    action, reward, day, user = log(np.random.default_rng(5), 4000, moves=moves)
    at = np.datetime64("2026-01-05", "us") + (day * 86_400e6).astype("timedelta64[us]")
    table = {"w_0": action[:, 0], "w_1": action[:, 1], "reward": reward, "at": pa.array(at)}
    table = pa.table(table | {"user": user})
    said = check_log(table, action="w_", logging=standard(2), time="at", cluster="user")
    found = [x for x in said.findings if x.check == "drift of the surface"]
    assert [x.level for x in found] == levels

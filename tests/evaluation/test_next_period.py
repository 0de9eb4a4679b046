"""Rows that weigh by their time: the value of the next period beside that of the log."""

import functools

import numpy as np
import pyarrow as pa
import pytest
from command import assert_refused, document, mopl
from worlds import write

from mopl_jax.evaluation.comparison import compare
from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.io.policy_json import write_policy
from mopl_jax.policies import Gaussian

N, DAYS = 4000, 28
TARGET = Gaussian.diagonal([0.3], 0.7)
MONDAY = np.datetime64("2026-01-05", "us")
RNG = np.random.default_rng(3)
DAY = np.sort(RNG.uniform(0, DAYS, N))
ACTION = RNG.normal(size=N)
REWARD = ACTION * (1 - DAY / DAYS) + 0.3 * RNG.normal(size=N)  # what the weight is worth goes
TIME = MONDAY + (DAY * 86_400e6).astype("timedelta64[us]")


def log(kept=slice(None), time=None):
    """The rows, with their times as timestamps, as numbers of days, and as text."""
    moments = TIME if time is None else time
    table = {"w_0": ACTION, "reward": REWARD, "day": DAY, "at": moments}
    return pa.table({name: pa.array(column[kept]) for name, column in table.items()})


@functools.cache
def said(**how):
    return evaluate(log(), TARGET, action="w_", logging=Gaussian.diagonal([0.0], 1.0), **how)


def by_hand(rows):
    """The value, and its effective sample size, where rows speak for so many."""
    w = rows * np.exp(-0.5 * ((ACTION - 0.3) / 0.7) ** 2 + 0.5 * ACTION**2)
    return w @ REWARD / w.sum(), w.sum() ** 2 / (w @ w)


def test_a_half_life_is_a_sampling_weight():
    """2^(−age / half-life): value, ESS, and the rows that are left; beside it what the log says."""
    made, rows = said(time="at", half_life="7d"), 2 ** (-(DAY.max() - DAY) / 7)
    value, size = by_hand(rows)
    assert made.value == pytest.approx(value, rel=1e-5)
    assert made.ess.kish == pytest.approx(size, rel=1e-5)
    assert made.in_log.rows == pytest.approx(rows.sum() ** 2 / (rows @ rows), rel=1e-5)
    assert made.in_log.value == pytest.approx(by_hand(np.ones(N))[0], rel=1e-9)
    plain = said()
    assert made.in_log.lower == pytest.approx(plain.interval.lower, rel=1e-9)
    assert plain.in_log is None
    # the surface has moved, and the log's interval leaves the value of its end out
    assert made.interval.upper < made.in_log.lower
    assert any("half-life of 7d" in text for text in made.warnings)
    assert made.verdict == "caution"
    assert "later rows tell another value than all rows do" in made.reasons[-1]
    still = said(time="at", half_life="5000d")  # which hardly weighs by time
    assert still.verdict == plain.verdict
    assert not any("later rows" in text for text in still.reasons)


def test_units_of_dates_and_of_numbers_agree():
    moments, numbers = said(time="at", half_life="168h"), said(time="day", half_life=7)
    assert numbers.value == pytest.approx(moments.value, rel=1e-6)


def test_the_order_of_rows_and_the_zone_of_their_times_change_nothing():
    """Times that are not monotone, and text with a zone, are those that they say."""
    order = np.random.default_rng(4).permutation(N)
    text = np.array([f"{str(moment)[:19]}+00:00" for moment in TIME])
    roles = {"action": "w_", "logging": Gaussian.diagonal([0.0], 1.0), "half_life": "7d"}
    made = evaluate(log(order, text), TARGET, time="at", **roles)
    assert made.value == pytest.approx(said(time="at", half_life="7d").value, rel=1e-5)


def test_each_weekday_has_a_seventh_of_the_weight():
    kept = np.flatnonzero((DAY < 21) | (DAY.astype(int) % 7 == 2))  # Wednesdays more often
    roles = {"action": "w_", "logging": Gaussian.diagonal([0.0], 1.0)}
    made = evaluate(log(kept), TARGET, time="at", weekdays=True, **roles)
    number = DAY[kept].astype(int) % 7
    rows = np.zeros(N)
    rows[kept] = 1 / np.bincount(number)[number]
    assert made.value == pytest.approx(by_hand(rows)[0], rel=1e-9)


def test_differences_are_those_of_the_next_period():
    policies = TARGET, Gaussian.diagonal([-0.3], 0.7)
    roles = {"action": "w_", "logging": Gaussian.diagonal([0.0], 1.0), "time": "at"}
    late = compare(log(), policies, half_life="3d", **roles)
    plain = compare(log(), policies, **roles)
    assert abs(late.policies[1].difference.value) < 0.5 * abs(plain.policies[1].difference.value)
    assert any("half-life" in text for text in late.warnings)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("next")
    weekend = np.flatnonzero(DAY.astype(int) % 7 < 5)
    table = {"w_0": ACTION, "reward": REWARD, "at": pa.array(TIME), "day": DAY, "one": DAY * 0}
    write(folder / "log.parquet", table)
    write(folder / "week.parquet", log(weekend))
    holes = pa.array(TIME, mask=np.arange(N) == 2)
    write(folder / "holes.parquet", {**table, "at": holes})
    write_policy(folder / "logging.json", Gaussian.diagonal([0.0], 1.0))
    write_policy(folder / "new.json", TARGET)
    return folder


def asked(files, name="log.parquet"):
    roles = ("--action", "w_", "--logging", files / "logging.json", "--target", files / "new.json")
    return ("evaluate", files / name, *roles)


def test_the_command_has_both_values(files):
    made = document(*asked(files), "--time", "at", "--half-life", "7d", "--weekdays")
    assert made["value"] < made["in_log"]["lower"]
    assert "7d and each weekday alike" in made["warnings"][0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--half-life", "7d"], "name its time"),
        (["--time", "at", "--half-life", "0d"], "expected a time > 0 as 7d"),
        (["--time", "at", "--half-life", "-2d"], "expected a time > 0 as 7d"),
        (["--time", "at", "--half-life", "soon"], "expected a time > 0 as 7d"),
        (["--time", "at", "--half-life", "7"], "expected a unit"),
        (["--time", "day", "--half-life", "7d"], "the unit is not known"),
        (["--time", "one", "--half-life", "7"], "got one time in all of them"),
        (["--time", "day", "--weekdays"], "of which no weekday is known"),
    ],
)
def test_half_lives_that_are_none(files, options, told):
    assert_refused(mopl(*asked(files), *options), told)


def test_times_and_weekdays_that_are_missing(files):
    late = ("--time", "at", "--half-life", "7d")
    ended = mopl(*asked(files, "holes.parquet"), *late)
    assert_refused(ended, "row 3", "expected a time")
    ended = mopl(*asked(files, "week.parquet"), "--time", "at", "--weekdays")
    assert_refused(ended, "got none of Saturday, Sunday")


def test_learning_does_not_know_recency_and_says_so(files):
    (files / "log.toml").write_text(
        'path = "log.parquet"\naction = "w_"\nlogging = "logging.json"\ntime = "at"\n'
        'half_life = "7d"\n'
    )
    ended = mopl("learn", files / "log.toml", "--out", files / "x.json")
    assert_refused(ended, "sampling weights")

"""Rows that weigh by their time: the value of the next period beside that of the log."""

import functools
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from command import assert_refused, document, mopl
from worlds import write

from benchmarks import next_week
from mopl_jax.evaluation.comparison import compare
from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.io.half_life import chosen_half_life
from mopl_jax.io.policy_json import write_policy
from mopl_jax.io.read import open_log
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
        (["--time", "at", "--half-life", "1m"], "minutes or months? expected 1min"),
        (["--time", "day", "--weekdays"], "--weekdays: expected dates or times"),
        (["--time", "day", "--time-feature", "hour"], "of which no hour is known"),
        (["--time-feature", "hour"], "--time-feature: when was a row logged? name its time"),
        (["--time-feature", "hours"], "no column 'hours'"),
        (["--time-feature", "one"], "expected several values"),
        (["--time-feature", "day"], "at most 366 different values"),
        (["--time", "at", "--time-feature", "month"], "got none of March"),
        (["--time", "at", "--time-feature", "hour", "--weekdays"], "got both"),
    ],
)
def test_half_lives_that_are_none(files, options, told):
    assert_refused(mopl(*asked(files), *options), told)


def test_times_and_weekdays_that_are_missing(files):
    late = ("--time", "at", "--half-life", "7d")
    for entry, told in (("soon", "row 6 (row 1"), ("2026-01-06T00:00:00+00:00", "all with a zone")):
        text = [str(moment)[:19] for moment in TIME]
        text[5] = entry
        write(files / "text.parquet", {"w_0": ACTION, "reward": REWARD, "at": text})
        assert_refused(mopl(*asked(files, "text.parquet"), *late), told, "time")
    ended = mopl(*asked(files, "holes.parquet"), *late)
    assert_refused(ended, "row 3", "expected a time")
    ended = mopl(*asked(files, "week.parquet"), "--time", "at", "--weekdays")
    assert_refused(ended, "got none of Saturday, Sunday")


@pytest.fixture(scope="module")
def turning(tmp_path_factory):
    """A log in which what a weight is worth turns round: nothing is to be had of all of it."""
    folder = tmp_path_factory.mktemp("turning")
    reward = ACTION * (1 - 2 * DAY / DAYS) + 0.3 * RNG.normal(size=N)
    write(folder / "log.parquet", {"w_0": ACTION, "reward": reward, "at": pa.array(TIME)})
    write_policy(folder / "logging.json", Gaussian.diagonal([0.0], 1.0))
    (folder / "log.toml").write_text(
        'path = "log.parquet"\naction = "w_"\nlogging = "logging.json"\ntime = "at"\n'
        'half_life = "4d"\n'
    )
    return folder


def test_learning_is_for_the_next_period(turning):
    """Weights go where the last rows point, and are certified there; of the whole log they lose."""
    made = document("learn", turning / "log.toml", "--out", turning / "x.json")
    assert made["best_guess"]["mean"][0] < -0.5
    assert made["advice"] == "change to the learnt weights"
    truth = made["certified"]["mean"][0] * (1 - 2 * DAY.max() / DAYS)  # where the log ends
    assert 0 < made["certified_gain"] < truth
    assert made["in_log"]["gain"] < 0.5 * made["gain"]
    assert made["in_log"]["certified_gain"] < 0
    assert any("a half-life of 4d" in text for text in made["warnings"])
    assert made["ess"] < 0.5 * N


def test_a_half_life_that_predicts_is_found():
    """As given by hand: the same answer; and none where nothing moves."""
    found = said(time="at", half_life="auto")
    (told,) = (text for text in found.warnings if "half-life was chosen" in text)
    taken = told.rsplit(" ", 1)[1]
    assert float(taken[:-1]) * {"w": 7, "d": 1, "h": 1 / 24}[taken[-1]] <= DAYS / 4
    assert found.value == said(time="at", half_life=taken).value
    still = pa.table({"w_0": ACTION, "reward": ACTION + RNG.normal(size=N), "day": DAY})
    roles = {"action": "w_", "logging": Gaussian.diagonal([0.0], 1.0), "time": "day"}
    made = evaluate(still, TARGET, half_life="auto", **roles)
    assert any("older rows are as good" in text for text in made.warnings)
    assert (made.value, made.in_log) == (evaluate(still, TARGET, **roles).value, None)


def surfaces(world, k):
    """A block of rows of one of the worlds of `benchmarks/next_week.py`, eight weeks."""
    rng = np.random.default_rng([k, 9])
    week = np.sort(rng.uniform(0, 8, 8000))
    action = 0.5 * rng.normal(size=(8000, 3))
    best = next_week.optimum(world, week, 8 if world == "jumps" else 16)
    reward = next_week.mean_reward(action, best, week) + rng.normal(size=8000)
    return SimpleNamespace(time=week, action=action, reward=reward)


@pytest.mark.parametrize("world", ["none", "turns", "jumps"])
def test_the_half_life_is_as_long_as_the_surface_lasts(world):
    blocks = [surfaces(world, k) for k in range(20)]
    found = [chosen_half_life(lambda x=x: [x]) for x in blocks]
    long = np.mean([x > 3.9 for x in found])
    assert long >= 0.8 if world == "none" else long <= 0.1


def test_a_logging_policy_is_fitted_to_rows_of_any_age():
    """Which actions were drawn has nothing to do with how old they are."""
    found = open_log(log(), action="w_", fit_logging=True, time="at", half_life="7d")
    assert float(found.logging.mean[0]) == pytest.approx(ACTION.mean(), abs=1e-6)
    assert found.sampling.rows < 0.7 * N


def test_features_of_time_count_alike():
    """By hand: each level of hours, months and a column has the same weight, as weekdays have."""
    moment = np.datetime64("2026-01-05", "h")
    hours = np.random.default_rng(1).integers(0, 365 * 24, N) // (1 + np.arange(N) % 2)
    at = (moment + hours.astype("timedelta64[h]")).astype("datetime64[us]")
    holiday = np.where(hours % 7 > 4, "yes", "no")
    table = pa.table({"w_0": ACTION, "reward": REWARD, "at": pa.array(at), "holiday": holiday})
    dates = at.astype("datetime64[s]").tolist()
    levels = {
        "hour": np.array([x.hour for x in dates]),
        "month": np.array([x.month - 1 for x in dates]),
        "weekday": np.array([x.weekday() for x in dates]),
        "holiday": (holiday == "yes").astype(int),
    }
    roles = {"action": "w_", "logging": Gaussian.diagonal([0.0], 1.0), "time": "at"}
    for feature, level in levels.items():
        made = evaluate(table, TARGET, time_feature=feature, **roles)
        rows = 1 / np.bincount(level)[level]
        assert made.value == pytest.approx(by_hand(rows)[0], rel=1e-9)
        assert made.in_log.rows == pytest.approx(rows.sum() ** 2 / (rows @ rows), rel=1e-9)
        assert f"each {feature} alike" in made.warnings[0]
    both = evaluate(table, TARGET, time_feature="holiday", half_life="30d", **roles)
    aged = 2.0 ** (-(hours.max() - hours) / 24 / 30)
    level = levels["holiday"]
    rows = aged / np.bincount(level, aged)[level]
    assert both.value == pytest.approx(by_hand(rows)[0], rel=1e-9)
    timeless = {name: role for name, role in roles.items() if name != "time"}
    made = evaluate(table, TARGET, time_feature="holiday", **timeless)
    assert made.value == pytest.approx(by_hand(1 / np.bincount(level)[level])[0], rel=1e-9)

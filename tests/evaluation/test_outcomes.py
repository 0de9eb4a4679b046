"""Outcomes per user: rewards added up, ratios, and what was known before the action."""

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from command import mopl
from scipy import stats
from worlds import standard, write
from yardsticks import binomial_tail

from mopl_jax.evaluation.comparison import compare
from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.io.policy_json import write_policy
from mopl_jax.io.read import read_logs
from mopl_jax.logs import Logs, log_weights
from mopl_jax.policies import Gaussian

LOGGING, TARGET = standard(2, 0.5), Gaussian.diagonal([0.2, 0.0], 0.4)


def impressions(seed=0, users=400):
    """Rows of users who each have one action; the later row comes first in the file."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(1, 5, users)
    user = np.repeat(np.arange(users), rows)
    action = 0.5 * rng.normal(size=(users, 2))[user]
    views = rng.integers(0, 4, len(user))
    click = rng.binomial(views, 1 / (1 + np.exp(-action[:, 0])))
    columns = {"w_1": action[:, 0], "w_2": action[:, 1], "reward": click, "views": views}
    columns |= {"user": np.char.add("u", user.astype(str)), "when": -np.arange(len(user))}
    return pa.table(columns | {"before": rng.normal(size=users)[user]})


LOG = impressions()
ROLES = {"action": "w_", "logging": LOGGING, "cluster": "user"}
USER = np.asarray(LOG["user"].to_pylist())
CLICK, VIEWS = (np.asarray(LOG[name], float) for name in ("reward", "views"))
FIRST = np.unique(USER, return_index=True)[1]
BY_HAND = {
    "sum": lambda rows: CLICK[rows].sum(),
    "mean": lambda rows: CLICK[rows].mean(),
    "any": lambda rows: float((CLICK[rows] > 0).any()),
    "last": lambda rows: CLICK[rows[0]],
}


@pytest.mark.parametrize("how", BY_HAND)
def test_rewards_of_a_user_become_one(how):
    logs = read_logs(LOG, aggregate=how, time="when", context="before", **ROLES)
    action = np.stack([np.asarray(LOG[name]) for name in ("w_1", "w_2")], axis=1)
    order = np.argsort(action[FIRST, 0])
    expected = np.array([BY_HAND[how](np.flatnonzero(USER == USER[i])) for i in FIRST])
    mine = np.argsort(logs.action[:, 0])
    np.testing.assert_array_equal(logs.action[mine], action[FIRST][order])
    np.testing.assert_allclose(logs.reward[mine], expected[order], rtol=1e-12)
    np.testing.assert_allclose(
        logs.context[mine, 0], np.asarray(LOG["before"])[FIRST][order], rtol=1e-12
    )
    assert logs.cluster is None


def test_the_value_is_a_users():
    made = evaluate(LOG, TARGET, aggregate="sum", **ROLES)
    assert made.n == made.units == len(FIRST)
    assert made.warnings[0] == f"{len(CLICK):,} rows are 400 users, their rewards by sum"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": ["w_1", "when"]}, "column 'when': expected one value for all rows of a user"),
        ({"cluster": None}, "name the user"),
        ({"aggregate": "median"}, "unknown --aggregate: 'median'"),
        ({"count": "views"}, "drop the counts"),
    ],
)
def test_what_cannot_be_added_up_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        read_logs(LOG, **(ROLES | {"aggregate": "sum"} | change))


# Ratios.


@pytest.mark.parametrize(
    ("cluster", "in_memory"),
    [("user", 10_000), *(pytest.param(x, 10, marks=pytest.mark.nightly) for x in ("user", None))],
)
def test_a_ratio_and_its_interval_are_those_of_its_influence(cluster, in_memory):
    """R = Σwc / Σwv, with the variance of Σw(c − Rv) / Σwv over users."""
    roles = ROLES | {"cluster": cluster}
    made = evaluate(LOG, TARGET, per="views", interval="normal", in_memory=in_memory, **roles)
    action = np.stack([np.asarray(LOG[name]) for name in ("w_1", "w_2")], axis=1)
    logs = Logs(jnp.asarray(action), jnp.zeros(len(action)), jnp.asarray(CLICK))
    w = np.exp(log_weights(TARGET, logs) - log_weights(LOGGING, logs))
    value = w @ CLICK / (w @ VIEWS)
    terms = w * (CLICK - value * VIEWS) / (w @ VIEWS)
    if cluster:
        terms = np.bincount(np.unique(USER, return_inverse=True)[1], terms)
    n = len(terms)
    error = np.sqrt(terms @ terms * n / (n - 1))
    assert made.value == pytest.approx(value, rel=1e-9)
    half = 0.5 * (made.interval.upper - made.interval.lower)
    assert half == pytest.approx(stats.norm.ppf(0.975) * error, rel=1e-9)
    assert made.mean_weight.mean == pytest.approx(w.mean(), rel=1e-9)


@pytest.mark.nightly
def test_differences_of_ratios_cancel_what_is_shared():
    same = compare(LOG, [TARGET, TARGET], per="views", **ROLES).policies[1].difference
    assert same.value == 0
    assert evaluate(LOG, TARGET, per="reward", **ROLES).value == pytest.approx(1, abs=1e-12)


def test_facts_about_rewards_are_not_for_ratios():
    with pytest.raises(ValueError, match="--reward-range: expected a mean of rewards, got a ratio"):
        evaluate(LOG, TARGET, per="views", reward_range=(0, 1), **ROLES)
    with pytest.raises(ValueError, match="'percentile' is for a mean of rewards"):
        evaluate(LOG, TARGET, per="views", interval="percentile", **ROLES)


# What was known before.


def known_before(seed, n=3000, known=2.0):
    """Rewards that follow a column from before the action; the value of TARGET is 0.06."""
    rng = np.random.default_rng(seed)
    action, before = 0.5 * rng.normal(size=(n, 2)), rng.normal(size=n)
    reward = 0.3 * action[:, 0] + known * before + 0.9 * rng.normal(size=n)
    columns = {"w_1": action[:, 0], "w_2": action[:, 1], "reward": reward}
    return pa.table(columns | {"before": before, "noise": rng.normal(size=n)})


PLAIN = {"action": "w_", "logging": LOGGING}
SECOND = (0.5**2 / (0.4 * np.sqrt(2 * 0.5**2 - 0.4**2))) ** 2 * np.exp(
    0.2**2 / (2 * 0.5**2 - 0.4**2)
)  # E w²


@pytest.mark.parametrize("in_memory", [10_000, pytest.param(10, marks=pytest.mark.nightly)])
def test_a_column_from_before_saves_what_it_explains(in_memory):
    """Of the value E w² (4 + s²) → E w² s² + 4, of the difference 4 + s² → s²: closed forms."""
    table = known_before(48)
    left = 0.9**2 + 0.3**2 * 0.4**2  # of the noise and, about, of the action
    made = evaluate(table, TARGET, context="before", adjust=True, in_memory=in_memory, **PLAIN)
    expected = SECOND * (4 + left) / (SECOND * left + 4)
    assert made.adjustment.saved == pytest.approx(expected, rel=0.1)
    assert made.interval.lower < 0.06 < made.interval.upper


def test_an_adjusted_value_written_out():
    """Less θ times what the weighted mean of the column has more than the plain one, θ by least
    squares of influences, whose standard error is raised by √(1/(1 − S₂)) for the one column.
    """
    table = known_before(48)
    made = evaluate(table, TARGET, context="before", adjust=True, **PLAIN)
    action = np.stack([np.asarray(table[name]) for name in ("w_1", "w_2")], axis=1)
    reward, x = (np.asarray(table[name]) for name in ("reward", "before"))
    logs = Logs(jnp.asarray(action), jnp.zeros(len(x)), jnp.asarray(reward))
    w = np.exp(log_weights(TARGET, logs) - log_weights(LOGGING, logs))
    p, n = np.asarray(w / w.sum()), len(x)
    own, gap = n * p * (reward - p @ reward), n * p * (x - p @ x) - (x - x.mean())
    slope = own @ gap / (gap @ gap)
    assert made.value == pytest.approx(p @ reward - slope * (p @ x - x.mean()), rel=1e-9)
    left = (own - slope * gap) / np.sqrt(1 - p @ p)
    half = stats.norm.ppf(0.975) * np.sqrt(left @ left / n / (n - 1))
    ends = next(each for each in made.intervals if each.name == "normal")
    assert ends.upper - ends.lower == pytest.approx(2 * half, rel=1e-9)


@pytest.mark.nightly
@pytest.mark.parametrize("in_memory", [10_000, 10])
def test_of_a_difference_all_goes_that_the_column_explains(in_memory):
    table, left = known_before(48), 0.9**2 + 0.3**2 * 0.4**2
    both = compare(
        table, ["logging", TARGET], context="before", adjust=True, in_memory=in_memory, **PLAIN
    )
    change = both.policies[1].difference
    assert change.saved == pytest.approx((4 + left) / left, rel=0.15)
    assert change.lower < 0.06 < change.upper


@pytest.mark.nightly
@pytest.mark.parametrize("in_memory", [10_000, 10])
def test_users_are_adjusted_as_rows_are(in_memory):
    """Of users of three rows that say the same, all is as of one row each."""
    table = known_before(53, 1000)
    thrice = table.take(np.repeat(np.arange(1000), 3))
    thrice = thrice.append_column("user", pa.array(np.repeat(np.arange(1000), 3)))
    settings = {"context": "before", "adjust": True, "interval": "normal"} | PLAIN
    one = evaluate(table, TARGET, **settings)
    made = evaluate(thrice, TARGET, cluster="user", in_memory=in_memory, **settings)
    assert made.value == pytest.approx(one.value, rel=1e-9)
    assert made.interval[1:] == pytest.approx(one.interval[1:], rel=1e-3)
    assert made.adjustment.saved == pytest.approx(one.adjustment.saved, rel=1e-3)


@pytest.mark.nightly
def test_a_column_that_says_nothing_changes_little():
    table = known_before(49)
    plain = evaluate(table, TARGET, **PLAIN)
    made = evaluate(table, TARGET, context=["noise"], adjust=True, **PLAIN)
    assert made.adjustment.saved == pytest.approx(1, abs=0.01)
    width = plain.interval.upper - plain.interval.lower
    assert abs(made.value - plain.value) < 0.05 * width


@pytest.mark.nightly
def test_a_column_and_its_double_are_one():
    table = known_before(50)
    table = table.append_column("twice", pa.array(2 * np.asarray(table["before"]) + 1))
    one, two = (
        evaluate(table, TARGET, context=names, adjust=True, **PLAIN)
        for names in (["before"], ["before", "twice"])
    )
    assert two.value == pytest.approx(one.value, abs=1e-6)


@pytest.mark.nightly
def test_columns_are_not_used_on_few_effective_rows():
    table = known_before(51, n=12)
    made = evaluate(table, TARGET, context="before", adjust=True, **PLAIN)
    assert made.value == evaluate(table, TARGET, **PLAIN).value


@pytest.mark.nightly
@pytest.mark.parametrize("n", [100, 1000])
def test_intervals_of_adjusted_values_cover(n):
    """0.95 of 500 logs, which the by-hand r − θ(x − x̄) with its plain interval does not do: it
    takes the mean of the column in the log for that of all users.
    """
    hits = by_hand = 0
    for seed in range(500):
        table = known_before(1000 + seed, n)
        made = evaluate(table, TARGET, context="before", adjust=True, interval="ess_exact", **PLAIN)
        hits += made.interval.lower <= 0.06 <= made.interval.upper
        x, r = (np.asarray(table[name]) for name in ("before", "reward"))
        slope = np.cov(r, x)[0, 1] / x.var()
        moved = table.set_column(2, "reward", pa.array(r - slope * (x - x.mean())))
        hand = evaluate(moved, TARGET, interval="ess_exact", **PLAIN).interval
        by_hand += hand.lower <= 0.06 <= hand.upper
    assert binomial_tail(hits, 500, 0.95) > 0.001
    assert by_hand < 450


def test_users_that_are_missing_to_a_goal():
    """(z / (value − goal))² standard errors squared, as in `compare`."""
    table = known_before(52)
    made = evaluate(table, TARGET, goal=0.3, interval="normal", **PLAIN)
    half = 0.5 * (made.interval.upper - made.interval.lower)
    error = half / stats.norm.ppf(0.975) * np.sqrt(2999 / 3000)
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    gap = made.value - 0.3
    assert made.more == pytest.approx(max(3000 * ((z * error / gap) ** 2 - 1), 0), rel=1e-3)
    assert evaluate(table, TARGET, goal=3.0, **PLAIN).more == 0


@pytest.mark.nightly
def test_the_command_adjusts_and_answers(tmp_path):
    write(tmp_path / "log.parquet", known_before(48))
    write_policy(tmp_path / "logging.json", LOGGING)
    write_policy(tmp_path / "new.json", TARGET)
    log = tmp_path / "log.parquet", "--action", "w_", "--logging", tmp_path / "logging.json"
    target = "--target", tmp_path / "new.json"
    shown = mopl("evaluate", *log, *target, "--covariate", "before,noise", "--goal", "0.1")
    assert shown.code == 0
    assert "adjusted by before, noise: as good as" in shown.out
    assert "not told apart from 0.1" in shown.out

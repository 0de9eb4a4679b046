"""Columns that the weights caused are refused as what was known before them, wherever they are
named; columns that were known are not, at the level that is stated.
"""

import functools

import numpy as np
import pyarrow as pa
import pytest
from command import assert_refused, mopl
from scipy import stats
from worlds import write

from mopl_jax.evaluation.comparison import compare
from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.io.context import recorded
from mopl_jax.io.dependence import dependence
from mopl_jax.io.known_before import LEVEL, check_asked, check_known_before
from mopl_jax.io.log_reader import whole
from mopl_jax.io.policy_json import write_policy
from mopl_jax.io.read import open_log, read_logs
from mopl_jax.learning.arms import choose_arm
from mopl_jax.learning.pipeline import learn, learn_contextual
from mopl_jax.policies import Discrete, Gaussian, Segmented
from mopl_jax.policies.contextual import Levels

# Of a column that was known before.


def levels(code):
    return Levels(tuple(map(str, range(5))), code)


def _rows(rng, n=300):
    """A draw a row; a rare level."""
    return rng.normal(size=(n, 2)), levels(rng.choice(4, n, p=[0.6, 0.3, 0.08, 0.02])), {}


def _heavy(rng, n=300):
    """Weights and numbers of heavy tails, some missing."""
    column = rng.standard_cauchy(n)
    column[rng.random(n) < 0.1] = np.nan
    return np.exp(2 * rng.normal(size=(n, 2))), column, {}


def _sessions(rng, n=300):
    """A draw for several rows of a user, whose country is one."""
    session = np.sort(rng.integers(0, 60, n))
    country = rng.choice(3, 30, p=[0.5, 0.4, 0.1])[session // 2]
    return rng.normal(size=(60, 2))[session], levels(country), {"unit": session // 2}


def _arms(rng, n=600):
    """An arm a user, one of them rare."""
    user = rng.integers(0, 200, n)
    arm, country = rng.choice(3, 200, p=[0.7, 0.25, 0.05]), rng.choice(3, 200, p=[0.6, 0.3, 0.1])
    return arm[user][:, None].astype(float), levels(country[user]), {"unit": user}


def _thinned(rng, n=1000):
    """Rows that were kept by their reward, which both decide: among those kept they depend."""
    action, column = rng.normal(size=(n, 1)), rng.normal(size=n)
    rewarded = rng.random(n) < 1 / (1 + np.exp(2 - action[:, 0] - column))
    kept = rng.random(n) < np.where(rewarded, 1, 0.2)
    return action[kept], column[kept], {"rows_each": np.where(rewarded, 1, 5.0)[kept]}


def _pooled(rng, n=400):
    """Two logs of their own policy, and of their own mix of countries."""
    part = np.repeat([0, 1], [150, n - 150])
    action = rng.normal(size=(n, 2)) * (1 + part)[:, None] + part[:, None]
    return action, levels((rng.random(n) < 0.2 + 0.5 * part).astype(int)), {"part": part}


WORLDS = [_rows, _heavy, _sessions, _arms, _thinned, _pooled]


def p_values(world, replicates):
    drawn = (world(np.random.default_rng([7, k])) for k in range(replicates))
    return np.array([dependence(*x, **more) for *x, more in drawn])


def holds(found, level):
    """Whether so many rejections are not too many at a level, but for one study in a thousand."""
    return stats.binom.sf((found < level).sum() - 1, len(found), level) > 1e-3


@pytest.mark.parametrize("world", WORLDS)
def test_what_was_known_before_is_rejected_no_more_often_than_said(world):
    found = p_values(world, 500)
    assert holds(found, 0.05)
    assert holds(found, 0.01)


@pytest.mark.nightly
@pytest.mark.parametrize("world", WORLDS)
def test_nor_at_the_level_that_refuses(world):
    found = p_values(world, 20_000)
    assert holds(found, LEVEL)
    assert holds(found, 1e-3)


def test_dependence_is_of_ranks_within_each_log():
    """Nothing that keeps the order of numbers, or the names of users and levels, matters; a weight
    that is scaled and moved in one of two logs does not either.
    """
    rng = np.random.default_rng(3)
    action, column = rng.normal(size=(400, 2)), rng.normal(size=400)
    user, part = rng.integers(0, 90, 400), np.repeat([0, 1], 200)
    found = dependence(action, column, user, part)
    moved = action * (1 + part)[:, None] + 5 * part[:, None]
    assert dependence(moved, np.exp(column), 7 * user, part) == pytest.approx(found, rel=1e-9)
    code = rng.integers(0, 3, 400)
    other = np.array([2, 0, 1])[code]
    one, two = dependence(action, levels(code), user), dependence(action, levels(other), user)
    assert one == pytest.approx(two, rel=1e-9)


# Of a column that the weights caused.

N = 3000
LOGGING = Gaussian.diagonal(np.zeros(2), 1.0)
TARGET = Gaussian.diagonal(np.full(2, 0.2), 0.9)


@functools.cache
def table():
    rng = np.random.default_rng(0)
    action, user = rng.normal(size=(N, 2)), np.arange(N) // 3
    clicks = rng.poisson(np.exp(0.2 * action[:, 0]))
    far = np.where(np.square(action).sum(axis=1) + rng.normal(size=N) > 2, "far", "near")
    columns = {f"w_{k}": action[:, k] for k in range(2)}
    columns |= {"reward": action[:, 0] + rng.normal(size=N), "user": user, "clicks": clicks}
    columns |= {"bounced": far, "country": np.array(["DE", "FR"])[user % 2]}
    columns["age"] = np.where(user % 5, rng.normal(size=N), np.nan)
    return pa.table(columns)


ROLES = {"action": "w_", "cluster": "user", "logging": LOGGING}


def segmented(name, level):
    return Segmented.of((name,), [(level,)], [TARGET], LOGGING)


def arms_of(rng):
    """Two arms, and clicks of them."""
    arm = rng.integers(0, 2, N).astype(float)
    clicks = rng.poisson(1 + 0.5 * arm)
    columns = {"w_0": arm, "w_1": arm, "reward": arm + rng.normal(size=N), "clicks": clicks}
    return pa.table(columns)


ARMS = Discrete.of([[0.0, 0.0], [1.0, 1.0]], [0.5, 0.5])
VERBS = {
    "covariate": lambda: evaluate(table(), TARGET, context="clicks", adjust=True, **ROLES),
    "covariates": lambda: compare(
        table(), [LOGGING, TARGET], context=["user", "clicks"], adjust=True, **ROLES
    ),
    "--time-feature": lambda: evaluate(table(), TARGET, time_feature="clicks", **ROLES),
    "--time-feature of learn": lambda: learn(table(), time_feature="clicks", **ROLES),
    "--time-feature of arms": lambda: choose_arm(
        arms_of(np.random.default_rng(0)), time_feature="clicks", action="w_", logging=ARMS
    ),
    "context": lambda: learn_contextual(table(), "country,clicks", **ROLES),
    "context of a target": lambda: evaluate(table(), segmented("clicks", "2"), **ROLES),
    "context that is compared": lambda: compare(
        table(), [LOGGING, segmented("clicks", "2")], **ROLES
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_an_outcome_is_refused_by_every_verb(verb):
    message = rf"{verb.split()[0].rstrip('s')} column 'clicks': expected what is known before"
    with pytest.raises(ValueError, match=message) as error:
        VERBS[verb]()
    assert "\n" not in str(error.value)


def test_so_is_text_of_how_far_weights_were_and_a_covariate_in_memory():
    """Which no mean of a weight goes along with."""
    with pytest.raises(ValueError, match="'bounced'"):
        check_known_before(open_log(table(), **ROLES), ["bounced"], "context")
    logs = read_logs(table().drop_columns(["age"]), context=["user", "clicks"], **ROLES)
    with pytest.raises(ValueError, match=r"covariate column 'context\[1\]'"):
        evaluate(logs, TARGET, adjust=True)


def test_densities_of_one_policy_are_as_good_as_the_policy():
    """Of several, or of one by context, it is not asked: there actions may go along."""
    action = np.stack([table()["w_0"], table()["w_1"]], axis=1)
    one = -0.5 * np.square(action).sum(axis=1)
    two = np.where(np.arange(N) % 2, one, 2 * one)
    names, roles = ["clicks"], {"action": "w_", "log_propensity": "p"}
    with pytest.raises(ValueError, match="'clicks'"):
        check_known_before(open_log(table().append_column("p", pa.array(one)), **roles), names, "x")
    check_known_before(open_log(table().append_column("p", pa.array(two)), **roles), names, "x")
    logging = segmented("country", "DE")
    check_known_before(open_log(table(), action="w_", logging=logging), names, "x")


@pytest.mark.parametrize("order", ["sorted", "in turn"])
def test_a_log_by_context_may_be_sorted_by_it(order):
    """As folders of countries and files of rounds are: its first rows are of one policy."""
    rng = np.random.default_rng(0)
    place = np.arange(12_000) // 6_000 if order == "sorted" else np.arange(12_000) % 2
    action = rng.normal(size=(12_000, 1)) + place[:, None]
    columns = {"w_0": action[:, 0], "country": np.array(["DE", "FR"])[place]}
    columns |= {"p": -0.5 * np.square(action[:, 0] - place), "reward": rng.normal(size=12_000)}
    reader = open_log(pa.table(columns), action="w_", log_propensity="p")
    check_known_before(reader, ["country"], "context")


def test_rows_of_one_draw_whose_user_is_not_named_may_be_why():
    rng = np.random.default_rng(0)
    draw = np.arange(6_000) // 200
    columns = {"w_0": rng.normal(size=30)[draw], "country": rng.integers(0, 2, 30)[draw]}
    columns |= {"reward": rng.normal(size=6_000), "user": draw}
    roles = {"action": "w_", "logging": Gaussian.diagonal(np.zeros(1), 1.0)}
    with pytest.raises(ValueError, match=r"then name the user \(--cluster\)"):
        check_known_before(open_log(pa.table(columns), **roles), ["country"], "context")
    roles |= {"cluster": "user"}
    check_known_before(open_log(pa.table(columns), **roles), ["country"], "context")


def test_what_was_known_passes():
    reader = open_log(table(), context=["user"], time_feature="country", **ROLES)
    check_asked(reader, [segmented("country", "DE")], adjust=True)
    check_known_before(open_log(table(), **ROLES), ["country", "age"], "context")


def ages(values):
    """As a context that is measured."""
    log = table().drop_columns(["age"]).append_column("age", pa.array(values))
    reader, kinds = recorded(open_log(log, **ROLES), ["age"], True)
    return kinds.columns_of(whole(reader).codes[-1])[0]


def test_a_number_is_missing_however_it_is_stored():
    """And one that is infinite is refused by its row."""
    nan, null = np.array(table()["age"]), table()["age"].to_pylist()
    null = [None if x != x else x for x in null]
    np.testing.assert_array_equal(ages(null), nan)
    np.testing.assert_array_equal(ages(nan), nan)
    null[7] = np.inf
    with pytest.raises(ValueError, match="column 'age', row 8 .*: expected a finite number"):
        ages(null)


def test_the_reward_is_no_covariate():
    with pytest.raises(ValueError, match="known before the action, got its reward"):
        evaluate(table(), TARGET, context="reward", adjust=True, **ROLES)


TWICE = {
    "covariate": {"context": "country", "adjust": True},
    "covariate of a fit": {"context": "country", "fit_logging": True, "logging": None},
    "context of a target": {"target": segmented("country", "DE")},
    "context of the log": {"logging": segmented("country", "DE")},
    "time feature": {"time_feature": "country"},
    "action": {"action": "country"},
    "user": {"cluster": "country"},
}


@pytest.mark.parametrize("role", TWICE)
def test_a_column_that_is_there_twice_is_refused_in_every_role(role):
    log = table().append_column("country", table()["country"])
    with pytest.raises(ValueError, match="expected one column 'country', got 2; rename them$"):
        evaluate(log, **{"target": TARGET} | ROLES | TWICE[role])


def test_the_command_names_the_column_and_the_remedy(tmp_path):
    write(tmp_path / "log.parquet", table().to_pydict())
    write_policy(tmp_path / "logging.json", LOGGING)
    log = tmp_path / "log.parquet", "--action", "w_", "--logging", tmp_path / "logging.json"
    asked = "--context", "clicks", "--out", tmp_path / "new.json"
    said = "context column 'clicks'", "an outcome of them? name another"
    assert_refused(mopl("learn", *log, *asked), *said)
    assert not (tmp_path / "new.json").exists()

"""A log in a query engine gives the numbers that it gives in memory: the same estimators, moments,
diagnoses, intervals and checks, computed by DuckDB.
"""

import numpy as np
import pyarrow as pa
import pytest
from engines import LOGGING, NEAR, TARGET, D, assert_same, columns, densities, engine, sqlite_engine

import mopl_jax as mopl
from mopl_jax.policies import Mixture, Uniform, log_normal

EVERY = ["recommended", *mopl.intervals.WALD]


def evaluated(table, target=TARGET, **options):
    names = None if "adjust" in options or "per" in options else EVERY
    return mopl.evaluate(table, target, interval=names, **options).to_dict()


@pytest.mark.parametrize(
    "options",
    [
        {"estimator": "beta_ips", "reward_range": (-20.0, 20.0), "cluster": "user"},
        pytest.param({}, marks=pytest.mark.nightly),
        pytest.param({"cluster": "user"}, marks=pytest.mark.nightly),
        pytest.param({"estimator": "ips"}, marks=pytest.mark.nightly),
        pytest.param({"context": ["before"], "adjust": True}, marks=pytest.mark.nightly),
        pytest.param({"per": "views", "cluster": "user"}, marks=pytest.mark.nightly),
        pytest.param({"keep_probability": "kept"}, marks=pytest.mark.nightly),
    ],
    ids=str,
)
def test_numbers_are_those_in_memory(options):
    table = columns()
    assert_same(evaluated(engine(table), **options), evaluated(pa.table(table), **options))


@pytest.mark.filterwarnings("ignore:The 'future.infer_string'")  # ibis asks pandas for it
def test_an_engine_of_few_words(tmp_path):
    """`evaluate` needs no medians, hashes or words for NaN; what else there is not is one line."""
    table = columns()
    log = sqlite_engine(table, tmp_path / "log.db")
    assert_same(evaluated(log, cluster="user"), evaluated(pa.table(table), cluster="user"))
    with pytest.raises(ValueError, match=r"'Hash'.*the engine cannot do this: export the log"):
        mopl.learn(log, logging=LOGGING, in_memory=200)


def test_one_row_of_each_user_is_tested_in_whatever_order_they_lie():
    """A table without times has no first row."""
    table = {name: np.asarray(column) for name, column in columns().items()}
    order = np.random.default_rng(0).permutation(len(table["reward"]))
    found = [
        mopl.check_log(
            engine({name: column[rows] for name, column in table.items()}),
            logging=LOGGING,
            action="action_",
            reward="reward",
            cluster="user",
        ).findings
        for rows in (np.arange(len(order)), order)
    ]
    assert sum("p = " in x.found for x in found[0]) >= 4
    assert found[0] == found[1]


@pytest.mark.nightly
def test_differences_are_those_in_memory():
    table, policies, ranged = columns(), [LOGGING, TARGET, NEAR], {"reward_range": (-20.0, 20.0)}
    for options in ({}, {"cluster": "user"}, ranged, ranged | {"cluster": "user"}):
        found = mopl.compare(engine(table), policies, **options).to_dict()
        assert_same(found, mopl.compare(pa.table(table), policies, **options).to_dict())


def degenerate():
    """Logs on which sums are easily wrong."""
    table, n = columns(), 500
    weights = np.zeros(n)
    yield "equal weights", {"reward": table["reward"], "p": weights, "t": weights}
    one = np.where(np.arange(n) == 7, 0.0, -40.0)
    yield "one row has all", {"reward": table["reward"], "p": weights, "t": one}
    two = np.where(np.arange(n) % 250 == 7, 0.0, -40.0)
    yield "two rows share all", {"reward": table["reward"], "p": weights, "t": two}
    yield "no weight", {"reward": table["reward"], "p": weights, "t": np.full(n, -np.inf)}
    yield "one row", {"reward": [1.0], "p": [-1.0], "t": [-1.5]}
    yield "equal rewards", {"reward": np.ones(n), "p": weights, "t": np.sin(np.arange(n))}
    clicks = (np.arange(n) % 9 == 0) * 1.0
    yield "clicks", {"reward": clicks, "p": weights, "t": 0.1 * np.sin(np.arange(n))}


LONG = ("one row", "equal rewards", "clicks", "no weight")


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=pytest.mark.nightly) if x in LONG else x for x in dict(degenerate())],
)
def test_degenerate_logs_give_the_numbers_in_memory(name):
    table = dict(degenerate())[name]
    named = {"log_propensity": "p", "log_target_propensity": "t"}
    found, expected = (
        mopl.evaluate(x, interval=EVERY, **named).to_dict()
        for x in (engine(table), pa.table(table))
    )
    assert_same(found, expected)


POLICIES = {
    "uniform": Uniform(np.full(D, -1.0), np.full(D, 1.0)),
    "mixture": Mixture.of(np.array([1.0, 3.0]), [TARGET, NEAR]),
    "log_normal": log_normal(np.zeros(D), 0.5),
}


@pytest.mark.nightly
@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_expressions(name):
    table = dict(columns())
    if name == "log_normal":
        action = np.exp(np.stack([table[f"action_{k}"] for k in range(D)], 1))
        table |= {f"action_{k}": action[:, k] for k in range(D)}
        table["log_propensity"] = densities(log_normal(np.zeros(D), 1.0), action)
    target = POLICIES[name]
    assert_same(evaluated(engine(table), target), evaluated(pa.table(table), target))

"""A reward that is a cost: what is learnt of it is what is learnt of its negative, in the words of
savings and in the log's own numbers.
"""

import json
import math
import re

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from command import assert_refused, document, mopl
from worlds import write

from mopl_jax.evaluation.comparison import compare
from mopl_jax.io.policy_json import write_policy
from mopl_jax.io.read import read_logs
from mopl_jax.learning.arms import choose_arm
from mopl_jax.learning.certification import certify, possible
from mopl_jax.learning.pipeline import learn
from mopl_jax.logs import Logs
from mopl_jax.policies import Discrete, Gaussian

N = 600
LOGGING = Gaussian.diagonal([0.0, 0.0], 1.0)
CHEAP = ("--estimator", "snips", "--certificate", "normal")


def table(sign=1.0):
    """A cost of about 5 that the first weight lowers."""
    rng = np.random.default_rng(2)
    action = rng.normal(size=(N, 2))
    cost = 5 - 0.5 * action[:, 0] + 0.3 * rng.normal(size=N)
    return {"w_a": action[:, 0], "w_b": action[:, 1], "cost": sign * cost}


def test_a_cost_is_learnt_as_its_negative(tmp_path, monkeypatch):
    """The same policy and the same gain; value and bound are those of the cost."""
    monkeypatch.chdir(tmp_path)
    logging = write_policy(tmp_path / "logging.json", LOGGING)
    roles = ("--action", "w_", "--reward", "cost", "--logging", logging, *CHEAP)
    costs, rewards = (write(tmp_path / f"{x}.parquet", table(x)) for x in (1, -1))
    said = document("learn", costs, *roles, "--minimise", "--out", "a.json")
    same = document("learn", rewards, *roles, "--out", "b.json")
    for key in ("components", "certified_gain", "gain", "advice", "needed"):
        assert said[key] == same[key]
    assert said["minimise"]
    assert 4 < said["value"] == -same["value"] < 5
    assert said["certified_upper_bound"] == -same["certified_lower_bound"]
    assert "certified_lower_bound" not in said
    assert "they save at least" in said["reason"]
    shown = mopl("learn", costs, *roles, "--minimise", "--out", "c.json").out
    for text in ("they save at least", "certified: at most", "certified saving: at least"):
        assert text in shown
    assert not re.search(r"\bgains?\b", shown)
    compared = compare(costs, ["logging", "a.json"], minimise=True, action="w_", reward="cost",
                       logging=logging)  # fmt: skip
    assert compared.decisions[1] == "better"


def test_a_certificate_on_other_rows_is_of_the_saving():
    """Of learnt weights that save a cost; taken for a reward they would lose."""
    taught, others = (
        read_logs(pa.table(table()), action="w_", reward="cost", logging=LOGGING) for _ in range(2)
    )
    learnt = learn(taught, estimator="snips", certificate="normal", minimise=True)
    made = certify(learnt, others)
    assert float(made.gain) > 0 > float(made.value)


def test_the_arm_of_the_lowest_cost_is_chosen():
    """With its cost; and the one of the highest is not."""
    rng = np.random.default_rng(0)
    arms, share = np.array([[1.0], [2.0], [3.0]]), np.full(3, 1 / 3)
    arm = rng.integers(3, size=900)
    cost = np.array([5.0, 4.0, 6.0])[arm] + rng.normal(size=900)
    log = pa.table({"w_a": arms[arm, 0], "cost": cost})
    roles = {"action": "w_", "reward": "cost", "logging": Discrete.of(arms, share)}
    made = choose_arm(log, production=[1.0], minimise=True, **roles)
    assert (made.chosen.action, made.guess.action) == ((2.0,), (2.0,))
    assert made.chosen.value == pytest.approx(4, abs=0.3)
    assert made.value_now == pytest.approx(5, abs=0.3)
    assert made.chosen.certified_gain > 0.5
    assert "saves at least" in made.reason
    assert choose_arm(log, production=[1.0], **roles).chosen.action == (3.0,)


@pytest.mark.nightly
def test_a_long_log_saves_as_much_as_its_negative_gains(tmp_path):
    """A sample teaches and all others certify in passes, of a file and of an engine."""
    logging = write_policy(tmp_path / "logging.json", LOGGING)
    roles = {"action": "w_", "reward": "cost", "logging": logging, "in_memory": 300}
    made = [
        learn(write(tmp_path / f"{x}.parquet", table(x)), minimise=x > 0, **roles) for x in (1, -1)
    ]
    said, same = (each.to_dict() for each in made)
    assert said["value"] == pytest.approx(-same["value"])
    assert said["certified_gain"] == pytest.approx(same["certified_gain"])
    address = f"duckdb://#{tmp_path}/1.parquet"
    roles.pop("in_memory")
    engine = [
        learn(address.replace("1.parq", f"{x}.parq"), minimise=x > 0, **roles).to_dict()
        for x in (1, -1)
    ]
    assert engine[0]["certified_gain"] == pytest.approx(engine[1]["certified_gain"])


def test_a_pilot_of_costs_plans_savings(tmp_path):
    """The slope is that of the negative."""
    costs = write(tmp_path / "costs.parquet", table())
    logging = write_policy(tmp_path / "logging.json", LOGGING)
    roles = ("--pilot", costs, "--action", "w_", "--reward", "cost", "--logging", logging)
    said = document("plan", *roles, "--minimise")
    assert said["pilot"]["slope"][0] == pytest.approx(0.5, abs=0.1)
    assert said["assumed"]["gain"] > 0
    assert said["minimise"]
    shown = mopl("plan", *roles, "--minimise").out
    assert "saving" in shown
    assert "gain" not in shown
    assert_refused(mopl("plan", *roles, "--step", "0.5,0"), "the pilot expects a loss")
    assert json.dumps(said)
    assert jnp.isfinite(said["assumed"]["noise"])


CLICKS = {"w_a": np.random.default_rng(5).normal(size=900)}
CLICKS["w_b"] = np.random.default_rng(6).normal(size=900)
CLICKS["clicked"] = np.random.default_rng(7).random(900) < 0.5 + 0.3 * np.tanh(CLICKS["w_a"])
CLICKS = {name: column.astype(float) for name, column in CLICKS.items()}


@pytest.mark.parametrize("minimise", [False, True])
def test_a_reward_in_a_known_range_is_judged_as_such(minimise):
    """Policy, gain and estimate are the same; the verdict knows the range, and bounds keep to it.
    What is outside is refused before anything is learnt.
    """
    roles = {"action": "w_", "reward": "clicked", "logging": LOGGING, "share": 0.5}
    options = roles | {"minimise": minimise, "estimator": "snips", "certificate": "normal"}
    log = pa.table(CLICKS)
    plain, known = learn(log, **options), learn(log, reward_range=(0, 1), **options)
    assert not plain.certificate.diagnosis.bounded
    assert known.certificate.diagnosis.bounded
    assert float(known.certificate.gain_bound) == float(plain.certificate.gain_bound)
    low, high = (-1, 0) if minimise else (0, 1)
    assert low <= float(known.certificate.bound) <= high
    rules = possible(plain.certificate, (low, low + 1e-3))
    assert float(rules.bound) <= low + 1e-3 + 1e-12
    assert float(rules.gain_bound) <= 1e-3 + 1e-12
    for data in (log, read_logs(log, action="w_", reward="clicked", logging=LOGGING)):
        asked = options if data is log else {"minimise": minimise}
        with pytest.raises(ValueError, match=r"rewards? in \[0, 0.5\]"):
            learn(data, reward_range=(0, 0.5), **asked)


def test_arms_of_clicks_have_the_bounds_of_compare():
    """Of the differences of one arm to another in a known range; not of users."""
    rng = np.random.default_rng(8)
    arm = rng.integers(2, size=400)
    click = (rng.random(400) < np.where(arm == 1, 0.05, 0.02)).astype(float)
    log = pa.table({"w": 1.0 * arm, "reward": click})
    logging = Discrete.of(np.array([[0.0], [1.0]]), np.ones(2))
    roles = {"action": "w", "logging": logging}
    each = [Discrete.of(np.array([[x]]), np.ones(1)) for x in (0.0, 1.0)]
    (row,) = choose_arm(log, production=[0.0], reward_range=(0, 1), **roles).arms
    made = compare(log, each, reward_range=(0, 1), alpha=0.1, **roles)
    assert row.certified_gain == pytest.approx(made.policies[1].difference.lower, rel=1e-9)
    (plain,) = choose_arm(log, production=[0.0], **roles).arms
    assert row.certified_gain != plain.certified_gain


def test_the_command_takes_the_range(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "log.parquet", CLICKS)
    logging = write_policy(tmp_path / "logging.json", LOGGING)
    roles = ("learn", path, "--action", "w_", "--reward", "clicked", "--logging", logging)
    assert_refused(mopl(*roles, "--reward-range", "0,0.5"), "a reward in [0, 0.5]")
    assert_refused(mopl(*roles, "--reward-range", "1,0"), "--reward-range: expected LOW,HIGH")


@pytest.mark.parametrize("cluster", [None, np.arange(600)])
def test_arms_alike_are_not_told_apart_by_the_range_alone(cluster):
    """Of users the range tells nothing of a gain, and no arm of clicks all alike is certain."""
    rng = np.random.default_rng(9)
    arm = rng.integers(3, size=600)
    click = (rng.random(600) < 0.2).astype(float)
    arms = np.array([[0.0], [1.0], [2.0]])
    log = Logs(arms[arm], np.full(600, -np.log(3.0)), click, cluster=cluster)
    known, plain = (choose_arm(log, production=[0.0], reward_range=x) for x in ((0, 1), None))
    assert all(-1 <= arm.certified_gain < 0 for arm in known.arms)
    if cluster is not None:
        gains = [[arm.certified_gain for arm in made.arms] for made in (known, plain)]
        assert gains[0] == pytest.approx(gains[1])


def test_of_users_a_range_is_no_evidence_of_rewards_that_were_not_seen():
    """An arm without a cost among sixty rows may have one in the sixty-first."""
    rng = np.random.default_rng(10)
    arm = (np.arange(2000) % 33 == 0).astype(int)
    cost = (rng.random(2000) < 0.03) * (arm == 0).astype(float)
    probability = np.log(np.where(arm == 1, 1 / 33, 32 / 33))
    log = Logs(1.0 * arm[:, None], probability, cost, cluster=np.arange(2000) // 2)
    made = choose_arm(log, production=[0.0], minimise=True, reward_range=(0, 1))
    assert made.keep
    assert made.arms[0].certified_gain == -math.inf
    each = [Discrete.of(np.array([[x]]), np.ones(1)) for x in (0.0, 1.0)]
    found = compare(log, each, minimise=True, reward_range=(0, 1)).policies[1].difference
    assert (found.lower, found.upper) == (-1, 1)

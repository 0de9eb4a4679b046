"""Choosing among arms: the log of an A/B/n test."""

import json

import numpy as np
import pyarrow as pa
import pytest
from command import document, mopl
from scipy import stats

import mopl_jax
from mopl_jax.intervals.simultaneous import simultaneous_alpha
from mopl_jax.io.read import open_log
from mopl_jax.io.reward_note import noted
from mopl_jax.learning.arms import arms_of
from mopl_jax.logs import Logs
from mopl_jax.policies import Discrete, Gaussian, Product
from mopl_jax.policies.product import combined

ARMS = np.array([[0.2, 1.0], [0.5, 0.5], [1.0, 0.2], [1.0, 1.0]])
SHARE = np.array([0.4, 0.2, 0.2, 0.2])
RATE = np.array([0.3, 0.3, 0.45, 0.2])
LOGGING = Discrete.of(ARMS, SHARE)


def log(rng, n, rate=RATE):
    """Clicks of users who were each shown one arm, and which."""
    arm = rng.choice(len(ARMS), n, p=SHARE)
    reward = (rng.random(n) < rate[arm]).astype(float)
    return Logs(ARMS[arm], np.log(SHARE)[arm], reward), arm


@pytest.fixture(scope="module")
def logged():
    return log(np.random.default_rng(0), 20_000)


@pytest.fixture(scope="module")
def chosen(logged):
    """Against the first arm."""
    return mopl_jax.choose_arm(logged[0], production=ARMS[0])


def test_gains_are_differences_of_means(logged, chosen):
    """Welch's standard error, and the critical value of three comparisons with one control."""
    (logs, played), first = logged, logged[0].reward[logged[1] == 0]
    assert [row.number for row in chosen.arms] == [2, 3, 4]
    for row in chosen.arms:
        own = logs.reward[played == row.number - 1]
        assert row.value == pytest.approx(own.mean(), rel=1e-6)
        assert row.gain == pytest.approx(own.mean() - first.mean(), abs=1e-6)
        error = np.sqrt(own.var() / len(own) + first.var() / len(first))
        critical = (row.gain - row.certified_gain) / error
        dunnett = 2.06  # one-sided 5 %, three arms, correlation 1/3 (SHARE): Dunnett 1955, to 0.03
        assert critical == pytest.approx(dunnett, abs=0.06)


@pytest.mark.nightly
def test_arms_weigh_by_their_time_and_it_is_said(logged):
    """Values are means of the rows that each row speaks for."""
    logs, played = logged
    day = np.linspace(0, 28, len(played))
    table = {"w_a": logs.action[:, 0], "w_b": logs.action[:, 1], "reward": logs.reward, "day": day}
    roles = {"action": "w_", "logging": LOGGING, "time": "day", "half_life": 7}
    made, each = mopl_jax.choose_arm(pa.table(table), **roles), 2.0 ** ((day - 28) / 7)
    for row in made.arms:
        own = played == row.number - 1
        expected = each[own] @ logs.reward[own] / each[own].sum()
        assert row.value == pytest.approx(expected, rel=1e-6)
    assert "a half-life of 7" in made.to_dict()["warnings"][0]


def test_a_product_of_arms_is_one_of_their_combinations():
    """Two weights of three and two values, drawn apart: six arms, their probabilities and gains as
    if they had been declared by themselves.
    """
    parts = [
        Discrete.of([[1.0], [2.0], [3.0]], [0.5, 0.3, 0.2]),
        Discrete.of([[0.0], [1.0]], [0.4, 0.6]),
    ]
    product = Product(tuple(parts))
    whole = combined(product)
    assert whole is not None
    assert whole.actions.shape == (6, 2)
    for action in np.asarray(whole.actions):
        assert float(whole.log_density(action)) == pytest.approx(float(product.log_density(action)))
    rng = np.random.default_rng(1)
    action = np.stack([rng.choice([1.0, 2.0, 3.0], 3000, p=[0.5, 0.3, 0.2]),
                       rng.choice([0.0, 1.0], 3000, p=[0.4, 0.6])], axis=1)  # fmt: skip
    reward = action[:, 0] * action[:, 1] + rng.normal(size=3000)
    table = pa.table({"w_a": action[:, 0], "w_b": action[:, 1], "reward": reward})
    made, same = (
        mopl_jax.choose_arm(table, action="w_", logging=each, production=[1.0, 0.0])
        for each in (product, whole)
    )
    assert made.chosen.action == (3.0, 1.0)
    assert made.chosen.certified_gain == pytest.approx(same.chosen.certified_gain)
    assert combined(Product((parts[0], Gaussian.diagonal([0.0], 1.0)))) is None


def test_the_largest_certain_gain_is_chosen(chosen):
    assert (chosen.guess.number, chosen.chosen.number, chosen.keep) == (3, 3, False)
    assert np.allclose(chosen.policy.actions, ARMS[[2]])
    assert 0.1 < chosen.chosen.certified_gain < 0.15
    assert chosen.advice == "change to arm 3"
    assert f"at least {chosen.chosen.certified_gain:.4g} over arm 1" in chosen.reason
    assert "action[0] 1, action[1] 0.2" in chosen.reason  # Logs in memory have no names


def test_production_that_is_best_is_kept(logged):
    made = mopl_jax.choose_arm(logged[0], production=ARMS[2])
    assert made.keep
    assert made.chosen.certified_gain < 0
    assert made.advice == "keep what is played now"
    assert "no arm is certain to gain over arm 3" in made.reason


def test_what_the_log_says_of_its_reward_goes_into_the_artifact(logged):
    logs, arm = logged
    columns = {"w_a": logs.action[:, 0], "w_b": logs.action[:, 1], "p": SHARE[arm]}
    note = {"column": "learnt_metric", "formula": "0.5 likes", "north_star": "days"}
    table = pa.table(columns | {"learnt_metric": logs.reward}).replace_schema_metadata(noted(note))
    roles = {"action": "w_", "reward": "learnt_metric", "propensity": "p"}
    made = mopl_jax.choose_arm(table, production=ARMS[0], **roles)
    assert made.to_dict()["provenance"]["learnt_metric"] == note


def test_without_production_the_mix_that_was_played_is_what_arms_gain_over(logged):
    logs, arm = logged
    made = mopl_jax.choose_arm(logs)
    assert [arm.number for arm in made.arms] == [1, 2, 3, 4]
    own = logs.reward[arm == 2].mean()
    assert made.chosen.gain == pytest.approx(own - logs.reward.mean(), abs=1e-6)
    mixed = mopl_jax.choose_arm(logs, production=LOGGING)
    assert mixed.chosen.certified_gain == pytest.approx(made.chosen.certified_gain, rel=1e-3)


def test_users_are_the_units(logged):
    """Three equal rows a user promise what one does."""
    logs = logged[0]
    user = np.repeat(np.arange(len(logs.reward)), 3)
    thrice = Logs(logs.action[user], logs.log_propensity[user], logs.reward[user], cluster=user)
    one = mopl_jax.choose_arm(logs, production=ARMS[0])
    made = mopl_jax.choose_arm(thrice, production=ARMS[0])
    assert made.chosen.certified_gain == pytest.approx(one.chosen.certified_gain, rel=1e-3)


def test_arms_that_constraints_forbid_are_left_out(logged):
    made = mopl_jax.choose_arm(logged[0], constraints=mopl_jax.constraints.Bounds(high=0.9))
    assert [arm.number for arm in made.arms] == [2]


@pytest.mark.parametrize(("arms", "correlation"), [(2, -1.0), (3, -0.5), (3, 0.5), (6, 0.5)])
def test_lower_ends_hold_at_once_on_one_side(arms, correlation):
    """The largest of k normals, not of their absolute values: gains over a mix are of opposite
    signs. Of two with correlation −1, Bonferroni is exact.
    """
    matrix = np.full((arms, arms), correlation) + (1 - correlation) * np.eye(arms)
    level = simultaneous_alpha(matrix, 0.05, one_sided=True)
    critical = stats.norm.isf(level / 2)
    law = stats.multivariate_normal(cov=matrix, allow_singular=True)
    missed = np.mean(law.rvs(400_000, random_state=1).max(axis=1) > critical)
    assert missed == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 100_000))


def test_an_arm_of_few_rows_is_promised_nothing_and_vetoes_nothing(logged):
    """Three clicks of three are no reason to keep, nor to change to it; nor is an arm that nobody
    was shown.
    """
    logs = logged[0]
    arms = np.concatenate([ARMS, [[2.0, 2.0], [3.0, 3.0]]])
    share = np.append(SHARE * 0.998, [0.001, 0.001])
    action = np.concatenate([logs.action, np.full((3, 2), 2.0)])
    arm = np.argmin(np.abs(action[:, None] - arms[None]).sum(axis=2), axis=1)
    reward = np.concatenate([logs.reward, np.ones(3)])
    table = mopl_jax.read_logs(
        pa.table({"w_a": action[:, 0], "w_b": action[:, 1], "click": reward, "p": share[arm]}),
        action="w_",
        reward="click",
        propensity="p",
    )
    made = mopl_jax.choose_arm(table, production=ARMS[0])
    few = next(x for x in made.arms if x.action == (2.0, 2.0))
    assert (few.verdict, few.certified_gain) == ("refuse", -np.inf)
    assert made.chosen.action == (1.0, 0.2)
    assert not made.keep


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"production": [0.3, 0.3]}, "production: expected one of the 4 arms of the log, got 0.3"),
        (
            {"constraints": mopl_jax.constraints.Bounds(high=0.1)},
            "got none that bounds of the weights leave",
        ),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 0.6}, "alpha: expected a bound on one side below 0.5"),
        ({"estimator": "best"}, "estimator"),
    ],
)
def test_what_arms_do_not_have_is_said(options, complaint, logged):
    with pytest.raises(ValueError, match="(?s).*") as refused:
        mopl_jax.choose_arm(logged[0], **options)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_weights_that_vary_are_no_arms():
    """Two decimals, and a weight of few values beside one of many."""
    rng = np.random.default_rng(1)
    action = np.stack([rng.normal(size=400), rng.integers(0, 3, 400)], axis=1)
    logs = Logs(action, np.zeros(400), rng.normal(size=400))
    assert arms_of(open_log(logs)) is None


def test_the_command_chooses_and_its_artifact_is_a_policy(tmp_path, monkeypatch, logged):
    """What it wrote is evaluated at the value that it printed; rows repeat by nature."""
    monkeypatch.chdir(tmp_path)
    logs, arm = logged
    lines = [
        "a_x,a_y,click,p",
        *(
            f"{ARMS[k][0]},{ARMS[k][1]},{r},{SHARE[k]}"
            for k, r in zip(arm, logs.reward, strict=True)
        ),
    ]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    roles = ("--action", "a_", "--reward", "click", "--propensity", "p")
    said = document("learn", "log.csv", *roles, "--production", "0.2,1", "--out", "arm.json")
    assert said["certified"] == 3
    assert said["verdict"] == "caution"  # no logging policy is declared
    assert not any("exported twice" in text for text in said["reasons"])
    found = document("evaluate", "log.csv", *roles, "--target", "arm.json")
    assert found["value"] == pytest.approx(said["arms"][1]["value"], rel=1e-6)
    shown = mopl("learn", "log.csv", *roles, "--production", "0.2,1", "--out", "other.json")
    assert shown.code == 0
    assert "change to arm 3: it (a_x 1, a_y 0.2) gains at least" in " ".join(shown.out.split())
    assert "of weights between the arms no row was played" in " ".join(shown.out.split())
    refused = mopl("learn", "log.csv", *roles, "--folds", "4", "--out", "no.json")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--folds: expected a log of weights that vary, got one of arms" in refused.err
    assert json.loads((tmp_path / "arm.json").read_text())["actions"] == [[1.0, 0.2]]


@pytest.mark.nightly
@pytest.mark.parametrize("production", [None, ARMS[0]], ids=["what was played", "an arm"])
def test_equal_arms_are_seldom_changed_to(production):
    """In 5 % of logs at most, whichever of the arms looks best, with 400 rows in all."""
    rng, logs, changed = np.random.default_rng(2), 400, 0
    for _ in range(logs):
        made = mopl_jax.choose_arm(log(rng, 400, np.full(4, 0.3))[0], production=production)
        changed += not made.keep
    assert stats.binom.sf(changed - 1, logs, 0.05) > 1e-3

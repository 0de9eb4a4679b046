"""The verbs: learn and certify, from a log to an artifact that says what is certain."""

import dataclasses
import json

import jax
import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from mopl_jax.diagnostics.weight_diagnostics import diagnose
from mopl_jax.estimators import snips
from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.io.files import finite
from mopl_jax.io.policy_json import read_policy, write_policy
from mopl_jax.learning import constraints, production
from mopl_jax.learning.certification import Certificate, certify
from mopl_jax.learning.exploration import Exploration
from mopl_jax.learning.pipeline import learn
from mopl_jax.logs import Logs, split
from mopl_jax.policies import Gaussian
from mopl_jax.report import words

BEST = np.array([0.9, 0.4])
CHEAP = {"estimator": "snips", "certificate": "normal"}


def log_of(users=400, each=3):
    """Users with a level of their own, whose reward is highest at `BEST`."""
    rng = np.random.default_rng(3)
    user = np.repeat(np.arange(users), each)
    action = 0.5 + 0.3 * rng.normal(size=(user.size, 2))
    z = (action - 0.5) / 0.3
    density = -0.5 * np.sum(z**2, axis=1) - np.log(2 * np.pi * 0.09)
    bowl = -np.sum((action - BEST) ** 2, axis=1)
    noise = 0.1 * rng.normal(size=users)[user] + 0.1 * rng.normal(size=user.size)
    return Logs(action, density, bowl + noise, cluster=user)


@pytest.fixture(scope="module")
def made():
    """Rows that teach, rows that certify, and what is learnt from the first."""
    train, test = split(log_of(), 0.5)
    return train, test, learn(train, constraints=constraints.box(0, 1), **CHEAP)


def test_from_log_to_artifact(made, tmp_path):
    """Reward model and users come along, the policy is feasible, the artifact tells all."""
    _, test, learnt = made
    target = Gaussian.diagonal([0.5, 0.5], scale=0.1)
    certificate = certify(learnt, test, baseline=target)
    assert np.all((learnt.policy.mean >= 0) & (learnt.policy.mean <= 1))
    assert certificate.bound < certificate.value
    assert not certificate.keep
    path = write_policy(tmp_path / "new.json", learnt.policy, certificate=certificate)
    policy, document = read_policy(path)
    np.testing.assert_allclose(policy.mean, learnt.policy.mean, rtol=1e-6)
    assert document["certificate"] == finite(certificate.to_dict())
    weights = certify(learnt, test, baseline=[0.5, 0.5])
    np.testing.assert_array_equal(weights.bound, certificate.bound)


def test_logs_in_memory_are_all_learnt_from(made):
    """Who gives `Logs` has split them: nothing is held out, so nothing is promised."""
    train, _, learnt = made
    assert learnt.held is None
    assert learnt.certificate is None
    assert learnt.advice == "keep the current weights"
    assert "certify it on other users" in learnt.reason
    document = learnt.to_dict()
    assert document["rows"] == {"learning": len(train.reward)}
    assert "certified_gain" not in document
    json.dumps(document)


def test_a_share_is_held_out_by_user_and_certified():
    """As `certify` does on the same rows."""
    learnt = learn(log_of(), share=0.5, production=[0.5, 0.6], **CHEAP)
    assert len(learnt.held.reward) == 600
    assert learnt.held.num_clusters == 200
    again = certify(learnt, learnt.held, [0.5, 0.6])
    jax.tree.map(np.testing.assert_array_equal, again, learnt.against_production)
    assert repr(learnt).startswith("LearntWeights(action[0]=")
    assert learnt.advice in repr(learnt)
    assert len(repr(learnt)) < 300
    _assert_served(learnt)


def _assert_served(learnt):
    """−|a − b|² loses Σs² by a scale s: production at one point has that more, one that is as wide
    as the policy nothing; a gain that is certain only without it is doubted.
    """
    wide = np.sum(np.diagonal(learnt.policy.covariance))
    added, error = learnt.served
    assert abs(added - wide) < 4 * error < wide
    same = Gaussian(np.array([0.5, 0.6]), learnt.policy.scale)
    assert production.served_now(same, ["a", "b"], learnt).added == pytest.approx(0, abs=1e-9)
    half = {"gain_bound": np.asarray(0.5 * added), "keep": np.asarray(False)}
    bound = dataclasses.replace(learnt.against_production, **half)
    doubted = dataclasses.replace(learnt, against_production=bound)
    assert "over that nothing is certain" in " ".join(doubted.reasons)
    assert doubted.verdict != "trust"
    assert doubted.outplayed == (0.5 * added > 2 * error)
    assert doubted.keep
    assert "over that nothing is certain" in doubted.reason
    near = dataclasses.replace(bound, gain_bound=np.asarray(added - error))
    near = dataclasses.replace(learnt, against_production=near)
    assert not near.keep
    assert near.verdict != "trust"
    sure = dataclasses.replace(bound, gain_bound=np.asarray(2 * added + 4 * error))
    fine = dataclasses.replace(learnt, against_production=sure)
    assert not any("over that nothing" in text for text in fine.reasons)


def test_advice_follows_the_certificate_that_decides(made):
    learnt = made[2]
    trusted = diagnose(snips(np.zeros(200), np.arange(200.0)))
    change = Certificate(*np.zeros(5), np.asarray(False), trusted, 200)
    keep = dataclasses.replace(change, keep=np.asarray(True))
    certified = dataclasses.replace(learnt, certificate=change)
    assert certified.advice == "change to the learnt weights"
    against = dataclasses.replace(certified, against_production=keep)
    assert against.advice == "keep the current weights"


def test_keep_says_how_many_users_would_do(made):
    """A bound two gains below the estimate: four times the users bring it to 0."""
    trusted = diagnose(snips(np.zeros(200), np.arange(200.0)))
    short = Certificate(0.0, 0.0, 100.0, 0.5, -0.5, np.asarray(True), trusted, 200)
    learnt = dataclasses.replace(made[2], certificate=short)
    users = made[0].num_clusters + 200
    assert learnt.needed == pytest.approx(4 * users)
    assert f"about {4 * users:,} users in all bring the bound to zero" in learnt.reason
    none = dataclasses.replace(short, gain=np.asarray(-0.5), gain_bound=np.asarray(-np.inf))
    guessed = learnt.proposal.guessed
    expected = (1.6449 * float(guessed.noise) / float(guessed.gain - guessed.error)) ** 2 * users
    assert dataclasses.replace(learnt, certificate=none).needed == pytest.approx(expected, rel=1e-3)


def test_both_answers_are_in_the_document(made):
    document = made[2].to_dict()
    for name, policy in (("best_guess", made[2].proposal.guess), ("certified", made[2].policy)):
        np.testing.assert_array_equal(document[name]["mean"], policy.mean)
        assert document[name]["predicted_error"] > 0


def test_wrong_densities_are_refused_as_evaluate_refuses_them(made):
    """Propensities of a policy one standard deviation off: keep, whatever the bound says."""
    _, test, learnt = made
    gap = (np.asarray(test.action)[:, 0] - 0.5) / 0.3
    wrong = dataclasses.replace(test, log_propensity=test.log_propensity + gap - 0.5)
    refused = certify(learnt, wrong, baseline=[0.5, 0.5])
    assert refused.verdict == "refuse"
    assert refused.keep
    assert refused.bound == refused.gain_bound == -np.inf
    assert refused.reasons == evaluate(wrong, learnt.policy).reasons
    assert certify(learnt, test, baseline=[0.5, 0.5]).verdict != "refuse"


def test_constraints_bind_the_mean_and_the_share_outside_is_said():
    """The mean at the lower bound: half of the draws are below it; at one deviation, Φ(−1)."""
    policy = Gaussian.diagonal([0.0, 0.3], scale=0.1)
    for low, share in (([0.0, -9.0], 0.5), ([-9.0, 0.2], stats.norm.cdf(-1))):
        found = constraints.share_outside(constraints.box(low, np.inf), policy)
        assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / constraints.DRAWS)
    learnt = learn(log_of(), constraints=constraints.box(-np.inf, 0.3), **CHEAP)
    assert learnt.outside == constraints.share_outside(learnt.plan.project, learnt.policy) > 0.4
    assert learnt.to_dict()["outside_constraints"] == learnt.outside


def test_what_to_explore_with_next_is_as_constraints_allow():
    """Its mean keeps levels, a sum and a largest change, which the logged mean does not; the share
    of its draws outside is said.
    """
    bounds = constraints.Bounds(low=0.0, high=[1.0, 0.45], total=1.0, max_change=0.1)
    learnt = learn(log_of(), constraints=bounds, production=[0.55, 0.45], **CHEAP)
    mean = np.asarray(learnt.exploration.policy.mean)
    assert mean.sum() == pytest.approx(1.0, abs=1e-6)
    assert 0.55 - 1e-6 <= mean[0] <= 0.65 + 1e-6
    said = learnt.to_dict()["explore_next"]["outside_constraints"]
    assert said == learnt.explored_outside > 0.99  # of no plane a normal policy stays in
    assert f"; {said:.0%} of its draws are outside the constraints" in words.exploration(learnt)


def test_weights_of_one_column_of_lists_are_named_by_it():
    action = np.column_stack([np.linspace(0, 1, 50), np.full(50, 2.0)])
    lists = pa.FixedSizeListArray.from_arrays(pa.array(action.ravel()), 2)
    log = pa.table({"w": lists, "reward": action[:, 0] ** 2, "log_propensity": np.zeros(50)})
    with pytest.raises(ValueError, match=r"weight 'w\[1\]': all 50 rows played 2"):
        learn(log, action="w")


def test_roles_need_a_path():
    with pytest.raises(ValueError, match="expected a path to go with 'action', got Logs in memory"):
        learn(log_of(), action="w_")


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"low": [0, 0, 0]}, "low: expected one number or 2, got 3"),
        ({"max_change": 0.1}, "max_change: change from what"),
        ({"low": 0.5, "high": 0.4}, "infeasible constraints: weight 1 of 2"),
    ],
)
def test_bounds_that_cannot_be_kept_are_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        constraints.Bounds(**bounds).projection(2)


def test_bounds_are_kept():
    """Levels, a sum and a largest change at once."""
    bounds = constraints.Bounds(low=0.0, high=[1.0, 0.5], total=1.0, max_change=0.2)
    found = bounds.projection(2, np.array([0.6, 0.4]))(np.array([2.0, -1.0]))
    np.testing.assert_allclose(found, [0.8, 0.2], atol=1e-6)
    assert constraints.Bounds().projection(2) is constraints.unconstrained


def without_users(logs):
    """The same rows, their users forgotten."""
    return Logs(logs.action, logs.log_propensity, logs.reward)


def with_nan(logs):
    """The first reward missing."""
    reward = np.array(logs.reward)
    reward[0] = np.nan
    return dataclasses.replace(logs, reward=reward)


def of_arms(logs):
    return dataclasses.replace(logs, action=np.round(np.asarray(logs.action)))


def clipped(logs):
    return dataclasses.replace(logs, action=np.maximum(np.asarray(logs.action), 0.3))


@pytest.mark.parametrize(
    ("spoil", "alpha", "message"),
    [
        (of_arms, None, "arms"),
        (clipped, None, "clipped"),
        (without_users, None, "users"),
        (with_nan, None, "finite reward"),
        (lambda logs: logs, 0, "alpha"),
    ],
)
def test_certify_refuses_what_would_be_a_wrong_bound(made, spoil, alpha, message):
    """Arms or clipped weights for a density, forgotten users, missing rewards, no level."""
    _, test, learnt = made
    with pytest.raises(ValueError, match=message):
        certify(learnt, spoil(test), baseline=[0.5, 0.5], alpha=alpha)


def test_certify_refuses_a_baseline_that_is_no_point(made):
    """A gain over NaN would be one over nothing."""
    _, test, learnt = made
    with pytest.raises(ValueError, match="a baseline of finite weights, got .0.5, nan"):
        certify(learnt, test, baseline=[0.5, np.nan])


def test_a_certificate_prints_what_can_be_read_of_it(made):
    """Its repr has the names of its fields."""
    _, test, learnt = made
    certificate = certify(learnt, test, baseline=[0.5, 0.5])
    assert f"gain_bound={float(certificate.gain_bound):.4g}" in repr(certificate)
    assert f"keep={bool(certificate.keep)}" in repr(certificate)


FEW = [(20, 2, None), (40, 5, None), (48, 10, None), (24, 2, 3)]


@pytest.mark.parametrize(("n", "d", "each"), FEW[:1])
def test_fewer_rows_than_coefficients_keep_the_weights(n, d, each):
    """The surface is its prior: nothing fails, nothing is promised, and a line says why."""
    _assert_kept(n, d, each)


@pytest.mark.nightly
@pytest.mark.parametrize(("n", "d", "each"), FEW[1:])
def test_fewer_rows_than_coefficients_keep_the_weights_of_more(n, d, each):
    _assert_kept(n, d, each)


def _assert_kept(n, d, each):
    rng = np.random.default_rng(0)
    action = rng.normal(size=(n, d))
    density = stats.norm.logpdf(action).sum(axis=1)
    cluster = None if each is None else np.arange(n) // each
    found = learn(Logs(action, density, rng.normal(size=n), cluster=cluster), folds=4)
    assert found.keep
    assert np.isfinite(found.policy.mean).all()
    assert any("a gain that it predicts is a guess" in text for text in found.warnings)


def test_rows_that_do_not_tell_weights_apart_are_refused():
    """Too few of them in all, and too few different ones beside those that certify."""
    rng = np.random.default_rng(0)
    action = rng.normal(size=(40, 2))
    density = stats.norm.logpdf(action).sum(axis=1)
    with pytest.raises(ValueError, match="expected at least 16 rows to learn 2 weights, got 15"):
        learn(Logs(action[:15], density[:15], density[:15]))
    with pytest.raises(ValueError, match="4 or more different actions to teach 2 weights.*got 2"):
        learn(Logs(action, density, action[:, 0]), share=0.95)
    two = np.repeat(action[:4], 10, axis=0)
    users = np.repeat(np.arange(4), 10)
    with pytest.raises(ValueError, match="to teach 2 weights while the others certify, got 2"):
        learn(Logs(two, np.repeat(density[:4], 10), rng.normal(size=40), cluster=users), folds=2)
    outcome = {"clicks:-1%": np.full(40, 0.5)}
    with pytest.raises(ValueError, match="guardrail 'clicks': all 40 rows are 0.5: nothing can"):
        learn(Logs(action, density, action[:, 0]), guardrails=outcome)


@pytest.mark.parametrize("unit", [1e30, 1e-30])
def test_a_certificate_has_the_unit_of_the_reward(made, unit):
    """Of what other outcomes may lose as well."""
    logs = dataclasses.replace(made[0], reward=made[0].reward * unit)
    found = learn(logs, constraints=constraints.box(0, 1), **CHEAP)
    plain, other = (
        certify(x, dataclasses.replace(made[1], reward=made[1].reward * size))
        for x, size in ((made[2], 1.0), (found, unit))
    )
    assert float(other.gain_bound) == pytest.approx(float(plain.gain_bound) * unit, rel=1e-2)
    assert float(plain.gain_bound) > 0


def test_a_log_whose_own_policy_is_the_best_to_explore_with_says_so(made):
    """It is named once, beside what its rows are expected to certify."""
    again = dataclasses.replace(made[2])
    worth = np.float64(0.25)
    again.__dict__["exploration"] = Exploration(again.whitening, worth, worth)
    said = words.exploration(again)
    assert said.startswith("to explore with next: this log's policy again (explore_next")
    assert "certify a gain of 0.25 over" in said

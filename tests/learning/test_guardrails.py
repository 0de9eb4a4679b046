"""Guardrails and folds: what other outcomes may lose is said in one form, kept to by what is
proposed, and certified with the reward at once; folds are one estimate.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import described
from worlds import logged
from yardsticks import KEY, binomial_tail

from mopl_jax.diagnostics.finding import Finding
from mopl_jax.diagnostics.log_report import LogReport
from mopl_jax.estimators import snips
from mopl_jax.estimators.contrast import difference
from mopl_jax.intervals import normal
from mopl_jax.intervals.interval import lower
from mopl_jax.io import policy_json
from mopl_jax.learning import pipeline, stages
from mopl_jax.learning.certification import certify, certify_compiled
from mopl_jax.learning.guardrails import Guarded, guardrail
from mopl_jax.learning.learnt_weights import change, holds
from mopl_jax.learning.objective import VALUATIONS, cross_fitted
from mopl_jax.learning.response_surface import fit_surface
from mopl_jax.logs import Logs, log_weights
from mopl_jax.numerics.pytree import stacked
from mopl_jax.policies import Gaussian
from mopl_jax.report.words import guardrails_table, remarks

# The form.


@pytest.mark.parametrize(
    ("text", "sign", "allowed", "relative"),
    [
        ("revenue:-0.5%", 1, 0.005, True),
        ("reports:+1%", -1, 0.01, True),
        ("a:b:-2", 1, 2.0, False),
        ("reports:+0", -1, 0.0, False),
    ],
)
def test_a_guardrail_is_read_and_written(text, sign, allowed, relative):
    made = guardrail(text)
    assert made == (text.rpartition(":")[0], sign, pytest.approx(allowed), relative)
    assert str(made) == text


@pytest.mark.parametrize(
    "text", ["revenue", "revenue:", "revenue:0.5%", ":-1", "a:-x", "a:--1", "a:-inf", "a:+nan%"]
)
def test_other_forms_are_refused(text):
    with pytest.raises(ValueError, match="guardrail: expected NAME:-0.5%"):
        guardrail(text)


# What is learnt.

N, LEVEL = 3000, 4.0
PRODUCTION = np.zeros(2)
LIMITS = ("revenue:-0.5%", "reports:+0.2")


def outcomes(n, key=KEY):
    """The first weight raises the reward and costs revenue; reports hardly move."""
    z, *noise = jax.random.normal(key, (4, n, 2), jnp.float64)
    reward = np.tanh(z.sum(axis=1)) + 0.5 * noise[0][:, 0]
    revenue = LEVEL - 0.1 * z[:, 0] + 0.2 * noise[1][:, 0]
    reports = 1 + 0.01 * z[:, 1] + 0.2 * noise[2][:, 0]
    return logged(z, reward), dict(zip(LIMITS, map(np.asarray, (revenue, reports)), strict=True))


@pytest.fixture(scope="module")
def made():
    """Two folds, a guardrail that binds and one that does not."""
    logs, of = outcomes(N)
    return pipeline.learn(
        logs,
        folds=2,
        production=PRODUCTION,
        guardrails=of,
        estimator="snips",
        certificate="normal",
    )


@pytest.mark.nightly
def test_what_is_proposed_is_predicted_to_hold(made):
    promise = made.proposal.guarded
    z = 2.128  # one-sided, 0.05 over three bounds
    assert np.all(np.asarray(promise.less(z)) > -0.1 * np.asarray(promise.room))
    assert made.binding == ("revenue:-0.5%",)
    promised, without, other = np.asarray(made.proposal.without)
    assert without > 1.1 * promised > 0
    assert other == pytest.approx(promised, rel=0.05)


@pytest.mark.nightly
def test_bounds_are_those_of_one_contrast_over_all_rows(made):
    """Each row weighed by the policy that its fold did not teach; alpha over three; the share of
    production's revenue estimated too.
    """
    logs, of = outcomes(N)
    fold = stages.folds_of(logs, 2, 0)
    weights = [np.asarray(log_weights(each, logs)) for each in made.policy.components]
    bases = [
        np.asarray(log_weights(Gaussian(PRODUCTION, each.scale), logs))
        for each in made.policy.components
    ]
    mine, base = (np.where(fold == 0, *each) for each in (weights, bases))

    def bound(reward, share):
        value, reference = snips(mine, reward), snips(base, reward)
        gain = difference(value, reference)
        contrast = dataclasses.replace(
            gain,
            value=gain.value + share * reference.value,
            influence=gain.influence + share * reference.influence,
        )
        least = lower(normal)(contrast, 0.05 / 3).lower
        return gain.value, least - share * reference.value

    for found, reward, share in (
        (made.against_production, logs.reward, 0.0),
        (made.guards[0], of[LIMITS[0]], 0.005),
        (made.guards[1], -of[LIMITS[1]], 0.0),
    ):
        expected = jax.jit(bound)(jnp.asarray(reward), share)
        np.testing.assert_allclose((found.gain, found.gain_bound), expected, rtol=1e-6)
    assert made.against_production.units == N


@pytest.mark.nightly
def test_of_a_log_that_is_refused_no_guardrail_is_certain(made):
    refused = Finding("action means", "refuse", "off by one")
    checked = dataclasses.replace(made, checks=LogReport("log", (refused,), 0, {}, 0.0, 0)).judged
    assert checked.broken == tuple(LIMITS)
    assert [x["holds"] for x in checked.to_dict()["guardrails"]] == [False, False]


@pytest.mark.nightly
def test_a_guardrail_that_is_not_certain_keeps(made):
    assert not made.broken
    first = made.guards[0]
    short = dataclasses.replace(first, gain_bound=-2 * first.room)
    assert not holds(short)
    broken = dataclasses.replace(made, guards=(short, made.guards[1]))
    assert broken.broken == ("revenue:-0.5%",)
    assert broken.advice == "keep the current weights"
    assert made.against_production.gain_bound > 0
    assert "guardrail revenue:-0.5% is not certain to hold" in broken.reason
    size, lack = first.gain + first.room, first.gain + 2 * first.room
    assert broken.needed == pytest.approx(float(N * (lack / size) ** 2))


@pytest.mark.nightly
def test_numbers_have_the_sign_of_the_outcome(made):
    """Reports may rise: what is certain is at most."""
    reports = change(made.guardrails[1], made.guards[1])
    assert reports.allowed == pytest.approx(0.2)
    assert reports.certain > reports.change
    assert reports.production == pytest.approx(1, abs=0.05)
    revenue = change(made.guardrails[0], made.guards[0])
    assert revenue.allowed == pytest.approx(-0.005 * LEVEL, rel=0.05)
    assert revenue.certain < revenue.change


@pytest.mark.nightly
def test_all_is_in_the_document_and_in_words(made):
    document = json.loads(json.dumps(made.to_dict()))
    described(policy_json.document(made.played, **document), "learn")
    assert [each["guardrail"] for each in document["guardrails"]] == list(LIMITS)
    assert document["guardrails"] == [each.to_dict() for each in made.judged_guardrails]
    assert [row[0] for row in guardrails_table(made)[1]] == list(LIMITS)
    assert "the guardrail revenue:-0.5% binds" in "\n".join(remarks(made))


@pytest.mark.nightly
def test_a_mixture_is_not_certified_anew(made):
    with pytest.raises(ValueError, match="its own folds have certified"):
        certify(made, outcomes(N)[0], PRODUCTION)


@pytest.mark.parametrize(
    ("given", "options", "complaint"),
    [
        (["revenue:-1%"], {}, "expected a dict with the outcomes"),
        ({"revenue:-1%": np.ones(400)}, {}, "'revenue': all 400 rows are 1"),
        ({"revenue:-1%": np.full(400, np.nan)}, {}, "not a finite number in row 0"),
        ({"revenue:-1%": np.arange(3.0)}, {}, "expected context with 400 rows"),
        ({}, {"trades": 3}, "trades: expected 2 to 100 policies and a guardrail"),
        ({}, {"folds": 2, "share": 0.5}, "folds: expected folds or a share"),
    ],
)
def test_bad_guardrails_are_one_line(given, options, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        pipeline.learn(outcomes(400)[0], guardrails=given, **options)
    assert "\n" not in str(caught.value)


# Folds.


def test_folds_of_one_policy_are_one_estimate():
    """One policy in every fold: SNIPS of all rows, whatever the folds."""
    logs, _ = outcomes(500)
    policy, fold = Gaussian.diagonal([0.3, -0.2], 0.8), jnp.arange(500) % 3
    none, same = jnp.zeros(3), stacked([policy] * 3)  # SNIPS has no use for a surface

    @jax.jit
    def both(logs):
        pooled = cross_fitted(VALUATIONS["snips"], none, fold)(logs)(same)
        return pooled, snips(log_weights(policy, logs), logs.reward)

    values, plain = both(logs)
    for name in ("value", "influence", "log_weight", "residual"):
        np.testing.assert_allclose(getattr(values, name), getattr(plain, name), rtol=1e-9)


def test_interrupted_folds_certify_what_is_there(monkeypatch):
    """After one fold of four: the rows of that fold, and a mixture of one."""
    seen = []
    logs, _ = outcomes(N)

    def certified(found, made, held, fold, given):
        seen.append((len(made), len(held.reward), np.unique(np.asarray(fold)).tolist()))
        return found

    monkeypatch.setattr(stages, "_certified", certified)
    monkeypatch.setattr(stages, "_proposed", lambda *_: proposed)
    proposed = type("Made", (), {"certified": Gaussian.diagonal(PRODUCTION, 1.0)})()
    monkeypatch.setattr(pipeline, "share_outside", lambda *_: 0.0)
    found = pipeline.learn(logs, folds=4, stop=lambda: True)
    assert found.interrupted
    assert seen == [(1, N // 4, [0])]


@pytest.mark.nightly
@pytest.mark.parametrize("reports", [0.0, 0.1])
def test_bounds_of_three_outcomes_hold_at_once(reports):
    """In at least 95 % of logs, with the truth known: reward x₁, revenue 4 − x₁, reports moved."""
    policy = Gaussian.diagonal([0.3, 0.1], 0.8)
    truth = jnp.array([0.3, -0.3 + 0.005 * 4, -0.1 * reports + 0.01])

    def one(key):
        z, noise = jax.random.normal(key, (2, 400, 2), jnp.float64)
        extra = jax.random.normal(jax.random.fold_in(key, 1), (400,), jnp.float64)
        logs = logged(z, z[:, 0] + noise[:, 0])
        revenue, other = LEVEL - z[:, 0] + noise[:, 1], 1 + reports * z[:, 1] + extra
        signed = jnp.stack([revenue, -other])
        guards = Guarded(signed, jnp.array([0.005, 0.01]), jnp.ones(2))
        surface = fit_surface(logs.action, logs.reward, policy)
        surfaces = stacked([surface] * 3)
        asked = VALUATIONS["snips"], normal, 0.05, guards
        found = certify_compiled(policy, logs, PRODUCTION, surfaces, *asked)
        return jnp.all(found.gain_bound + found.room <= truth)

    held = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=50))(jax.random.split(KEY, 1000))
    assert binomial_tail(1000 - int(held.sum()), 1000, 0.05) > 1e-3


@pytest.mark.nightly
def test_rows_that_are_not_kept_teach_nothing():
    """As if they were not there: the proposals of a log and of that log with others."""
    logs, _ = outcomes(600)
    junk = Logs(
        jnp.concatenate([logs.action, 9 + logs.action]),
        jnp.concatenate([logs.log_propensity] * 2),
        jnp.concatenate([logs.reward, 100 * logs.reward]),
    )
    kept = jnp.repeat(jnp.array([1.0, 0.0]), 600)
    made, expected = (
        stages.propose(rows, 600.0, jnp.zeros(2), kept=mask)
        for rows, mask in ((junk, kept), (logs, jnp.ones(600)))
    )
    np.testing.assert_allclose(made.guess.mean, expected.guess.mean, atol=1e-6)
    np.testing.assert_allclose(made.certified.scale, expected.certified.scale, atol=1e-6)
    assert float(made.promised.gain) == pytest.approx(float(expected.promised.gain))

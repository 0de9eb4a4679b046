"""Guardrails of arms: what other outcomes certainly change, at once with the gains."""

import json

import numpy as np
import pyarrow as pa
import pytest
from command import described, document, mopl
from scipy import stats

import mopl_jax
from mopl_jax.io import policy_json
from mopl_jax.learning.guarded_arms import OF_LEVEL
from mopl_jax.logs import Logs
from mopl_jax.policies import Discrete

ARMS = np.array([[0.2, 1.0], [0.5, 0.5], [1.0, 0.2]])
SHARE = np.array([0.4, 0.3, 0.3])
LOGGING = Discrete.of(ARMS, SHARE)
CLICKS = np.array([0.3, 0.36, 0.45])
REVENUE = np.array([4.0, 4.0, 3.6])
REPORTS = np.array([1.0, 1.02, 1.0])
LIMITS = ("revenue:-2%", "reports:+0.1")


def columns(rng, n, clicks=CLICKS, revenue=REVENUE, reports=REPORTS):
    """The arm of each row, and the outcomes under it."""
    arm = rng.choice(len(ARMS), n, p=SHARE)
    made = {"click": (rng.random(n) < clicks[arm]).astype(float)}
    made |= {"revenue": revenue[arm] + rng.normal(size=n)}
    return arm, made | {"reports": reports[arm] + 0.5 * rng.normal(size=n)}


ARM, COLUMNS = columns(np.random.default_rng(0), 20_000)


def choose(limits, arm=ARM, made=COLUMNS, **options):
    logs = Logs(ARMS[arm], np.log(SHARE)[arm], made["click"])
    of = {text: made[text.split(":")[0]] for text in limits}
    return mopl_jax.choose_arm(logs, guardrails=of, **options)


@pytest.fixture(scope="module")
def chosen():
    """Against the first arm; the third gains most and costs revenue."""
    return choose(LIMITS, production=ARMS[0])


def test_an_arm_that_breaks_a_guardrail_is_not_chosen(chosen):
    second, third = chosen.arms
    assert third.certified_gain > second.certified_gain > 0
    assert chosen.broken_by(third) == ("revenue:-2%",)
    assert (chosen.guess.number, chosen.chosen.number, chosen.keep) == (2, 2, False)
    assert choose((), production=ARMS[0]).chosen.number == 3


def test_bounds_are_those_of_differences_of_means(chosen):
    """Welch's standard error and the critical value of two comparisons with one control, at a third
    of alpha, of which production's own outcome takes its share where a share is allowed.
    """
    rho = np.sqrt((1 / SHARE[0]) ** 2 / ((1 / SHARE[0] + 1 / SHARE[1:]).prod()))
    law = stats.multivariate_normal(cov=[[1, rho], [rho, 1]])
    for k, (name, sign) in enumerate((("revenue", 1), ("reports", -1))):
        alpha = 0.05 / 3 * (1 - OF_LEVEL * (name == "revenue"))
        values = np.linspace(1.5, 3.5, 2001)
        critical = values[np.argmax([law.cdf([x, x]) >= 1 - alpha for x in values])]
        first = COLUMNS[name][ARM == 0]
        for arm in chosen.arms:
            own, made = COLUMNS[name][ARM == arm.number - 1], arm.changes[k]
            error = np.sqrt(own.var() / len(own) + first.var() / len(first))
            assert made.change == pytest.approx(own.mean() - first.mean(), abs=1e-6)
            bound = made.change - sign * critical * error
            assert made.certain == pytest.approx(bound, abs=0.03 * error)
    error = COLUMNS["revenue"][ARM == 0].std() / np.sqrt(np.sum(ARM == 0))
    level = COLUMNS["revenue"][ARM == 0].mean()
    least = level - stats.norm.isf(OF_LEVEL * 0.05 / 3 / 2) * error
    assert chosen.chosen.changes[0].allowed == pytest.approx(-0.02 * least, abs=2e-3 * 0.02)
    assert chosen.chosen.changes[1].allowed == 0.1


def test_what_binds_is_said(chosen):
    revenue, reports = chosen.judged_guardrails
    assert (revenue.guardrail, revenue.binds, revenue.holds) == ("revenue:-2%", True, True)
    assert revenue.promised_without == chosen.arms[1].certified_gain
    assert (reports.binds, reports.promised_without) == (False, chosen.chosen.certified_gain)
    about = json.loads(json.dumps(chosen.to_dict()))
    described(policy_json.document(chosen.played, **about), "learn")
    assert about["arms"][1]["outcomes"]["revenue:-2%"]["change"] == chosen.arms[1].changes[0].change


def test_infeasible_guardrails_keep_what_is_played():
    """Reports that may not rise: what could be gained is said, and nothing is changed."""
    made = choose(("reports:+0",), production=ARMS[0])
    assert made.keep
    assert made.broken == ("reports:+0",)
    assert "no arm is certain to gain over arm 1 and to keep to all guardrails" in made.reason
    assert "(arm 3 gains at least" in made.reason
    assert "reports:+0 is not certain to hold" in made.reason


def test_a_guardrail_of_no_cost_takes_its_share_of_alpha_alone():
    plain, made = (choose(limits, production=ARMS[0]) for limits in ((), ("reports:+0.5",)))
    assert made.chosen.number == plain.chosen.number == 3
    narrower, wider = (x.chosen.gain - x.chosen.certified_gain for x in (plain, made))
    assert 1.1 < wider / narrower < 1.2  # 2.24 / 1.95


@pytest.mark.parametrize(
    ("limits", "made", "complaint"),
    [
        (("revenue",), COLUMNS, "guardrail: expected NAME:-0.5%"),
        (
            ("revenue:-1%",),
            COLUMNS | {"revenue": np.ones(len(ARM))},
            "guardrail 'revenue': all 20000 rows are 1: nothing can break it",
        ),
    ],
)
def test_bad_guardrails_are_one_line(limits, made, complaint):
    with pytest.raises(ValueError, match="guardrail") as caught:
        choose(limits, made=made)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_guards_arms(tmp_path, monkeypatch):
    """From a file, with users; an absent column is one line; the numbers are those in memory."""
    monkeypatch.chdir(tmp_path)
    table = {"w_a": ARMS[ARM, 0], "w_b": ARMS[ARM, 1], "p": SHARE[ARM], **COLUMNS}
    pa.parquet.write_table(pa.table(table), "log.parquet")
    roles = ("--action", "w_", "--reward", "click", "--propensity", "p", "--production", "0.2,1")
    guards = [part for text in LIMITS for part in ("--guardrail", text)]
    said = document("learn", "log.parquet", *roles, *guards, "--out", "arm.json")
    assert (said["certified"], said["advice"]) == (2, "change to arm 2")
    assert [each["holds"] for each in said["guardrails"]] == [True, True]
    shown = mopl("learn", "log.parquet", *roles, *guards, "--out", "other.json")
    assert "not revenue:-2%" in " ".join(shown.out.split())
    absent = mopl("learn", "log.parquet", *roles, "--guardrail", "sales:-1%", "--out", "no.json")
    assert (absent.code, absent.err.count("\n")) == (2, 1)
    assert "sales" in absent.err


@pytest.mark.nightly
@pytest.mark.parametrize("production", [None, ARMS[0]], ids=["what was played", "an arm"])
def test_bounds_of_all_arms_and_outcomes_hold_at_once(production):
    """In at least 95 % of logs of 600 rows, with the truth known."""
    rng, logs, held = np.random.default_rng(1), 300, 0
    for _ in range(logs):
        made = choose(LIMITS, *columns(rng, 600), production=production)
        base = SHARE if production is None else np.array([1.0, 0, 0])
        held += all(_true(arm, base) for arm in made.arms)
    assert stats.binom.cdf(held, logs, 0.95) > 1e-3


def _true(arm, base):
    gain, revenue, reports = (x[arm.number - 1] - base @ x for x in (CLICKS, REVENUE, REPORTS))
    first, second = arm.changes
    room = -first.allowed <= 0.02 * base @ REVENUE
    bounds = arm.certified_gain <= gain, first.certain <= revenue, second.certain >= reports
    return room and all(bounds)


def test_an_outcome_that_an_arm_has_not_shown_is_not_certain_to_hold():
    """Forty rows without a report say nothing of how rare reports are."""
    rng = np.random.default_rng(3)
    arm = (np.arange(2000) % 50 == 0).astype(int)
    click = (rng.random(2000) < np.where(arm == 1, 0.9, 0.1)).astype(float)
    reports = (rng.random(2000) < 0.02) * (arm == 0).astype(float)
    share = np.array([0.98, 0.02])
    logs = Logs(ARMS[arm], np.log(share)[arm], click)
    made = mopl_jax.choose_arm(logs, production=ARMS[0], guardrails={"reports:+0.01": reports})
    assert made.arms[0].certified_gain > 0
    assert made.broken_by(made.arms[0]) == ("reports:+0.01",)
    assert made.keep


def test_the_reason_names_the_arm_that_gains_and_the_guardrail_it_breaks():
    """The arm that keeps to it gains nothing that is certain."""
    clicks = np.array([0.3, 0.3, 0.45])
    arm, made = columns(np.random.default_rng(4), 20_000, clicks=clicks)
    kept = choose(("revenue:-2%",), arm, made, production=ARMS[0])
    assert kept.keep
    assert not kept.broken
    assert "arm 3 gains at least" in kept.reason
    assert "revenue:-2% is not certain to hold" in kept.reason

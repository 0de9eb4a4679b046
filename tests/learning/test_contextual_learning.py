"""Weights by context: segments that differ are told apart and certified, none is invented, and what
cannot be a context is refused in one line before anything is learnt.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from command import described
from scipy import stats

from mopl_jax.diagnostics.finding import Finding
from mopl_jax.diagnostics.log_report import LogReport
from mopl_jax.evaluation.comparison import compare
from mopl_jax.io.policy_json import read_policy, write_policy
from mopl_jax.io.read import read_logs
from mopl_jax.learning import contextual as learnt_by_context
from mopl_jax.learning import contextual_weights
from mopl_jax.learning.constraints import box
from mopl_jax.learning.deviations import Situation, bends, expected_bends, fit_deviations, width
from mopl_jax.learning.pipeline import learn, learn_contextual
from mopl_jax.learning.seen import Seen
from mopl_jax.learning.segments import check_levels, check_shared, segmentation
from mopl_jax.logs import Logs
from mopl_jax.policies import Gaussian, Segmented
from mopl_jax.policies.contextual import Levels
from mopl_jax.report import contextual_screen, page

N, D = 1200, 2
LOGGING = Gaussian.diagonal(np.zeros(D), 1.0)
BEST = {"DE": np.array([0.9, 0.0]), "FR": np.array([-0.9, 0.3]), None: np.array([0.0, 0.2])}
ROLES = {"action": "w_", "logging": LOGGING, "cluster": "user"}


def log_of(best, n=N, seed=0):
    """Rows of two a user, whose reward falls off from the best weights of their country."""
    rng = np.random.default_rng(seed)
    country = rng.choice(3, n // 2, p=[0.5, 0.4, 0.1]).repeat(2)
    names = list(best)
    action, own = rng.normal(size=(n, D)), np.stack([best[name] for name in names])[country]
    reward = -0.3 * np.square(action - own).sum(axis=1) + 0.4 * rng.normal(size=n)
    columns = {f"w_{k}": action[:, k] for k in range(D)}
    columns |= {"reward": reward, "country": [names[k] for k in country]}
    return pa.table(columns | {"user": np.arange(n) // 2, "age": rng.normal(size=n)})


@pytest.fixture(scope="module")
def learnt():
    """By country, halved."""
    return learn_contextual(log_of(BEST), "country", share=0.5, **ROLES)


def test_segments_that_differ_have_weights_of_their_own(learnt):
    """Their means move to the best ones, on average not at all, and the gain over the global
    weights is certain; so is that of both large segments at once.
    """
    assert learnt.personalise
    assert 0 < learnt.least <= float(learnt.over_global.gain_bound)
    assert learnt.interval[0] < float(learnt.over_global.gain) < learnt.interval[1]
    german, french, missing = learnt.segments
    assert (german.values, french.values, missing.values) == (("DE",), ("FR",), (None,))
    assert german.change[0] > 0.4
    assert french.change[0] < -0.4
    assert min(german.lower, french.lower) > 0
    held = sum(each.share for each in learnt.segments)
    assert held == pytest.approx(1)
    shares = np.array([0.5, 0.4, 0.1])
    rounding = 4 * 1.3 * (0.25 / 300) ** 0.5  # of the shares of 300 users
    assert abs(shares @ [each.change[0] for each in learnt.segments]) < rounding


def test_a_log_that_is_refused_promises_no_segment_anything(learnt):
    """Nothing is personalised, and no bound is left."""
    refused = Finding("action means", "refuse", "off by one")
    checked = dataclasses.replace(learnt.learnt, checks=LogReport("log", (refused,), 0, {}, 0.0, 0))
    made = dataclasses.replace(learnt, learnt=checked.judged).judged
    assert (made.verdict, made.personalise, made.keep) == ("refuse", False, True)
    assert (made.least, made.interval) == (-np.inf, (-np.inf, np.inf))
    assert {(x.lower, x.upper) for x in made.segments} == {(-np.inf, np.inf)}
    about = made.to_dict()
    assert about["certified_gain"] == about["certified_lower_bound"] == -np.inf
    assert about["needed"] is None


def test_the_reason_begins_with_what_is_advised(learnt):
    """Where nothing is personalised the advice is of the global weights, and so is what follows it:
    "change …: no gain … is certain" reads as a contradiction.
    """
    none = dataclasses.replace(learnt.over_global, gain_bound=np.asarray(-1.0))
    made = dataclasses.replace(learnt, over_global=none)
    assert not made.personalise
    first, _, _ = made.reason.partition("; ")
    assert (made.advice, first) == (learnt.learnt.advice, learnt.learnt.reason.partition("; ")[0])
    assert "nothing is personalised" in made.reason


def test_what_is_served_is_what_was_certified(tmp_path, learnt):
    """Read back from its artifact, it has the certified gain on other rows, by `compare`."""
    about = learnt.to_dict()
    assert about["advice"] == "change to the contextual weights"
    path = write_policy(tmp_path / "policy.json", learnt.played, **about)
    described(json.loads(path.read_text()), "learn")
    served: Any = read_policy(path)[0]
    for name in BEST:
        np.testing.assert_allclose(
            served.at(country=name).mean, learnt.policy.at(country=name).mean, rtol=1e-12
        )
    other = log_of(BEST, seed=1)
    mean, scale = learnt.learnt.policy.mean, served.otherwise.scale
    _, made = compare(other, [Gaussian(mean, scale), path], alpha=0.002, **ROLES).policies
    assert made.difference.lower < float(learnt.over_global.gain) < made.difference.upper
    true = sum(
        share * (np.square(mean - best).sum() - np.square(served.at(country=x).mean - best).sum())
        for share, (x, best) in zip([0.5, 0.4, 0.1], BEST.items(), strict=True)
    )
    assert learnt.least <= 0.3 * true


def test_the_screen_says_what_the_artifact_says(capsys, learnt):
    """The advice, each segment, and what to explore with next, which is for all contexts alike."""
    contextual_screen.show(learnt, Path("policy.json"))
    printed, next_round = capsys.readouterr().out, learnt.to_dict()["explore_next"]
    lower, upper = learnt.interval
    for text in (
        f"{learnt.advice}: {learnt.reason}",
        f"with confidence 0.95 between {lower:.4g} and {upper:.4g}",
        *(contextual_weights.labelled(each) for each in learnt.segments),
        "for all contexts alike, to explore with next: this log's policy again",
        f"certify a gain of {next_round['expected_certified_gain']:.3g} over",
    ):
        assert text in printed
    assert learnt.to_dict()["outside_constraints"] == 0
    assert "outside the constraints" not in printed
    bounded = dataclasses.replace(learnt, forbidden=0.25)
    contextual_screen.show(bounded, Path("policy.json"))
    assert "warning: 25% of the policy's draws are outside" in capsys.readouterr().out
    means = [learnt.learnt.policy.mean, learnt.learnt.proposal.guess.mean]
    low, high = np.min(means, axis=0), np.max(means, axis=0)
    assert np.all((low - 1e-9 <= next_round["mean"]) & (next_round["mean"] <= high + 1e-9))


def test_the_page_says_what_is_served(tmp_path, monkeypatch, learnt):
    """The advice on weights by context above, that on global weights below their segments."""
    monkeypatch.setattr(page, "figures_of", lambda learnt: [])
    text = page.write(tmp_path, learnt).read_text()
    served, whole = f"<h1>{learnt.advice}</h1>", f"The global weights: {learnt.learnt.advice}</h2>"
    cell = f"<td>{learnt.segments[0].lower:.4g}</td>"
    assert text.index(served) < text.index(cell) < text.index(whole)
    assert "The global weights" not in page.write(tmp_path, learnt.learnt).read_text()


@pytest.mark.parametrize("folds", [None, 2])
def test_the_share_of_draws_that_constraints_forbid_is_that_of_segments(learnt, folds):
    """Half of those whose mean is at a bound, Φ of its distance of others; each fold by what taught
    it.
    """
    project, segments = box([0.5, -np.inf], np.inf), learnt.policy
    scale = np.sqrt(np.asarray(segments.otherwise.covariance)[0, 0])
    means = np.array([0.5, 0.5 + scale])
    code = np.repeat([0, 1], [1500, 500])
    judge: Any = Seen(
        ("country",), Situation(code, np.ones((2000, 1))), np.zeros((2000, 0)), 2, None
    )

    def part(shift):
        each = [Gaussian.diagonal([mean + shift, 0.0], scale) for mean in means]
        policy = Segmented.of(("country",), [("DE",)], each[:1], each[1])
        return learnt_by_context.Part(learnt.learnt.proposal, None, None, policy, True)

    share = stats.norm.cdf([[0, -1], [-1, -2]])
    own, parts = np.zeros(2000, int), [part(0.0)]
    if folds:
        own, parts = np.arange(2000) % 2, [part(0.0), part(scale)]
    expected = share[own, code].mean()
    found = learnt_by_context._outside(project, parts, judge, own)
    assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / 2000)


def test_a_block_of_no_use_is_shrunk_to_nothing():
    """Where segments do not differ the evidence leaves less than an error of no use; where one
    does, its slope is found, and that of one of few rows is between it and nothing.
    """
    rng = np.random.default_rng(0)
    action, place = rng.normal(size=(4000, D)), np.repeat([0, 1, 2], [1980, 20, 2000])
    situation = Situation(place, np.ones((4000, 1)))

    def slopes(difference):
        reward = difference * action[:, 0] * np.array([1.0, 1.0, -1.0])[place]
        logs = Logs(*map(jnp.asarray, (action, np.zeros(4000), reward + rng.normal(size=4000))))
        return np.asarray(fit_deviations(logs, situation, np.ones(4000), 3).coefficients)[:, 0, 1]

    none = slopes(0.0)
    assert np.abs(none).max() < 0.03
    large, small, other, last = slopes(0.5)
    np.testing.assert_allclose([large, other], [0.5, -0.5], atol=4 * 2000**-0.5)
    assert 0.0 < small < 0.5 + 4 * 20**-0.5
    assert last == 0


def test_expected_bends_are_those_of_draws():
    """By Gauss–Hermite quadrature, exact to rounding for polynomials, closely for waves."""
    mean, scale = jnp.array([0.4, -0.7]), jnp.array([0.5, 0.9])
    x, w = np.polynomial.hermite_e.hermegauss(40)
    grid = jnp.asarray(np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2))
    found = jax.vmap(lambda z: bends(mean + scale * z))(grid)
    weights = jnp.asarray((w[:, None] * w[None]).ravel() / (2 * np.pi))
    np.testing.assert_allclose(weights @ found, expected_bends(mean, scale), atol=1e-10)
    assert len(found[0]) == width(2)


def test_rare_segments_have_the_weights_of_all():
    country = Levels(("a", "b", "c"), np.array([0] * 50 + [1] * 30 + [2] * 5))
    found = segmentation([country], ["country"], "log")
    assert (found.values, found.others) == ((("a",), ("b",)), 1)
    assert np.bincount(found.code).tolist() == [50, 30, 5]


ANY = log_of(BEST)
THREE = Gaussian.diagonal(np.zeros(3), 1.0)
ONE = {"cluster": "user", "action": "w_", "logging": LOGGING}


@pytest.mark.parametrize(
    ("context", "options", "message"),
    [
        ("countri", {}, "no column 'countri'; did you mean 'country'?"),
        ("country,country", {}, "expected columns once each"),
        ("user", {}, "column 'user': it names the user"),
        ("country,user", {"mean": "network"}, "column 'user': it names the user"),
        ("login", {}, "column 'login': 600 levels for 600 users: it all but names the user"),
        ("age", {}, "column 'age': 1,200 different numbers are no segments"),
        ("one", {}, "context one: all 1,200 rows are alike"),
        ("one", {"mean": "linear"}, "column 'one': all rows are alike"),
        ("country", {"mean": "tabel"}, "unknown mean: 'tabel'; did you mean 'table'?"),
        ("country", {"guardrails": ["age:-1%"]}, "guardrails: expected no context"),
        (
            "country",
            {"production": Segmented.of(("country",), [("DE",)], [THREE], THREE)},
            "production: expected 2 weights, as many as the log has, got 3",
        ),
        ("age", {"mean": "linear", "folds": 4}, "folds: expected one split for a linear mean"),
    ],
)
def test_what_is_no_context_is_refused_in_one_line(context, options, message):
    table = ANY.append_column("one", pa.array(np.full(N, 3.0)))
    table = table.append_column("login", table["user"])
    with pytest.raises(ValueError, match=message) as error:
        learn_contextual(table, context, **ONE, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "role"), [("reward", "reward"), ("w_1", "action")])
def test_what_follows_the_action_is_no_context(name, role):
    with pytest.raises(ValueError, match=f"known before the action, got its {role}"):
        learn_contextual(log_of(BEST), ["country", name], **ROLES)


def test_levels_of_few_rows_each_are_refused():
    table = log_of(BEST).append_column("city", pa.array([str(k % 100) for k in range(N)]))
    with pytest.raises(ValueError, match="100 segments, none of 20 rows"):
        learn_contextual(table, "city", **ROLES)


def test_columns_that_name_the_user_together_are_refused():
    """Six and ten levels, which ten and six users share, of sixty users with twenty rows each; by
    one of them alone nobody is named.
    """
    user = np.repeat(np.arange(60), N // 60)
    table = ANY.drop_columns(["user"]).append_column("user", pa.array(user))
    for name, levels in (("city", user // 10), ("age_class", user % 10)):
        table = table.append_column(name, pa.array(levels.astype(str)))
    with pytest.raises(ValueError, match="60 segments with 60 users in all") as error:
        learn_contextual(table, "city,age_class", **ONE)
    assert "\n" not in str(error.value)
    check_shared(segmentation([levels_of(user // 10)], ["city"], "log"), ["city"], "log", user)


def levels_of(code):
    return Levels(tuple(map(str, np.unique(code))), code)


def test_logs_without_names_of_columns_are_refused():
    with pytest.raises(ValueError, match="expected a path or a table, whose columns have names"):
        learn_contextual(read_logs(ANY, **ONE), "country")


def test_a_column_of_too_many_levels_is_refused():
    many = Levels(tuple(map(str, range(1001))), np.arange(10_000) % 1001)
    with pytest.raises(ValueError, match="1,001 levels, of which 1,000 are the most; group them"):
        check_levels(many, "city", "log", None, False)


@pytest.mark.nightly
@pytest.mark.parametrize("mean", ["linear", "network"])
def test_means_that_are_functions_of_the_context_are_certified_and_read_back(tmp_path, mean):
    made: Any = learn_contextual(log_of(BEST, 4000), "country,age", mean=mean, **ROLES)
    assert made.personalise
    path = write_policy(tmp_path / "policy.json", made.played, **made.to_dict())
    served: Any = read_policy(path)[0]
    for context in ({"country": "DE", "age": 0.3}, {"country": None, "age": -9.0}, {}):
        np.testing.assert_allclose(
            served.at(**context).mean, made.policy.at(**context).mean, rtol=1e-12
        )
    assert made.policy.at(country="DE", age=0.0).mean[0] > 0.3


def test_a_log_that_is_not_held_is_refused():
    with pytest.raises(ValueError, match=f"expected at most 1,000 rows, which are held, got {N:,}"):
        learn_contextual(log_of(BEST), "country", in_memory=1000, **ROLES)


def by_country(weights, scale=1.0):
    """A policy around weights of each country."""
    own = [Gaussian.diagonal(x, scale) for x in weights.values()]
    return Segmented.of(("country",), [(name,) for name in weights], own, own[-1])


def test_production_that_is_alike_in_all_contexts_is_that_of_all(learnt):
    """The gain over the logging mean, given as a table of countries that are all alike."""
    mean = np.asarray(learnt.learnt.whitening.mean)
    alike = by_country(dict.fromkeys(BEST, mean))
    made = learn_contextual(log_of(BEST), "country", share=0.5, production=alike, **ROLES)
    np.testing.assert_allclose(made.over_current.gain, learnt.over_current.gain, rtol=1e-9)
    bounds = made.over_current.gain_bound, learnt.over_current.gain_bound
    np.testing.assert_allclose(*bounds, rtol=1e-9)
    assert made.least == learnt.least
    assert made.advice == learnt.advice


def test_over_the_best_weights_of_each_country_nothing_is_gained():
    """Nor by the global weights, whose gain over the mean of all is certain."""
    made = learn_contextual(
        log_of(BEST), "country", share=0.5, production=by_country(BEST), **ROLES
    )
    assert float(made.over_current.gain) < 0.05
    assert float(made.global_over_current.gain) < -0.05
    assert made.advice == "keep the current weights"
    said = json.loads(json.dumps(made.to_dict()["personal"]))
    assert said["certified_global_gain_over_current"] < 0
    assert made.to_dict()["needed"] is None


def test_a_log_played_by_context_is_compared_with_what_was_played():
    """As if its policy were given as production; the true gain is of moving by half of the way."""
    played = {name: 0.5 * best for name, best in BEST.items()}
    logging, table = by_country(played), log_of(BEST, seed=3)
    own = np.stack([played[name] for name in table.column("country").to_pylist()])
    weights = {f"w_{k}": table.column(f"w_{k}").to_numpy() + own[:, k] for k in range(D)}
    best = np.stack([BEST[name] for name in table.column("country").to_pylist()])
    action = np.stack(list(weights.values()), axis=1)
    noise = 0.4 * np.random.default_rng(4).normal(size=N)
    weights |= {"reward": -0.3 * np.square(action - best).sum(axis=1) + noise}
    rest = {name: table.column(name) for name in ("country", "user")}
    asked = {"context": "country", "share": 0.5, **ROLES, "logging": logging}
    made, given = (
        learn_contextual(pa.table(weights | rest), production=production, **asked)
        for production in (None, logging)
    )
    assert float(made.over_current.gain) == float(given.over_current.gain)
    most = 0.3 * 0.25 * np.square(best).sum(axis=1).mean()
    assert float(made.over_current.gain_bound) <= most
    assert abs(float(made.over_current.gain) - most) < 0.05
    assert "over the current weights by context" in made.reason


def test_production_by_context_without_one_names_the_remedy():
    with pytest.raises(ValueError, match="--context country"):
        learn(log_of(BEST), production=by_country(BEST), **ROLES)
    other = Segmented.of(("region",), [("x",)], [LOGGING], LOGGING)
    with pytest.raises(ValueError, match="the production depends on region: no column"):
        learn_contextual(log_of(BEST), "country", production=other, **ROLES)

"""The loop does what it says: adopts what is certified and better, keeps otherwise; and `mopl
simulate` refuses bad input.
"""

import jax
import numpy as np
import pytest
from command import assert_refused, mopl
from scipy import stats
from worlds import bowl, kuairand, write
from yardsticks import KEY, eps

from mopl_jax.metrics import experiments, objectives, past
from mopl_jax.simulation import closed_loop, online

PLAN = closed_loop.Plan(explore=8_192, test=4_096)


START = np.array([1.0, 0.0], np.float32)


@pytest.fixture(autouse=True)
def _loose(monkeypatch):
    """The loop runs as its entry points run it, in float32; the strict settings of the tests are
    for the library's parts.
    """
    with jax.enable_x64(False):
        yield


@pytest.mark.nightly
def test_loop_climbs_to_the_optimum():
    """After four rounds the weights are near the best ones as long; what is certified is tested,
    and nothing else is.
    """
    platform = bowl(0.0, -1.0)
    done = list(closed_loop.rounds(platform, START, KEY, 4, PLAN))
    distance = [float(np.linalg.norm(r.production - np.array([0.0, -1.0]))) for r in done]
    np.testing.assert_allclose([np.linalg.norm(r.proposal) for r in done], 1, rtol=1e-5)
    assert [r.p is not None for r in done] == [r.bound > 0 for r in done]
    assert distance[-1] < 0.35 < distance[0]
    assert [r.users for r in done] == np.cumsum(
        [PLAN.explore + (2 * PLAN.test if r.p is not None else 0) for r in done]
    ).tolist()


def test_at_the_optimum_the_loop_keeps():
    """No gain is there to certify: no test is spent; a false certificate and a false test are
    needed to move (5 % and 2.5 %).
    """
    done = closed_loop.one_round(bowl(1.0, 0.0), START, KEY, PLAN)[0]
    assert done.p is None
    assert done.users == PLAN.explore
    assert not done.adopted
    np.testing.assert_array_equal(done.production, START)


def test_rounds_before_are_learnt_from_and_never_certified_on(monkeypatch):
    """Their rows come with the density of the mixture that played all rows; the held-out rows are
    new ones.
    """
    seen, propose = [], closed_loop.propose
    monkeypatch.setattr(
        closed_loop, "propose", lambda *given: seen.append(given) or propose(*given)
    )
    list(closed_loop.rounds(bowl(0.0, 1.0), START, KEY, 4, PLAN))
    sizes = [rows.reward.shape[0] for rows, *_ in seen]
    assert sizes == [PLAN.explore // 2 + min(k, PLAN.recall) * PLAN.explore for k in range(4)]
    rows, held, logging, _ = seen[1]
    assert not set(np.asarray(held.reward).tolist()) & set(np.asarray(rows.reward).tolist())
    density = [
        stats.norm.logpdf(np.asarray(rows.action), np.asarray(x.mean), PLAN.scale).sum(1)
        for x in (logging, seen[0][2])
    ]
    expected = np.logaddexp(density[0] + np.log(1 / 3), density[1] + np.log(2 / 3))
    rounding = 4 * eps(np.float32) * np.abs(expected).max()
    np.testing.assert_allclose(rows.log_propensity, expected, rtol=0, atol=rounding)


def test_small_rounds_climb_and_fresh_users_certify():
    """From (1, 0) to near the best weights (0, −1) in one round of the loop, half of whose users
    teach in small rounds; those that certify are explored in the middle, and none of them taught.
    """
    platform, plan = bowl(0.0, -1.0), PLAN._replace(small=256)
    done, explored = closed_loop.one_round(platform, START, KEY, plan)
    assert np.linalg.norm(done.proposal - np.array([0.0, -1.0])) < 0.35
    assert done.bound > 0
    *taught, (held, logging) = explored
    assert [len(rows.reward) for rows, _ in taught] == [plan.small] * (plan.explore // 2 // 256)
    assert len(held.reward) == plan.explore - sum(len(rows.reward) for rows, _ in taught)
    np.testing.assert_allclose(logging.mean, 0.5 * (START + done.proposal), rtol=1e-5, atol=1e-6)
    lengths = [np.linalg.norm(played.mean) for _, played in taught]
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_small_rounds_at_the_optimum_certify_nothing():
    done = closed_loop.one_round(bowl(1.0, 0.0), START, KEY, PLAN._replace(small=256))[0]
    assert done.p is None
    assert not done.adopted


def test_zeros_rank_nothing():
    with pytest.raises(ValueError, match="a weight that is not 0"):
        next(closed_loop.rounds(bowl(1.0, 0.0), np.zeros(2), KEY, 1, PLAN))


def test_what_harms_the_north_star_is_not_adopted():
    """A metric that rises where the North Star falls, −signal: certified and significantly better,
    and yet kept out.
    """
    done = closed_loop.one_round(bowl(0.0, 1.0), START, KEY, PLAN, np.array([-1.0, 0.0]))[0]
    assert done.bound > 0
    assert done.p < PLAN.alpha
    assert done.north_p < PLAN.alpha
    assert done.north_gain < 0
    assert not done.adopted
    np.testing.assert_array_equal(done.production, START)


@pytest.mark.nightly
def test_without_pessimism_everything_is_tested():
    done = closed_loop.one_round(bowl(1.0, 0.0), START, KEY, PLAN._replace(pessimistic=False))[0]
    assert done.p is not None
    assert done.users == PLAN.explore + 2 * PLAN.test


@pytest.mark.nightly
def test_a_sensitive_metric_certifies_what_the_north_star_cannot():
    """A signal of a twentieth of the noise per effect: on the same users its bound is positive, the
    North Star's is not.
    """
    platform, plan = bowl(0.0, 0.25), closed_loop.Plan(explore=2_048, test=1_024)
    north = closed_loop.one_round(platform, START, KEY, plan)[0]
    metric = closed_loop.one_round(platform, START, KEY, plan, np.array([1.0, 0.0]))[0]
    assert north.bound < 0 < metric.bound


def test_optimum_of_a_bowl_is_its_best_direction():
    """Among weights of one length the best are those towards the optimum: without noise, and each
    step leaving less than half of the angle, to rounding.
    """
    found = closed_loop.optimum(bowl(1.0, 1.0), START, KEY, PLAN, users=4_096, steps=24)
    np.testing.assert_allclose(found, np.sqrt([0.5, 0.5]), rtol=64 * eps(np.float32))


def test_history_has_the_effects_of_its_changes():
    """A/A rows are null with effects within their noise; labels agree with the true effect; a
    metric is learnt from it.
    """
    history = closed_loop.history(bowl(1.0, 0.0), START, KEY, 16, 4_096, PLAN)
    null, sign = np.asarray(history.null), np.asarray(history.sign)
    z = np.asarray(
        history.effect / np.sqrt(np.diagonal(np.asarray(history.covariance), axis1=1, axis2=2))
    )
    assert null.sum() == 4
    assert np.abs(z[null]).max() < 4.5
    assert not sign[null].any()
    assert np.all(np.sign(z[sign != 0, 0]) == sign[sign != 0])
    assert objectives.learn(history, objectives.gls)[0] > 0


def test_past_tests_are_an_experiments_table(tmp_path):
    """What is written is what is learnt from: the table reads back as the history, bit for bit."""
    platform = bowl(1.0, 0.0)
    rows = closed_loop.past_tests(platform, START, KEY, 8, 512, PLAN)
    assert [row["label"] for row in rows[6:8]] == ["aa", "control"]
    path = experiments.write(tmp_path / "experiments.parquet", rows)
    stored, direct = (
        past.read([path], platform.signals[-1]),
        closed_loop.history(platform, START, KEY, 8, 512, PLAN),
    )
    for name in ("effect", "covariance", "size", "sign", "null", "user_covariance"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(direct, name))
    assert stored.names == direct.names


def test_gains_are_paired():
    """On the same draws a small step of the bowl has an error of h |step| / √n; on draws of their
    own, ten times as much.
    """
    found = online.gains(
        bowl(0.0, 0.0),
        [closed_loop.smoothed([1.02, 0.0], PLAN)],
        closed_loop.smoothed(START, PLAN),
        KEY,
        4_096,
    )[0]
    assert abs(found.mean + 0.5 * (1.02**2 - 1)) < 4 * found.se
    assert found.se < 2 * PLAN.fine * PLAN.scale * 0.02 / 64


# The command.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rounds", 0), "--rounds: expected at least 1"),
        (("--explore", 10), "--explore: expected at least 1,000"),
        (("--experiments", 3), "--experiments: expected 0 or at least 8"),
        (("--scale", -1), "--scale: expected a positive"),
        (("--alpha", 2), "alpha"),
        (("--slate", 0), "--slate"),
        (("--explore", 4000, "--small", 2001), "--small: expected 0, or 50 users and at most half"),
        (("--replay", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, arguments, words):
    assert_refused(mopl("simulate", *arguments, "--out", tmp_path), words)


def test_replayed_table_runs_through_the_command(tmp_path):
    """A table of the KuaiRand layout: a round is played, written and printed as JSON."""
    path = write(tmp_path / "log.csv", kuairand())
    ended = mopl(
        "simulate",
        "--replay",
        path,
        "--rounds",
        1,
        "--explore",
        2000,
        "--test",
        200,
        "--json",
        "--out",
        tmp_path,
    )
    assert ended.code == 0
    assert ended.json["rounds"][0]["users"] >= 2000
    assert (tmp_path / "rounds.parquet").exists()

"""The simulated platform keeps its promises: calibration, position bias, determinism,
invariances.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from yardsticks import KEY, binomial_tail, cast, eps, standard_errors

from mopl_jax.numerics import random
from mopl_jax.policies import Gaussian
from mopl_jax.simulation import online, recommender

PLATFORM = cast(recommender.short_video(), np.float32)
PRODUCTION = Gaussian.diagonal(jnp.asarray(recommender.PRODUCTION, jnp.float32), 0.3)
NORTH = np.eye(len(PLATFORM.signals))[-1]


@pytest.fixture(scope="module")
def traffic():
    return online.play(PLATFORM, PRODUCTION, KEY, (0, 16_384))


@pytest.fixture(scope="module")
def items():
    """Scores and events (users, d, items) of random items that everybody sees, and the weighted
    sums that rank them.
    """

    @jax.jit
    @jax.vmap
    def draw(key):
        user, words = (
            PLATFORM.user(jax.random.fold_in(key, 0)),
            jax.random.key_data(jax.random.fold_in(key, 1)),
        )
        index = jnp.arange(10)
        factors = PLATFORM.factors(words, index)
        quality = random.box_muller(recommender._words(words, index, 16))[0]
        events = PLATFORM.events(PLATFORM.margins(user, factors), quality, words, index)
        scores = PLATFORM.scores(user, factors)
        return (
            jnp.stack(scores),
            jnp.stack(events),
            PLATFORM.ranking(user, words, PRODUCTION.mean)[:10],
        )

    return [np.asarray(x, float) for x in draw(random.row_keys(KEY, 20_000))]


def test_user_does_not_depend_on_the_batch(traffic):
    """User u of a round is the same to the last bit alone, in another batch, and after others."""
    some = online.play(PLATFORM, PRODUCTION, KEY, (5_000, 5_003))
    for all_of_them, few in zip(traffic, some, strict=True):
        np.testing.assert_array_equal(all_of_them[5_000:5_003], few)


def test_rounds_are_new_users(traffic):
    other = online.play(PLATFORM, PRODUCTION, jax.random.fold_in(KEY, 1), (0, 1_000))
    assert not np.any(other.expected == traffic.expected[:1_000])
    assert abs(np.corrcoef(other.expected, traffic.expected[:1_000])[0, 1]) < 4 / math.sqrt(1_000)


def test_common_random_numbers(traffic):
    """Another policy on the same key meets the same people: their depth is the same, whatever is
    shown.
    """
    other = online.play(PLATFORM, Gaussian.diagonal(-PRODUCTION.mean, 0.3), KEY, (0, 1_000))
    seen = PLATFORM.signals.index("seen")
    np.testing.assert_array_equal(other.signals[:, seen], traffic.signals[:1_000, seen])
    assert np.corrcoef(other.expected, traffic.expected[:1_000])[0, 1] > 0.9


def test_ranking_is_the_weighted_sum_of_scores(items):
    """Candidates are ranked by Σ_k w_k s_k / unit_k."""
    scores, _, found = items
    expected = np.einsum("k,uki->ui", np.asarray(PRODUCTION.mean / PLATFORM.unit, float), scores)
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=16 * eps(np.float32) * np.abs(expected).max()
    )


def test_ranking_ignores_the_scale_of_the_weights(traffic):
    """A ranking has no scale: weights twice as large (exact in floating point) show the same."""
    twice = Gaussian.diagonal(2 * PRODUCTION.mean, 2 * PRODUCTION.scale)
    np.testing.assert_array_equal(
        online.play(PLATFORM, twice, KEY, (0, 1_000)).signals, traffic.signals[:1_000]
    )


def test_scores_are_calibrated(items):
    """E[event | scores] = score, for each objective in each tenth of its scores, and against the
    other scores.
    """
    scores, events = (np.moveaxis(x, 1, 0).reshape(x.shape[1], -1) for x in items[:2])
    for score, event in zip(scores, events, strict=True):
        tenth = np.digitize(score, np.quantile(score, np.arange(0.1, 1, 0.1)))
        off = [standard_errors((event - score)[tenth == i], 0) for i in range(10)]
        assert max(off) < 4.5  # 80 of these
        assert standard_errors((event - score) * (scores[0] - scores[0].mean()), 0) < 4


def test_scores_are_noisy_and_events_of_an_item_go_together(items):
    """The unseen quality correlates what scores leave open, where it has a loading; new creators do
    not care.
    """
    scores, events = (np.moveaxis(x, 1, 0).reshape(x.shape[1], -1) for x in items[:2])
    rest = events - scores
    assert standard_errors(rest[1] * rest[2], 0) > 10  # long view and like
    assert standard_errors(rest[6] * rest[1], 0) < 4  # new creator


def test_unit_is_the_spread_of_the_scores(items):
    """`unit` is the standard deviation of a score over users and items (both sides simulated:
    200,000 and 2¹⁶ items).
    """
    squares = (items[0] - items[0].mean(axis=(0, 2), keepdims=True)) ** 2
    by_user, expected = squares.mean(axis=2), np.asarray(PLATFORM.unit, float) ** 2
    error = np.sqrt(by_user.var(axis=0) / len(by_user) + squares.var(axis=(0, 2)) / 2**16)
    assert np.all(np.abs(by_user.mean(axis=0) - expected) < 4 * error)


def test_position_bias_is_geometric(traffic):
    """P(position r is seen) = E Φ(stay)^r over users."""
    seen = traffic.signals[:, PLATFORM.signals.index("seen")]
    node, weight = np.polynomial.hermite_e.hermegauss(64)
    further = stats.norm.cdf(float(PLATFORM.stay[0]) + float(PLATFORM.stay[1]) * node)
    for r in range(1, PLATFORM.slate + 1):
        expected = float(further**r @ weight / weight.sum())
        assert binomial_tail(int((seen >= r).sum()), seen.size, expected) > 1e-5


def test_expected_is_the_mean_of_days(traffic):
    """Days are seven coins given `expected`: mean, variance, and no memory of the session beyond
    it.
    """
    days, mean = traffic.signals[:, -1], traffic.expected
    rest = days - mean
    assert standard_errors(rest, 0) < 4
    assert standard_errors(rest**2 - mean * (1 - mean / 7), 0) < 4
    for signal in traffic.signals[:, :-1].T:
        assert standard_errors(rest * (signal - signal.mean()), 0) < 4


def test_signals_look_like_a_platform(traffic):
    """Minutes: a quarter of zeros or more and a heavy tail; days: 0 to 7, spread over two; counts
    go together.
    """
    minutes, days = (
        traffic.signals[:, PLATFORM.signals.index(name)] for name in ("minutes", "days")
    )
    assert stats.binom.sf(int(np.sum(minutes == 0)) - 1, minutes.size, 0.25) < 1e-3
    assert stats.kurtosis(minutes) > 10
    assert set(np.unique(days)) == set(range(8))
    assert 2 < days.std() < 3
    assert np.corrcoef(traffic.signals[:, :8], rowvar=False).min() > 0


def test_without_devotion_no_policy_matters():
    """Null world: if satisfaction brings nobody back, every ranking has the same value, person by
    person.
    """
    null = cast(recommender.short_video(devotion=0.0), np.float32)
    a, b = (
        online.play(null, Gaussian.diagonal(s * PRODUCTION.mean, 0.3), KEY, (0, 500))
        for s in (1, -1)
    )
    np.testing.assert_array_equal(a.expected, b.expected)
    np.testing.assert_array_equal(a.signals[:, -1], b.signals[:, -1])


def test_the_response_is_smooth_and_production_can_be_improved():
    """On the line from production towards long views and away from bait, gains rise with falling
    slope.
    """
    better = jnp.asarray((-0.4, 0.8, 0.6, -0.3, -0.4, 0.3, 0.4, 0.2), jnp.float32)
    steps = np.array([0.25, 0.5, 0.75, 1.0])
    means = [PRODUCTION.mean + jnp.float32(t) * (better - PRODUCTION.mean) for t in steps]
    policies = [Gaussian.diagonal(mean, 0.1) for mean in means]
    found = online.gains(PLATFORM, policies, Gaussian.diagonal(PRODUCTION.mean, 0.1), KEY, 16_384)
    gains, errors = (np.array(column) for column in zip(*found, strict=True))
    assert np.all(gains > 5 * errors)
    assert np.all(np.diff(gains, 2) < 4 * np.hypot(errors[2:], errors[:-2]))
    assert 0.02 < (gains[-1] - 4 * errors[-1]) / 3.8  # of the days of return: a few per cent
    assert (gains[-1] + 4 * errors[-1]) / 3.8 < 0.04


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_in_is_dtype_out(dtype):
    found = jax.eval_shape(
        cast(PLATFORM, dtype).visit, random.row_keys(KEY, 1)[0], PRODUCTION.mean.astype(dtype)
    )
    assert (found.signals.dtype, found.expected.dtype) == (dtype, dtype)


# Tests of A against B.


def test_contrast_is_welch(traffic):
    """Difference, its variance and p of one signal are those of scipy's Welch test (normal for
    large n).
    """
    a, b = np.split(traffic.signals.astype(float), [8_000])
    found = online.contrast(a, b)
    welch = stats.ttest_ind(a[:, 0], b[:, 0], equal_var=False)
    assert found.z(np.eye(len(NORTH))[0]) == pytest.approx(welch.statistic, rel=1e-9)
    assert found.p(np.eye(len(NORTH))[0]) == pytest.approx(welch.pvalue, rel=1e-3)


def test_contrast_of_a_combination_is_that_of_the_combined_signal(traffic):
    metric = np.linspace(-1, 2, len(NORTH))
    a, b = traffic.signals[:8_000], traffic.signals[8_000:]
    combined = online.contrast((a @ metric)[:, None], (b @ metric)[:, None])
    assert online.contrast(a, b).z(metric) == pytest.approx(combined.z([1.0]), rel=1e-9)


def test_a_metric_that_does_not_vary_decides_nothing(traffic):
    assert online.contrast(traffic.signals[:9], traffic.signals[9:20]).p(0 * NORTH) == 1


def test_a_a_tests_reject_at_their_level(traffic):
    """Of A/A tests on disjoint users 5 % have p < 0.05, for the North Star and for a skewed
    signal.
    """
    groups = traffic.signals.reshape(256, 64, -1)
    for metric in (NORTH, np.eye(len(NORTH))[PLATFORM.signals.index("minutes")]):
        p = np.array(
            [
                online.contrast(a, b).p(metric)
                for a, b in zip(groups[::2], groups[1::2], strict=True)
            ]
        )
        assert binomial_tail(int((p < 0.05).sum()), p.size, 0.05) > 0.001
        assert stats.kstest(p, "uniform").pvalue > 0.001


def test_ab_test_uses_fresh_users():
    """Both arms play one policy and still differ: no user is in both."""
    found = online.ab_test(PLATFORM, PRODUCTION, PRODUCTION, KEY, 1_000)
    assert found.n == (1_000, 1_000)
    assert np.all(found.difference != 0)


def test_log_has_the_reward_asked_for(traffic):
    logs = online.log(traffic, PRODUCTION)
    np.testing.assert_array_equal(logs.reward, traffic.signals[:, -1])
    metric = np.linspace(-1, 2, len(NORTH))
    np.testing.assert_allclose(
        online.log(traffic, PRODUCTION, metric).reward, traffic.signals @ metric, rtol=1e-5
    )

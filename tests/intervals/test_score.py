"""The score interval of rewards that depend on the weights: its formula, its limits, its coverage
by simulation with exact truth.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from worlds import rows
from yardsticks import eps

from mopl_jax.estimators import snips
from mopl_jax.intervals import ess_score, ess_skew, ess_wilson_skew, moments_of, recommended
from mopl_jax.intervals.proportions import spread_share, variance_ratio

ALPHA, RANGE = 0.05, (0.0, 1.0)
N = 60


@jax.jit
@jax.vmap
def ends_of(log_weight, reward):
    """Both ends of `recommended` and the value, of each log (r, n)."""
    made = snips(log_weight, reward)
    found = recommended(made, ALPHA, reward_range=RANGE)
    return found.lower, found.upper, made.value


def in_range(seed, power):
    """Log weights and rewards in [0, 1]; the larger the power, the nearer to 0."""
    log_weight, reward = rows(seed, N)
    return log_weight, 1 / (1 + jnp.exp(-power * reward))


# Formula and limits.


@pytest.mark.parametrize("binary", [True, False])
def test_variance_ratio_is_the_displayed_formula(binary):
    """ĝ, what it is raised to, and the doubts, by numpy from the rows."""
    for seed in range(6):
        log_weight, reward = in_range(seed, 1.0)
        reward = (reward > 0.6).astype(reward.dtype) if binary else reward
        sums = jax.jit(lambda *log: moments_of(snips(*log)))(log_weight, reward)
        w = np.exp(np.asarray(log_weight))
        p, r = w / w.sum(), np.asarray(reward)
        v, s2 = p @ r, p @ p
        e, most, slope = r - v, v * (1 - v), (1 - 2 * v) / (v * (1 - v))
        x = p * e / np.sqrt(1 - 2 * p + s2)
        variance, q = x @ x, (p**4).sum() / s2**2
        measured, spread = variance * (1 - s2) / (most * s2), p @ e**2 / most
        fourth, third = (x**4).sum() / variance**2, (x**3).sum() / variance
        shown = fourth - q - 2 * slope * third + slope**2 * variance
        unrelated = slope**2 * most * spread * (q - 2 * (p**3).sum() / s2 + s2)
        doubt = min(max(16 * max(shown, unrelated), 0), 1)
        ratio = measured + max(spread - measured, 0) * doubt
        few = min(max(5 * (fourth - 3 * q), 0), 1) ** 3
        ratio += few * max(1 - ratio, 0)
        assert float(spread_share(sums, RANGE)) == pytest.approx(spread, rel=1e-9)
        assert spread == pytest.approx(1.0) if binary else spread < 0.9
        assert float(variance_ratio(sums, RANGE)) == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize("n", [2, 9, 40])
def test_clicks_of_equal_weight_are_unrelated(n):
    """Equal weights, any number of clicks: the variance ratio is one, the interval
    `ess_wilson_skew`, whose exact coverage is known.
    """
    reward = jnp.asarray(np.arange(n) < np.arange(n + 1)[:, None], float)

    @jax.jit
    @jax.vmap
    def both(reward):
        made = snips(jnp.zeros(n), reward)
        found = [f(made, ALPHA) for f in (ess_score, ess_wilson_skew)]
        return variance_ratio(moments_of(made), RANGE), found

    ratio, (score, wilson) = both(reward)
    np.testing.assert_allclose(ratio, 1, rtol=256 * eps(np.float64))
    for got, expected in ((score.lower, wilson.lower), (score.upper, wilson.upper)):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_no_cliff_at_the_ends_of_the_range():
    """A few clicks that are a little less than one: both ends move by as little."""
    log_weight, reward = rows(4, N)
    clicks = (reward > 1).astype(reward.dtype)
    made = ends_of(jnp.stack([log_weight] * 2), jnp.stack([clicks, clicks * (1 - 1e-7)]))
    for end in made:
        assert abs(float(end[1] - end[0])) < 1e-5


def test_rewards_inside_the_range():
    """Each end is that of `ess_score`, moved to a farther one of `ess_skew` by the share of the
    variance that the range allows and the rewards do not have.
    """

    @jax.jit
    def found(log_weight, reward):
        made = snips(log_weight, reward)
        score = ess_score(made, ALPHA)
        inside = 1 - spread_share(moments_of(made), RANGE)
        return recommended(made, ALPHA, reward_range=RANGE), score, ess_skew(made, ALPHA), inside

    for seed, power in ((0, 0.02), (1, 1.0), (2, 4.0)):
        got, score, skewed, inside = found(*in_range(seed, power))
        low, high = (float(np.clip(x, 0, 1)) for x in (skewed.lower, skewed.upper))
        lower, upper = float(score.lower), float(score.upper)
        assert float(got.lower) == pytest.approx(lower + inside * min(low - lower, 0))
        assert float(got.upper) == pytest.approx(upper + inside * max(high - upper, 0))
        if power < 0.1:  # all near one half: no more is claimed than without a range
            assert inside > 0.999
            assert got.lower <= low + 1e-6
            assert got.upper >= high - 1e-6


def test_rewards_that_do_not_vary():
    """All at one end: a score; all inside: the whole range. Gradients are finite in both."""
    log_weight = rows(5, N)[0]

    @jax.jit
    @jax.vmap
    @jax.value_and_grad
    def width(reward):
        return recommended(snips(log_weight, reward), ALPHA, reward_range=RANGE).width

    (at_end, inside), slope = width(jnp.stack([jnp.zeros(N), jnp.full(N, 0.5)]))
    assert 0.01 < at_end < 0.3
    assert inside == 1
    assert np.isfinite(slope).all()


# Coverage.


def covered(log_weight, reward, truth):
    """Number of logs covered, and median width over that of an oracle's normal interval."""
    lower, upper, value = jax.device_get(ends_of(log_weight, reward))
    oracle = 2 * stats.norm.isf(ALPHA / 2) * value.std()
    return int(np.sum((lower <= truth) & (truth <= upper))), np.median(upper - lower) / oracle


def at_least(hits, trials, level=0.945):
    """Whether so few hits would be seen in less than one of ten thousand studies of that level."""
    return stats.binom.cdf(hits, trials, level) > 1e-4


@pytest.mark.parametrize("rates", [(0.02, 0.5), (0.5, 0.02)], ids=["rising", "falling"])
def test_clicks_that_depend_on_the_arm(rates):
    """Two arms logged 95 to 5, target 50 to 50: covered whether the rare arm is clicked more or
    less, at the width that the truth has.

    `ess_wilson_skew` covers 88 % of the first and is 1.5 times as wide as need be in the second.
    """
    rng, trials, n = np.random.default_rng(1), 500, 4096
    rare = rng.random((trials, n)) < 0.05
    reward = (rng.random((trials, n)) < np.where(rare, rates[1], rates[0])).astype(float)
    log_weight = np.log(np.where(rare, 0.5 / 0.05, 0.5 / 0.95))
    hits, width = covered(log_weight, reward, sum(rates) / 2)
    assert at_least(hits, trials)
    assert 0.9 < width < 1.15


def test_few_rewards_inside_the_range():
    """Clicks of 1 %, one in a hundred of any reward half-way inside: logs that have seen only
    such a one are covered.

    `ess_skew` cut to the range covers 74 %.
    """
    rng, trials, n = np.random.default_rng(2), 4000, 64
    action = rng.standard_normal((trials, n))
    log_weight = -0.5 * ((action - 0.5) / 0.7) ** 2 + 0.5 * action**2
    click = (rng.random((trials, n)) < 0.01).astype(float)
    reward = np.where(rng.random((trials, n)) < 0.01, (click + 0.01) / 2, click)
    assert at_least(covered(log_weight, reward, 0.01)[0], trials)

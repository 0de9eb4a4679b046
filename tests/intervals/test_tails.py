"""The interval from the extreme terms: its formula, what does not matter, where it says nothing,
its coverage where a variance misleads.
"""

import functools
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from worlds import rows
from yardsticks import cast

from mopl_jax.estimators import clustered, snips
from mopl_jax.intervals import ess_exact, extreme_terms, moments_of

N, LEVELS, RANGE = 60, (0.02, 0.05), (-1.0, 12.0)


@functools.partial(jax.jit, static_argnames="reward_range")
@functools.partial(jax.vmap, in_axes=(0, 0, None))
def _ends(log_weight, reward, reward_range):
    made = snips(log_weight, reward)
    levels = jnp.asarray(LEVELS, reward.dtype)
    found = jax.vmap(lambda alpha: extreme_terms(made, alpha, reward_range=reward_range))(levels)
    return jnp.stack([found.lower, found.upper], -1)


def ends(log_weight, reward, reward_range=None):
    """Ends (levels, 2) of the log of SNIPS."""
    return np.asarray(_ends(log_weight[None], reward[None], reward_range)[0])


def skewed(seed, spread=1.0):
    """A log with a long tail of rewards."""
    log_weight, reward = rows(seed, N, spread=spread)
    return log_weight, jnp.exp(reward)


# Formula.


def by_hand(log_weight, reward, alpha, reward_range):
    """The displayed formula, by numpy and scipy, from the rows."""
    w, r, n = np.exp(np.asarray(log_weight)), np.asarray(reward), len(reward)
    p = w / w.sum()
    value, s2 = p @ r, p @ p
    x = p * (r - value) / np.sqrt(1 - 2 * p + s2)
    x = np.sort(x - x.mean())
    half = float(ess_exact(snips(log_weight, reward), alpha).width) / 2
    z = x / x.std()
    share = min(1, n * ((z**3).mean() ** 2 / 6 + ((z**4).mean() - 3) ** 2 / 24) / 3)
    m = min(1 / s2, 2 * s2**2 / (p**4).sum())
    k = int(np.clip(min(m / 4, 8 + 200 / m), 2, 12))
    reach = (np.inf, np.inf)
    if reward_range is not None:
        heaviest = p.max() / np.sqrt(1 - 2 * p.max() + s2)
        reach = heaviest * (reward_range[1] - value), heaviest * (value - reward_range[0])
    middle = x[k : n - k]
    right, left = _posterior(x[::-1][:k], reach[0]), _posterior(-x[:k], reach[1])
    above = _quantile(right, left, middle, k, n, alpha)
    below = _quantile(left, right, -middle, k, n, alpha)
    low, high = (half + share * (n * end - half) for end in (below, above))
    least, most = reward_range or (-np.inf, np.inf)
    return np.clip([value - low, value + high], least, most)


def _posterior(largest, reach):
    """Weights of (shape, scale), and what scipy has as the mean of the tail at each."""
    threshold, excess = largest[-1], largest[:-1] - largest[-1]
    found = []
    for shape in np.linspace(-0.5, 0.5, 10):
        for scale in excess.mean() * np.exp(np.linspace(-1.5, 3, 16)):
            tail = stats.genpareto(shape, scale=scale)
            weight = np.exp(stats.genpareto.logpdf(excess, shape, scale=scale).sum() - 2 * shape)
            room = min(max(reach - threshold, 0), tail.support()[1])
            left = max(1 + shape * room / scale, 1e-300)
            cut = 0 if np.isinf(reach) or left < 1e-200 else left ** (1 - 1 / shape)
            found.append((weight, threshold + scale / (1 - shape) * (1 - cut)))
    weight, mean = np.array(found).T
    return weight / weight.sum(), mean


def _quantile(tail, other, middle, k, n, alpha):
    m, share = middle.mean(), k / n
    loss = share * (other[1] + m)
    expected = other[0] @ loss
    variance = middle.var(ddof=1) / middle.size + (1 + 1 / k) * (other[0] @ loss**2) - expected**2
    gain = share * (tail[1] - m)
    sd = np.sqrt(variance + gain**2 / k)
    cdf = lambda v: tail[0] @ stats.norm.cdf(v, m - expected + gain, sd)  # noqa: E731
    return typing.cast(float, brentq(lambda v: cdf(v) - 1 + alpha / 2, -10, 10, xtol=1e-14))


@pytest.mark.parametrize("reward_range", [None, RANGE])
def test_formula(reward_range):
    """Equal and unequal weights; tails of two terms and of more."""
    for seed, spread in ((0, 0.0), (1, 0.3), (2, 1.5)):
        log_weight, reward = skewed(seed, spread)
        found = ends(log_weight, reward, reward_range)
        expected = by_hand(log_weight, reward, LEVELS[1], reward_range)
        np.testing.assert_allclose(found[1], expected, rtol=1e-6)


def test_normal_terms_give_students_interval():
    """Terms whose skewness and excess kurtosis are zero: the score of normality is too."""
    x = stats.norm.ppf((np.arange(N) + 0.5) / N)
    x = x + brentq(lambda c: stats.kurtosis(x + c * x**3), 0, 1) * x**3
    assert abs(stats.kurtosis(x)) < 1e-6
    made = snips(jnp.zeros(N), jnp.asarray(x))
    usual = ess_exact(made, LEVELS[1])
    np.testing.assert_allclose(
        ends(jnp.zeros(N), jnp.asarray(x))[1], [usual.lower, usual.upper], rtol=1e-6
    )


# What matters and what does not.


def test_order_units_and_nesting():
    """Rows in another order, rewards in another unit, weights times a factor; a smaller alpha gives
    the wider interval, around the value.
    """
    log_weight, reward = skewed(3)
    one, value = ends(log_weight, reward), float(snips(log_weight, reward).value)
    order = np.random.default_rng(0).permutation(N)
    others = {
        "order": ends(log_weight[order], reward[order]),
        "unit": (ends(log_weight, 5 - 1e3 * reward)[:, ::-1] - 5) / -1e3,
        "factor": ends(log_weight + 3, reward),
    }
    for name, other in others.items():
        np.testing.assert_allclose(other, one, rtol=1e-8, err_msg=name)
    assert (np.diff(one[:, 0]) > 0).all()
    assert (np.diff(one[:, 1]) < 0).all()
    assert (one[:, 0] < value).all()
    assert (value < one[:, 1]).all()
    np.testing.assert_allclose(ends(*cast((log_weight, reward), np.float32)), one, rtol=1e-3)


def test_users_are_terms():
    """Users with two rows of equal weight each: the interval of their means."""
    _, reward = skewed(4)
    pairs = jnp.stack([reward, reward[::-1] ** 2], 1)

    @jax.jit
    def of_users(reward):
        made = clustered(snips(jnp.zeros(2 * N), reward), jnp.repeat(jnp.arange(N), 2), N)
        return extreme_terms(made, LEVELS[1])

    found = of_users(pairs.ravel())
    expected = ends(jnp.zeros(N), pairs.mean(axis=1))[1]
    np.testing.assert_allclose([found.lower, found.upper], expected, rtol=1e-9)


def test_a_range_limits_the_tail():
    """A near end of the range lowers the upper end; a far one changes nothing."""
    log_weight, reward = skewed(5)
    free = ends(log_weight, reward)[1]
    near, far = (ends(log_weight, reward, (-1e6, high))[1] for high in (15.0, 1e6))
    assert near[1] < free[1]
    np.testing.assert_allclose(far, free, rtol=2e-2)


def test_where_nothing_is_said():
    """Seven rows, one row that has all weight, rewards that do not vary: the whole line."""
    log_weight, reward = skewed(6)
    assert np.isinf(ends(log_weight[:7], reward[:7])).all()
    assert np.isinf(ends(log_weight.at[0].set(900.0), reward)).all()
    assert np.isinf(ends(log_weight, jnp.full(N, 0.3))).all()
    np.testing.assert_array_equal(ends(log_weight, jnp.full(N, 0.3), RANGE), [RANGE] * len(LEVELS))


# Coverage.


def test_log_normal_terms():
    """Müller's table 1, LogN at n = 50: Student's t rejects 10 %, his test 3.2, this one 3.1."""
    rng, trials, n = np.random.default_rng(1), 600, 50
    reward = jnp.asarray(rng.lognormal(size=(trials, n)))
    found = _ends(jnp.zeros((trials, n)), reward, None)
    low, high = np.asarray(found[:, 1]).T
    missed = int(np.sum((low > np.exp(0.5)) | (high < np.exp(0.5))))
    usual = jax.vmap(lambda r: moments_of(snips(jnp.zeros(n), r)))(reward)
    t = ess_exact.at(usual).interval(LEVELS[1])
    assert stats.binom.sf(missed - 1, trials, 0.04) > 1e-4
    assert np.mean((t.lower > np.exp(0.5)) | (t.upper < np.exp(0.5))) > 0.08
    assert np.median(high - low) < 1.5 * np.median(t.width)

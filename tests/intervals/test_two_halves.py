"""The interval of a difference in a known range: its parts, its symmetries, wherever rows lie, and
its coverage by simulation with exact truth.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from worlds import rows

import mopl_jax as mopl
from mopl_jax.estimators import difference, snips
from mopl_jax.intervals import ess_score, ess_skew, moments_of, recommended_difference
from mopl_jax.intervals.interval import Interval
from mopl_jax.intervals.two_halves import halves_of

ALPHA, RANGE, N = 0.05, (0.0, 1.0), 80


@functools.partial(jax.jit, static_argnames="reward_range")
def ends_of(first, second, reward, reward_range=RANGE):
    both = snips(first, reward), snips(second, reward)
    return recommended_difference(*both, ALPHA, reward_range=reward_range)


def log_of(seed, binary=True):
    """Log weights of two policies, and rewards in [0, 1]."""
    first, reward = rows(seed, N)
    second, _ = rows(seed + 100, N, spread=0.5)
    return first, second, (reward > 0.5).astype(float) if binary else 1 / (1 + jnp.exp(-reward))


def ends(interval):
    return np.array([interval.lower, interval.upper], float)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_interval_is_the_displayed_formula(seed, binary):
    """By numpy, from the rows where the first policy plays more often and the others."""
    first, second, reward = log_of(seed, binary)
    both = snips(first, reward), snips(second, reward)
    sums, halves = jax.jit(halves_of)(*both)
    p, q = (np.exp(x) / np.exp(x).sum() for x in (first, second))
    c, r = p - q, np.asarray(reward)
    share = np.maximum(c, 0).sum()
    assert float(halves.share) == pytest.approx(share, rel=1e-12)
    parts = [jax.jit(snips)(jnp.log(jnp.maximum(s * c, 0)), reward) for s in (1, -1)]
    found = [jax.jit(moments_of)(part) for part in parts]
    assert share * float(found[0].value - found[1].value) == pytest.approx(c @ r, rel=1e-9)
    score = [ess_score.at(x, ALPHA, reward_range=RANGE) for x in found]
    below = [float(x.value - y.lower) for x, y in zip(found, score, strict=True)]
    above = [float(y.upper - x.value) for x, y in zip(found, score, strict=True)]
    ratio = float(sums.exact) / (share**2 * sum(float(x.exact) for x in found))
    few = min(1, 8 * max(float(sums.sum_p2), float(sums.kurtosis)))
    scale = share * np.sqrt(ratio + few * max(1 - ratio, 0)) * (1 + 2 * float(sums.sum_p2))
    lower = c @ r - scale * np.hypot(below[0], above[1])
    upper = c @ r + scale * np.hypot(above[0], below[1])
    spread = [float(x.residual / (x.value * (1 - x.value))) for x in found]
    skewed, inside = ends(jax.jit(ess_skew)(difference(*both), ALPHA)), 1 - np.mean(spread)
    assert inside == pytest.approx(0, abs=1e-9) if binary else inside > 0.1
    lower += inside * min(max(skewed[0], -1) - lower, 0)
    upper += inside * max(min(skewed[1], 1) - upper, 0)
    np.testing.assert_allclose(ends(ends_of(first, second, reward)), [lower, upper], rtol=1e-8)


@pytest.mark.parametrize("binary", [True, False])
def test_ends_follow_the_order_and_the_unit(binary):
    """Exchanged policies exchange the ends and their signs, as does 1 − r for r; 3 + 2r in (3, 5)
    doubles them.
    """
    first, second, reward = log_of(7, binary)
    made = ends(ends_of(first, second, reward))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-12)
    close(ends(ends_of(second, first, reward)), -made[::-1])
    close(ends(ends_of(first, second, 1 - reward)), -made[::-1])
    close(ends(ends_of(first, second, 3 + 2 * reward, (3.0, 5.0))), 2 * made)


def test_nothing_is_claimed_without_support():
    """No overlap, all weight in one row, policies that are one: ± the width of the range."""
    nothing, equal = jnp.full(N, -jnp.inf), jnp.zeros(N)
    for first in (nothing, nothing.at[0].set(0.0), equal):
        assert ends(ends_of(first, equal, jnp.asarray(np.arange(N) % 2.0))).tolist() == [-1, 1]


def test_no_click_bounds_the_difference():
    """Where `ess_skew` has nothing to go by: two arms without a click."""
    arm = jnp.arange(N) < N // 2
    first, second = (jnp.where(mine, 0.0, -jnp.inf) for mine in (arm, ~arm))
    lower, upper = ends(ends_of(first, second, jnp.zeros(N)))
    zero = jnp.zeros(N // 2)
    wilson = ends(ess_score(snips(zero, zero), ALPHA))[1]
    assert -lower == pytest.approx((1 + 2 / N) * wilson, rel=1e-6)
    assert upper == pytest.approx((1 + 2 / N) * wilson, rel=1e-6)


def test_arms_of_equal_weight_are_newcombes():
    """Two arms: the hybrid score interval but for Student's t and the skewness."""
    n, clicks = 4000, (440, 300)
    arm = np.arange(2 * n) // n
    reward = jnp.asarray(np.concatenate([np.arange(n) < k for k in clicks]), float)
    first, second = (jnp.where(jnp.asarray(arm == k), 0.0, -jnp.inf) for k in (0, 1))
    made = ends(ends_of(first, second, reward))
    wilson = [stats.binomtest(k, n).proportion_ci(0.95, "wilson") for k in clicks]
    p = [k / n for k in clicks]
    expected = [
        p[0] - p[1] - np.hypot(p[0] - wilson[0].low, wilson[1].high - p[1]),
        p[0] - p[1] + np.hypot(wilson[0].high - p[0], p[1] - wilson[1].low),
    ]
    np.testing.assert_allclose(made, expected, atol=0.02 * (expected[1] - expected[0]))


# Wherever rows lie.

POLICIES = [
    mopl.Gaussian.diagonal([0.3, 0.0], scale=0.7),
    mopl.Gaussian.diagonal([0.2, 0.1], scale=0.7),
]


@functools.cache
def table():
    rng = np.random.default_rng(5)
    action = rng.standard_normal((1200, 2))
    click = rng.random(1200) < 1 / (1 + np.exp(3 - action[:, 0]))
    columns = {"w_a": action[:, 0], "w_b": action[:, 1], "click": click.astype(float)}
    return pa.table(columns | {"user": np.arange(1200) // 3})


def compared(**more):
    logging = mopl.Gaussian.diagonal([0.0, 0.0], scale=1.0)
    asked = {"action": "w_", "reward": "click", "logging": logging} | more
    return mopl.compare(table(), ["logging", *POLICIES], **asked)


def differences(made) -> np.ndarray:
    kept = [row.difference for row in made.policies[1:]]
    return np.array([(x.lower, x.upper, x.alone.lower, x.alone.upper) for x in kept])


def test_compare_has_it_in_memory_and_in_passes():
    made = compared(reward_range=RANGE)
    assert made.interval == "recommended"
    action = jnp.stack([jnp.asarray(table()[name].to_numpy()) for name in ("w_a", "w_b")], axis=1)
    logged = jax.vmap(mopl.Gaussian.diagonal([0.0, 0.0], scale=1.0).log_density)(action)
    reward = jnp.asarray(table()["click"].to_numpy())
    for policy, row in zip(POLICIES, differences(made), strict=True):
        log_weight = jax.vmap(policy.log_density)(action) - logged
        expected = ends(ends_of(log_weight, jnp.zeros_like(log_weight), reward))
        np.testing.assert_allclose(row[2:], expected, rtol=1e-9)
    in_passes = differences(compared(reward_range=RANGE, in_memory=500))
    np.testing.assert_allclose(in_passes, differences(made), rtol=1e-9)


def test_without_a_finite_range_it_is_ess_skew():
    plain = differences(compared(interval="ess_skew"))
    for more in ({}, {"reward_range": (0.0, np.inf)}):
        np.testing.assert_array_equal(differences(compared(**more)), plain)
    ranged = differences(compared(reward_range=RANGE))
    assert (ranged != plain).all()
    named = differences(compared(reward_range=RANGE, interval="ess_skew"))
    np.testing.assert_allclose(named, plain, rtol=1e-12)


def test_users_keep_ess_skew():
    """A user's rows may be in both halves."""
    ranged, plain = (compared(cluster="user", **x) for x in ({"reward_range": RANGE}, {}))
    np.testing.assert_allclose(differences(ranged), differences(plain), rtol=1e-9)


# Coverage.


@jax.jit
def missed(first, second, reward, truth):
    """How often the interval and `ess_skew` miss, of logs (r, n)."""

    def one(log):
        both = snips(log[0], log[2]), snips(log[1], log[2])
        now = recommended_difference(*both, ALPHA, reward_range=RANGE)
        found = now, ess_skew(difference(*both), ALPHA)
        return jnp.stack([~Interval(x.lower, x.upper).contains(truth) for x in found])

    return jax.lax.map(one, (first, second, reward), batch_size=64)


def test_rare_clicks_of_a_far_policy_are_covered():
    """1 % clicks, ten of which decide: `ess_skew` misses a fifth of the logs."""
    rng, shape = np.random.default_rng(2), (400, 4096)
    action = rng.standard_normal(shape)
    reward = (rng.random(shape) < 0.01).astype(float)
    far = -0.5 * np.square((action - 2.2) / 0.6) + 0.5 * np.square(action)
    log = jnp.asarray(far), jnp.zeros(shape), jnp.asarray(reward)
    now, before = np.asarray(missed(*log, 0.0)).sum(axis=0)
    assert stats.binom.sf(now - 1, 400, 0.05) > 0.01
    assert before > 0.1 * 400

"""Confidence sequences: formulas row by row, monotone intersections, coverage at all rows
together.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from worlds import rows
from yardsticks import DTYPES, KEY

from mopl_jax.estimators import ips, snips
from mopl_jax.intervals import empirical_bernstein, normal
from mopl_jax.intervals.confidence_sequences import (
    asymptotic_cs,
    betting,
    empirical_bernstein_cs,
    empirical_bernstein_path,
)

ALPHA = 0.1
RANGE = {"w_max": 2.0, "reward_range": (0.0, 1.0)}


def bounded_log(seed, n, dtype=np.float64):
    """Weights of 0 or 2 and rewards in [0, 1]."""
    rng = np.random.default_rng(seed)
    w = np.where(rng.uniform(size=n) < 0.5, 2.0, 1e-9)
    return jnp.asarray(np.log(w), dtype), jnp.asarray(rng.uniform(size=n) ** 2, dtype)


def unit_terms(log_weight, reward):
    """x in [0, 1] for the middle baseline: c + w(r − c) lies in [−½, 1½]."""
    return (np.exp(log_weight) * (np.asarray(reward) - 0.5) + 1) / 2


def test_asymptotic_formula_and_tuning():
    estimate, n = snips(*rows(1, 400)), 400
    made = asymptotic_cs(estimate, ALPHA, tuned_at=400)
    rho2 = (np.log(np.log(np.e / ALPHA**2)) - 2 * np.log(ALPHA)) / 400
    sd = np.std(np.asarray(estimate.influence), ddof=1)
    half = sd * np.sqrt(2 * (n * rho2 + 1) / (n**2 * rho2) * np.log(np.sqrt(n * rho2 + 1) / ALPHA))
    np.testing.assert_allclose(made.upper - estimate.value, half, rtol=1e-10)
    assert all(
        made.width < asymptotic_cs(estimate, ALPHA, tuned_at=m).width for m in (200, 320, 500, 800)
    )
    assert 1.3 < made.width / normal(estimate, ALPHA).width < 2.2


def test_empirical_bernstein_row_by_row():
    log_weight, reward = bounded_log(2, 25)
    x, mean, variance, total, centre, cost = (
        unit_terms(log_weight, reward),
        0.5,
        0.25,
        0.0,
        0.0,
        0.0,
    )
    path = empirical_bernstein_path(ips(log_weight, reward), ALPHA, **RANGE)
    squares, seen = 0.25, 0.5
    for t in range(1, 26):
        bet = min(0.5, np.sqrt(2 * np.log(2 / ALPHA) / (variance * t * np.log1p(t))))
        total, centre = total + bet, centre + bet * x[t - 1]
        cost += 4 * (x[t - 1] - mean) ** 2 * (-np.log1p(-bet) - bet) / 4
        half = (np.log(2 / ALPHA) + cost) / total
        np.testing.assert_allclose(path.upper[t - 1], 2 * (centre / total + half) - 0.5, rtol=1e-10)
        seen += x[t - 1]
        mean = seen / (t + 1)
        squares += (x[t - 1] - mean) ** 2
        variance = squares / (t + 1)


def test_betting_ends_are_where_the_capital_reaches_its_bar():
    log_weight, reward = bounded_log(3, 200)
    x = unit_terms(log_weight, reward)
    row = np.arange(1, 201)
    mean = (0.5 + np.cumsum(x)) / (row + 1)
    variance = np.append(0.25, (0.25 + np.cumsum((x - mean) ** 2)) / (row + 1))[:-1]
    bet = np.sqrt(2 * np.log(2 / ALPHA) / (variance * 200))

    def capital(m):
        return np.max(np.cumprod(1 + np.minimum(bet, 0.5 / m) * (x - m)))

    made = betting(snips(log_weight, reward), ALPHA, horizon=200, **RANGE)
    np.testing.assert_allclose(capital((float(made.lower) + 0.5) / 2), 2 / ALPHA, rtol=1e-9)
    assert made.width < empirical_bernstein_cs(snips(log_weight, reward), ALPHA, **RANGE).width


@pytest.mark.parametrize("interval", [betting, empirical_bernstein_cs])
def test_more_rows_never_widen(interval):
    log = bounded_log(4, 60)
    made = [interval(ips(*(x[:n] for x in log)), ALPHA, **RANGE) for n in (20, 40, 60)]
    assert made[0].lower <= made[1].lower <= made[2].lower
    assert made[0].upper >= made[1].upper >= made[2].upper


@pytest.mark.parametrize("dtype", DTYPES)
def test_honesty(dtype):
    weightless = ips(jnp.full(3, -jnp.inf, dtype), jnp.ones(3, dtype))
    constant = snips(jnp.zeros(3, dtype), jnp.ones(3, dtype))
    for made in (asymptotic_cs(weightless, ALPHA), asymptotic_cs(constant, ALPHA)):
        assert made.lower.dtype == dtype
        assert made.width == np.inf
    for interval in (betting, empirical_bernstein_cs):
        made = interval(weightless, ALPHA, **RANGE)
        assert made.lower.dtype == dtype
        assert [made.lower, made.upper] == [0, 1]


def test_refuted_assumptions_give_the_range():
    """Weights of mean 1 at first and of mean 0 from then on, E w = 1 claimed: no mean is left, and
    the range is returned.
    """
    row = jnp.arange(40_000)
    log_weight = jnp.where((row < 20_000) & (row % 2 == 0), np.log(2.0), -np.inf)
    for interval in (betting, empirical_bernstein_cs):
        made = interval(ips(log_weight, jnp.ones(40_000)), ALPHA, **RANGE)
        assert [made.lower, made.upper] == [0, 1]
        before = interval(ips(log_weight[:20_000], jnp.ones(20_000)), ALPHA, **RANGE)
        assert before.lower > 0.9


def simultaneous_misses(replicates, n):
    """Logs in which the sequence excludes the truth at some row; Bernoulli(0.3) rewards."""

    def one(key):
        u, v = jax.random.uniform(key, (2, n))
        log_weight = jnp.log(jnp.where(u < 0.5, 2.0, 1e-9))
        estimate = ips(log_weight, (v < 0.3).astype(u.dtype))
        truth = jnp.asarray(0.3)
        made = [
            interval(estimate, ALPHA, **RANGE) for interval in (betting, empirical_bernstein_cs)
        ]
        return [~interval.contains(truth) for interval in made]

    return [int(m.sum()) for m in jax.jit(jax.vmap(one))(jax.random.split(KEY, replicates))]


def test_coverage_at_all_rows_together():
    """The intersection over rows excludes the truth if any row's interval does: at most α of the
    logs.
    """
    for misses in simultaneous_misses(500, 300):
        assert stats.binom.sf(misses - 1, 500, ALPHA) > 1e-3


@pytest.mark.nightly
def test_asymptotic_coverage_at_all_rows_together():
    """From row 100 on, skewed rewards."""

    def one(key):
        x = jax.random.exponential(key, (3000,))
        n = jnp.arange(1, 3001, dtype=x.dtype)
        mean = jnp.cumsum(x) / n
        sd = jnp.sqrt(jnp.maximum(jnp.cumsum(x**2) / n - mean**2, 0))
        rho2 = (np.log(np.log(np.e / ALPHA**2)) - 2 * np.log(ALPHA)) / 1000
        half = sd * jnp.sqrt(
            2 * (n * rho2 + 1) / (n**2 * rho2) * jnp.log(jnp.sqrt(n * rho2 + 1) / ALPHA)
        )
        return jnp.any((jnp.abs(mean - 1) > half)[100:])

    misses = int(jax.jit(jax.vmap(one))(jax.random.split(KEY, 1000)).sum())
    assert stats.binom.sf(misses - 1, 1000, ALPHA) > 1e-3


@pytest.mark.parametrize("interval", [betting, empirical_bernstein_cs, empirical_bernstein])
def test_an_interval_beside_the_reward_range_claims_nothing(interval):
    """Weights that are all 2 and rewards of 1 have mean 2, which no reward in [0, 1] has: no point
    at the end of the range is claimed.
    """
    estimate = ips(jnp.full(4000, np.log(2.0)), jnp.ones(4000))
    made = interval(estimate, ALPHA, **RANGE)
    assert (made.lower, made.upper) == (0.0, 1.0)

"""Bounds from the weights' population: closed forms, the theorems' parts, one-sided coverage."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from worlds import rows, sample_rows, standard
from yardsticks import DTYPES, KEY, eps

from mopl_jax.estimators import divergence, ips, log_smoothed, snips
from mopl_jax.intervals import concentration as population
from mopl_jax.policies import Gaussian

ALPHA = 0.1
LOGGING = standard(1)
TARGET = Gaussian.diagonal(np.full(1, 0.3), 0.8)
N = 20


def draw(key, n=N):
    """Log weights and Bernoulli(½) rewards of one log."""
    action = sample_rows(key, LOGGING, n)
    log_weight = jax.vmap(lambda a: TARGET.log_density(a) - LOGGING.log_density(a))(action)
    return log_weight, jax.random.bernoulli(jax.random.fold_in(key, 1), 0.5, (n,)).astype(
        log_weight.dtype
    )


def simulated(m, n=N):
    """Log weights (m, n) of simulated logs."""
    return jax.vmap(lambda key: draw(key, n)[0])(jax.random.split(jax.random.fold_in(KEY, 9), m))


def test_cantelli_formula():
    """With baseline 0 and rewards in [0, b]: V̂_IPS ± b √((1−δ) d₂/(δ n)), δ = α/2."""
    log_weight, reward = rows(1, 5000)
    reward = 3 * jnp.exp(-jnp.abs(reward))
    made = population.cantelli(
        ips(log_weight, reward), ALPHA, d2=1.5, reward_range=(0.0, 3.0), baseline=0.0
    )
    half = 3 * np.sqrt((1 - ALPHA / 2) / (ALPHA / 2) * 1.5 / 5000)
    np.testing.assert_allclose(made.lower, np.mean(np.exp(log_weight) * reward) - half, rtol=1e-10)


def test_log_smoothing_formula():
    """(exp(mean log(1 + λwr) − log(2/α)/n) − 1)/λ; and the smoothed weights give mean(log(1 +
    λwr))/λ.
    """
    log_weight, reward = rows(2, 400)
    reward = jnp.abs(reward)
    made = population.log_smoothing(snips(log_weight, reward), ALPHA)
    terms = np.log1p(0.05 * np.exp(log_weight) * reward)
    np.testing.assert_allclose(
        made.lower, np.expm1(terms.mean() - np.log(2 / ALPHA) / 400) / 0.05, rtol=1e-10
    )
    assert made.upper == np.inf
    np.testing.assert_allclose(
        ips(log_smoothed(log_weight, reward, 0.05), reward).value, terms.mean() / 0.05, rtol=1e-10
    )


def test_log_smoothing_survives_weights_that_overflow():
    made = population.log_smoothing(snips(jnp.asarray([800.0, 0.0, 799.0]), jnp.ones(3)), ALPHA)
    assert made.lower > 1e100
    assert not np.isnan(made.lower)


@pytest.mark.parametrize("r", [0.0, 0.4, 1.0])
def test_one_row_moves_snips_by_at_most_the_larger_share(r):
    """The step of `efron_stein`: |V̂ − V̂⁽ᵏ⁾| ≤ max(wₖ/Z, w′ₖ/Z⁽ᵏ⁾) for rewards in [0, 1], attained
    where both are extreme.
    """
    rng = np.random.default_rng(0)
    for _ in range(200):
        w, fresh = np.exp(2 * rng.normal(size=6)), np.exp(2 * rng.normal())
        reward, other = rng.uniform(size=6), rng.uniform()
        reward[0] = r
        swapped = np.append(fresh, w[1:])
        moved = np.average(reward, weights=w) - np.average(
            np.append(other, reward[1:]), weights=swapped
        )
        assert abs(moved) <= max(w[0] / w.sum(), fresh / swapped.sum()) + 1e-12


def test_conditional_spread_by_simulation():
    """Equal weights: every share is 1/n, so V = 1/n; and B = (n−1)/n."""
    ones = jnp.ones((6, 10))
    np.testing.assert_allclose(population._conditional_spread(ones[0], ones), 0.1, rtol=1e-12)
    np.testing.assert_allclose(population._bias_factor(ones), 0.9, rtol=1e-12)


def test_bias_factor_bounds_the_bias():
    """E V̂ ≤ V / B for the worst rewards of a one-dimensional shift, by simulation."""
    logs = jax.vmap(lambda key: draw(key))(jax.random.split(KEY, 4000))
    values = jax.vmap(lambda w, r: snips(w, r).value)(*logs)
    kept = population._bias_factor(jnp.exp(simulated(400)))
    assert values.mean() <= 0.5 / kept + 4 * values.std() / np.sqrt(4000)
    assert 0.5 < kept < 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_efron_stein_is_equivariant_and_keeps_its_dtype(dtype):
    log_weight, reward = (x.astype(dtype) for x in draw(KEY, 300))
    draws = simulated(10, 300).astype(dtype)
    made = population.efron_stein(snips(log_weight, reward), ALPHA, draws=draws)
    moved = population.efron_stein(
        snips(log_weight, 3 - 2 * reward), ALPHA, draws=draws, reward_range=(1.0, 3.0)
    )
    np.testing.assert_allclose(
        [moved.lower, moved.upper], [3 - 2 * made.upper, 3 - 2 * made.lower], atol=100 * eps(dtype)
    )
    assert made.lower.dtype == dtype
    assert 0 < made.width < 1


def test_no_support_gives_the_range():
    weightless = snips(jnp.full(N, -jnp.inf), jnp.ones(N))
    made = population.efron_stein(weightless, ALPHA, draws=simulated(10))
    assert made.lower == 0
    assert made.upper == 1
    assert population.log_smoothing(weightless, ALPHA).lower == 0


def test_one_sided_coverage():
    """Each end misses at most α/2 of 1,000 logs; the bounds are conservative."""
    bounds = {
        "cantelli": functools.partial(
            population.cantelli, d2=float(divergence.population_d2(LOGGING, TARGET))
        ),
        "log_smoothing": functools.partial(population.log_smoothing, reward_range=(0.0, 1.0)),
        "efron_stein": functools.partial(population.efron_stein, draws=simulated(30)),
    }

    @jax.jit
    @jax.vmap
    def ends(key):
        estimate = snips(*draw(key))
        return [bound(estimate, ALPHA) for bound in bounds.values()]

    for made in ends(jax.random.split(KEY, 1000)):
        for misses in (made.lower > 0.5, made.upper < 0.5):
            assert stats.binom.sf(int(misses.sum()) - 1, 1000, ALPHA / 2) > 1e-3

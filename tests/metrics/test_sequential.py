"""Bounds for daily looks: their size on Brownian motion, and their closed forms."""

import math

import numpy as np
import pytest
from scipy import stats

from mopl_jax.metrics import sequential

LOOKS = np.arange(1.0, 61.0)


@pytest.fixture(scope="module")
def z():
    """z-scores at sixty looks of 4,000 tests without effect."""
    steps = np.random.default_rng(0).standard_normal((4000, 60))
    return np.cumsum(steps, axis=1) / np.sqrt(LOOKS)


@pytest.mark.parametrize("name", ["mixture", "obrien_fleming"])
def test_bounds_hold_at_all_looks_together(z, name):
    """Crossed in 5 % at most (and not never), where 1.96 at every look is crossed in a third."""
    crossed = (np.abs(z) > sequential.BOUNDS[name](LOOKS, 60.0, 0.05)).any(axis=1)
    assert 0.01 < crossed.mean() < 0.05
    peeking = (np.abs(z) > sequential.fixed(LOOKS, 60.0, 0.05)).any(axis=1)
    assert peeking.mean() > 0.3


def test_quantile_of_the_largest_is_the_reflection_principle():
    """P(max |B| > c) = 4 Σ (−1)^k Φ(−(2k+1) c), the other form of the series; 2.2414 at 5 %."""
    for alpha in (0.01, 0.05, 0.2):
        c = sequential.largest_quantile(alpha)
        k = np.arange(20)
        other = 4 * np.sum((-1.0) ** k * stats.norm.sf((2 * k + 1) * c))
        assert other == pytest.approx(alpha, rel=1e-9)
    assert sequential.largest_quantile(0.05) == pytest.approx(2.2414, abs=1e-4)


def test_mixture_is_that_of_the_interval():
    """`intervals.asymptotic_cs` of n rows is mean ± critical value × standard error."""
    import jax.numpy as jnp

    from mopl_jax.estimators import ips
    from mopl_jax.intervals.confidence_sequences import asymptotic_cs

    reward = jnp.asarray(np.random.default_rng(1).normal(size=400))
    found = asymptotic_cs(ips(jnp.zeros(400), reward), 0.05, tuned_at=300)
    critical = sequential.mixture(np.array([400.0]), 600.0, 0.05)[0]
    error = float(reward.std(ddof=1)) / math.sqrt(400)
    assert float(found.upper - found.lower) / 2 == pytest.approx(critical * error, rel=1e-9)


def test_the_first_crossing_is_found():
    z = np.array([0.0, 2.5, -3.0])
    assert sequential.first(z, np.full(3, 2.0)) == 1
    assert sequential.first(z, np.full(3, 4.0)) is None

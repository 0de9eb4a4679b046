"""Intervals at levels that one minus is 1 of: quantiles are those of the tail."""

import numpy as np
import pytest
from scipy import stats

from mopl_jax.metrics.sequential import fixed
from mopl_jax.numerics.proportion import wilson_interval


@pytest.mark.parametrize("alpha", [0.05, 1e-15, 1e-17, 1e-300])
def test_quantiles_of_small_levels_are_those_of_the_tail(alpha):
    z = stats.norm.isf(alpha / 2)
    assert fixed(np.ones(1), 1.0, alpha) == pytest.approx(z)
    low, high = wilson_interval(3, 10, alpha)
    for end in (low, high):
        assert abs(0.3 - end) == pytest.approx(z * np.sqrt(end * (1 - end) / 10))

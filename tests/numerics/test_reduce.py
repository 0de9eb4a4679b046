"""Rows in parts: what is computed over tiles of prefixes is what the whole vectors give."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yardsticks import KEY, eps

from mopl_jax import estimators
from mopl_jax.estimators.contrast import contrast
from mopl_jax.estimators.estimator import Columns, member
from mopl_jax.intervals.moments import moments_stage
from mopl_jax.numerics.reduce import Whole, prefixes, run_passes, whole_block

# inside one tile, one row beyond its edge, and three tiles of which the last is short
SIZES = (3, 513, 1100)


def log(kind):
    """Two log weights and a reward (1100,): ordinary, none with weight at first, one dominant row,
    all weights equal.
    """
    weights, reward = (
        1.5 * jax.random.normal(KEY, (2, SIZES[-1])),
        jax.random.normal(jax.random.key(1), (SIZES[-1],)),
    )
    weights = {
        "ordinary": weights,
        "none at first": weights.at[:, :600].set(-jnp.inf),
        "one dominates": weights.at[jnp.arange(2), jnp.array([700, 701])].set(40.0),
        "equal": jnp.zeros_like(weights),
    }[kind]
    return list(weights), reward


def stages(estimator, count):
    """The passes to the moments of a value, or of a difference of two."""
    each = [
        member(estimators.ESTIMATORS[estimator], lambda block, k=k: block.columns.log_weights[k])
        for k in range(count)
    ]
    made = functools.reduce(contrast, each)
    return (*made.stages, moments_stage(made))


@functools.partial(jax.jit, static_argnums=0)
def tiled(estimator, columns):
    return run_passes(prefixes(columns, SIZES), stages(estimator, len(columns.log_weights)))


def whole(estimator, columns, n):
    block = whole_block(jax.tree.map(lambda x: x[:n], columns))
    return run_passes(Whole(block), stages(estimator, len(columns.log_weights)))


@pytest.mark.parametrize("kind", ["ordinary", "none at first", "one dominates", "equal"])
@pytest.mark.parametrize("estimator", ["ips", "snips", "beta_ips", "beta_ips_cross_fit"])
def test_tiles_are_the_whole(estimator, kind):
    """The moments of a value and of a difference over tiles equal those of each prefix, to rounding
    of the sums.
    """
    weights, reward = log(kind)
    for count in (1, 2):
        columns = Columns(reward, tuple(weights[:count]))
        made = tiled(estimator, columns)
        for j, n in enumerate(SIZES):
            for name, expected in vars(whole(estimator, columns, n)).items():
                got, about = getattr(made, name)[j], f"{name} of {count} at {n}"
                np.testing.assert_allclose(
                    got, expected, rtol=SIZES[-1] * eps(np.float64), atol=1e-18, err_msg=about
                )

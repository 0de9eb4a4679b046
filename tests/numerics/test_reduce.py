"""Rows in parts: what is computed over tiles of prefixes is what the whole vectors give."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yardsticks import KEY, eps

from mopl_jax import estimators
from mopl_jax.intervals import moments
from mopl_jax.numerics.reduce import WHOLE, over_prefixes

SIZES = (
    3,
    513,
    1100,
)  # inside one tile, one row beyond its edge, and three tiles of which the last is short
TILED = jax.jit(
    lambda function, *vectors: over_prefixes(function, SIZES, *vectors), static_argnums=0
)


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


def sums(estimator, rows, reward, *log_weights):
    """Moments of a value, or of a difference of two."""
    made = [estimators.NAMED[estimator](rows.kept(x, -jnp.inf), reward, rows) for x in log_weights]
    return moments(made[0] if len(made) == 1 else estimators.difference(*made, rows=rows), rows)


@pytest.mark.parametrize("kind", ["ordinary", "none at first", "one dominates", "equal"])
@pytest.mark.parametrize("estimator", sorted(estimators.NAMED))
def test_tiles_are_the_whole(estimator, kind):
    """The moments of a value and of a difference over tiles equal those of each prefix, to rounding
    of the sums.
    """
    weights, reward = log(kind)
    for count in (1, 2):
        tiled = TILED(functools.partial(sums, estimator), reward, *weights[:count])
        for j, n in enumerate(SIZES):
            whole = sums(estimator, WHOLE, reward[:n], *[x[:n] for x in weights[:count]])
            for name, expected in vars(whole).items():
                got, about = getattr(tiled, name)[j], f"{name} of {count} at {n}"
                np.testing.assert_allclose(
                    got, expected, rtol=SIZES[-1] * eps(np.float64), atol=1e-18, err_msg=about
                )

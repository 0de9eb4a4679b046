"""Safe operations: those of jnp where the argument is positive, and finite gradients elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mopl_jax.numerics import safe

SAME = {
    "reciprocal": (safe.reciprocal, lambda x: 1 / x, 0.0),
    "log": (safe.log, jnp.log, -np.inf),
    "sqrt": (safe.sqrt, jnp.sqrt, 0.0),
    "divide": (lambda x: safe.divide(3.0, x, 7.0), lambda x: 3.0 / x, 7.0),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SAME)
def test_values_and_gradients(name, dtype):
    """Bit for bit the plain operation for x > 0; elsewhere the stated constant, so gradient 0."""
    function, plain, constant = SAME[name]
    inside = jnp.array([1e-30, 0.3, 1.0, 5e20], dtype)
    outside = jnp.array([0.0, -0.0, -2.0, -jnp.inf, jnp.nan], dtype)
    assert function(inside).dtype == jnp.dtype(dtype)
    np.testing.assert_array_equal(function(inside), plain(inside))
    np.testing.assert_array_equal(function(outside), np.full(5, constant))
    np.testing.assert_array_equal(
        jax.vmap(jax.grad(function))(inside), jax.vmap(jax.grad(plain))(inside)
    )
    np.testing.assert_array_equal(jax.vmap(jax.grad(function))(outside), np.zeros(5))


def test_quotient_of_nothing():
    """0/0 is `otherwise`, and no NaN enters the gradient with respect to either."""
    assert safe.divide(jnp.zeros(()), jnp.zeros(())) == 0
    slopes = jax.grad(safe.divide, argnums=(0, 1))(jnp.zeros(()), jnp.zeros(()))
    np.testing.assert_array_equal(slopes, np.zeros(2))

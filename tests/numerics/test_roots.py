"""Roots to rounding, and derivatives of the implicit function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yardsticks import DTYPES, eps

from mopl_jax.numerics.roots import crossing, implicit, newton, newton_in_bracket


def cube(x, c):
    """x³ − c, and its slope."""
    return x**3 - c, 3 * x**2


def falling(x, c):
    """c − x³, and its slope."""
    return c - x**3, -3 * x**2


def bisected(c):
    return crossing(lambda x: cube(x, c)[0], jnp.zeros_like(c), jnp.full_like(c, 3))


def safeguarded(c):
    return newton_in_bracket(
        lambda x: falling(x, c), jnp.zeros_like(c), jnp.zeros_like(c), jnp.full_like(c, 3), 40
    )


def plain(c):
    return newton(lambda x: cube(x, c), jnp.full_like(c, 2), 12)


FINDERS = {"crossing": bisected, "newton_in_bracket": safeguarded, "newton": plain}
every_finder = pytest.mark.parametrize("name", FINDERS)


@every_finder
@pytest.mark.parametrize("dtype", DTYPES)
def test_roots_to_rounding(name, dtype):
    """The cube root to four roundings, in the dtype of the bracket."""
    c = jnp.asarray([0.3, 1.0, 7.0, 20.0], dtype)
    found = jax.jit(jax.vmap(FINDERS[name]))(c)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, np.cbrt(np.asarray(c)), rtol=4 * eps(dtype))


@every_finder
def test_derivatives(name):
    """A search carries none; `implicit` gives dx/dc = 1 / (3 x²), forwards and backwards."""
    c = jnp.asarray(7.0)
    made = lambda c: implicit(lambda x: cube(x, c), FINDERS[name](c))  # noqa: E731
    assert jax.grad(FINDERS[name])(c) == 0
    expected = 1 / (3 * np.cbrt(7.0) ** 2)
    np.testing.assert_allclose(jax.grad(made)(c), expected, rtol=1e-14)
    np.testing.assert_allclose(jax.jvp(made, (c,), (jnp.ones(()),))[1], expected, rtol=1e-14)
    np.testing.assert_allclose(made(c), np.cbrt(7.0), rtol=1e-15)


def test_no_crossing_gives_an_end():
    """Positive on all of the bracket: its lower end; on none of it: its upper end."""
    ends = jnp.asarray(1.0), jnp.asarray(2.0)
    assert crossing(lambda x: x, *ends) == pytest.approx(1.0, abs=1e-15)
    assert crossing(lambda x: -x, *ends) == pytest.approx(2.0, abs=1e-15)


def test_flat_function_has_no_derivative_rather_than_nan():
    """Slope zero: the root stays, its gradient is zero."""
    stuck = lambda c: implicit(lambda x: (x * 0 + c, x * 0), jnp.asarray(2.0))  # noqa: E731
    assert stuck(0.5) == 2
    assert jax.grad(stuck)(0.5) == 0

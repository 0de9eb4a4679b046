"""Roots of monotone functions inside a bracket, and the derivatives of a root.

Searches carry no gradient. `implicit` gives a root that was found the derivative of the implicit
function, where it is wanted. Functions may be traced, and close over what they depend on.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mopl_jax.numerics import safe
from mopl_jax.numerics.shapes import Floats, Scalar


def crossing(function: Callable[[Array], Array], low: Scalar, high: Scalar) -> Scalar:
    """Where an increasing `function` on [low, high] turns positive, by bisection down to rounding;
    an end where it does not.
    """

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        beyond = function(middle) > 0
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    halvings = 2 + jnp.finfo(low.dtype).nmant
    low, high = lax.fori_loop(0, halvings, halve, lax.stop_gradient((low, high)))
    return 0.5 * (low + high)


def newton_in_bracket(
    function: Callable[[Array], tuple[Array, Array]],
    start: Scalar,
    low: Scalar,
    high: Scalar,
    steps: int,
) -> Scalar:
    """The root on [low, high] of a decreasing `function`, which gives (value, slope).

    Newton's steps while they stay inside the bracket, which every value narrows, and at least halve
    from one to the next; the bracket's middle where they do not. Of all points tried, the one whose
    value is nearest to zero.
    """

    def step(_, state):
        x, low, high, last, best, least = state
        value, slope = lax.stop_gradient(function(x))
        better = jnp.abs(value) < least
        best, least = jnp.where(better, x, best), jnp.where(better, jnp.abs(value), least)
        low, high = jnp.where(value > 0, x, low), jnp.where(value > 0, high, x)
        newton = x + value / safe.positive(-slope)
        inside = (newton >= low) & (newton <= high) & (jnp.abs(newton - x) <= 0.5 * last)
        move = jnp.where(inside, newton, 0.5 * (low + high)) - x
        return x + move, low, high, jnp.abs(move), best, least

    far = jnp.full_like(start, jnp.inf)
    state = lax.stop_gradient((start, low, high, far, start, far))
    return lax.fori_loop(0, steps, step, state)[4]


def newton(function: Callable[[Array], tuple[Array, Array]], start: Floats, steps: int) -> Floats:
    """The root of a smooth `function`, which gives (value, slope), from a `start` near by."""

    def step(_, x):
        value, slope = lax.stop_gradient(function(x))
        return x - value / slope

    return lax.fori_loop(0, steps, step, lax.stop_gradient(start))


def implicit(function: Callable[[Array], tuple[Array, Array]], root: Floats) -> Floats:
    """`root` with the derivative of the implicit function in all that `function` depends on.

    One more of Newton's steps, in which root and slope are held fixed; no step where the slope
    is zero. `function` gives (value, slope).
    """
    value, slope = function(lax.stop_gradient(root))
    steep = slope != 0
    slope = lax.stop_gradient(jnp.where(steep, slope, 1))
    return lax.stop_gradient(root) - jnp.where(steep, value / slope, 0)

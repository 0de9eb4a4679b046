"""Roots of monotone functions inside a bracket, traced; none of them carries a gradient."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def crossing(
    function: Callable, low: Float[Array, ""], high: Float[Array, ""], steps: int | None = None
):
    """Where an increasing function on [low, high] turns positive, by bisection down to rounding;
    carries no gradient.
    """
    steps = 2 + jnp.finfo(low.dtype).nmant if steps is None else steps

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        beyond = function(middle) > 0
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    low, high = lax.fori_loop(0, steps, halve, (lax.stop_gradient(low), lax.stop_gradient(high)))
    return 0.5 * (low + high)


def newton_in_bracket(function: Callable, start, low, high, steps: int):
    """The root on [low, high] of a decreasing `function`, which gives (value, slope); carries no
    gradient.

    Newton's steps while they stay inside the bracket, which every value narrows; its middle
    where they do not.
    """

    def step(_, state):
        x, low, high = state
        value, slope = function(x)
        low, high = jnp.where(value > 0, x, low), jnp.where(value > 0, high, x)
        newton = x - value / jnp.where(slope < 0, slope, -1)
        inside = (newton >= low) & (newton <= high)
        return jnp.where(inside, newton, 0.5 * (low + high)), low, high

    return lax.fori_loop(0, steps, step, lax.stop_gradient((start, low, high)))[0]

"""A line search that is told the objective: it asks for a trial length and hears what is there.

Nocedal & Wright (Numerical Optimization, 1999), algorithms 3.5 and 3.6: lengths grow until they
bracket a step of sufficient decrease and small curvature, then the bracket is narrowed by cubic or
quadratic interpolation. The criteria, their constants and the numbers are those of
`optax.scale_by_zoom_linesearch`, which inlines the objective twice in a loop; told from outside, a
search compiles its objective once.
"""

from typing import NamedTuple

import jax.numpy as jnp

from mopl_jax.numerics.pytree import where
from mopl_jax.numerics.shapes import Count, Scalar, Truth

MOST = 6  # trials of one search; more do not pay, because the next direction is better
# Of Hager & Zhang (2006) and Nocedal & Wright, as in optax: how much of the slope at 0 a decrease
# must keep, how much of it may be left, and the rounding of values that is no increase.
DECREASE, CURVATURE, ROUNDING = 1e-4, 0.9, 1e-6
NARROW = 1e-5  # a bracket this short ends the search, if some trial decreased the objective


class Point(NamedTuple):
    """A `length` along the direction, the objective's `value` there, and its `slope`."""

    length: Scalar
    value: Scalar
    slope: Scalar


class LineSearch(NamedTuple):
    """Where a search stands.

    `trial`: the length to evaluate next, or the length that was chosen if the search has ended
    `count`: trials so far
    `bracketed`: whether `low` and `high` enclose a good step
    `start`: the point of length 0
    `last`: the last trial
    `low`, `high`: ends of the bracket, `low` the one of the lower value
    `reference`: a third point, for the cubic
    `safe`: the best trial of sufficient decrease
    """

    trial: Scalar
    count: Count  # pyright: ignore[reportIncompatibleMethodOverride]
    bracketed: Truth
    start: Point
    last: Point
    low: Point
    high: Point
    reference: Point
    safe: Point


def begin(value: Scalar, slope: Scalar, guess: Scalar) -> LineSearch:
    """The search from a point with this `value` and `slope`; its first trial is `guess`."""
    start = Point(jnp.zeros_like(value), value, slope)
    none = jnp.zeros((), jnp.int32), jnp.asarray(False)
    return LineSearch(guess, *none, start, start, start, start, start, start)


def tell(search: LineSearch, value: Scalar, slope: Scalar) -> tuple[LineSearch, Truth]:
    """The search after its trial was evaluated, and whether it has ended."""
    new = Point(search.trial, value, slope)
    rise = _rise(new, search.start)
    steep = jnp.abs(slope) - CURVATURE * jnp.abs(search.start.slope)
    done = (rise <= 0) & (steep <= 0)
    told = where(search.bracketed, _narrowed(search, new, rise), _grown(search, new, rise, done))
    short = search.bracketed & (jnp.abs(search.high.length - search.low.length) <= NARROW)
    failed = ~done & ((told.count >= MOST) | (short & (told.safe.length > 0)))
    back = failed & ((told.safe.length > 0) | (rise == jnp.inf))
    chosen = jnp.where(back, told.safe.length, new.length)
    asked = jnp.where(told.bracketed, _interpolated(told), 2 * new.length)
    ended = done | failed
    return told._replace(trial=jnp.where(ended, chosen, asked)), ended


def _rise(new, start):
    """How far a trial is from a sufficient decrease; not positive if it is one, infinite if NaN."""
    armijo = new.value - start.value - DECREASE * new.length * start.slope
    near = new.value - start.value - ROUNDING * jnp.abs(start.value)
    approximate = jnp.maximum(new.slope - (2 * DECREASE - 1) * start.slope, near)
    rise = jnp.minimum(approximate, armijo)
    return jnp.where(jnp.isnan(rise), jnp.inf, rise)


def _grown(search, new, rise, done):
    """Before there is a bracket: does the new trial close one with the trial before?"""
    last = search.last
    beyond = (rise > 0) | ((new.value >= last.value) & (search.count > 0))
    turned = (new.slope >= 0) & ~beyond
    low, high = where(turned, (new, last), (last, new))
    safe = where(rise <= 0, new, search.safe)
    return LineSearch(
        search.trial,
        search.count + 1,
        beyond | turned | done,
        search.start,
        new,
        low,
        high,
        low,
        safe,
    )


def _narrowed(search, new, rise):
    """Within a bracket: the new trial becomes one of its ends."""
    low, high = search.low, search.high
    worse = (rise > 0) | (new.value >= low.value)
    across = (new.slope * (high.length - low.length) >= 0) & ~worse
    safe = where((rise <= 0) & (new.value < search.safe.value), new, search.safe)
    return search._replace(
        count=search.count + 1,
        last=new,
        low=where(worse, low, new),
        high=where(worse, new, where(across, low, high)),
        reference=where(worse | across, high, low),
        safe=safe,
    )


def _interpolated(search):
    """A length inside the bracket: the cubic's minimum, else the parabola's, else the middle.

    A minimum counts where it keeps a fifth (the parabola's: a tenth) of the bracket from its ends.
    """
    low, high = search.low, search.high
    ends = jnp.minimum(low.length, high.length), jnp.maximum(low.length, high.length)
    margin = jnp.abs(high.length - low.length)

    def inside(length, share):
        return (length > ends[0] + share * margin) & (length < ends[1] - share * margin)

    cubic, parabola = _cubic(low, high, search.reference), _parabola(low, high)
    middle = 0.5 * (low.length + high.length)
    middle = jnp.where(inside(parabola, 0.1), parabola, middle)
    return jnp.where(inside(cubic, 0.2), cubic, middle)


def _cubic(a, b, c):
    """Where the cubic through three points, with the slope of the first, has its minimum."""
    to_b, to_c = b.length - a.length, c.length - a.length
    over_b, over_c = b.value - a.value - a.slope * to_b, c.value - a.value - a.slope * to_c
    unit = jnp.square(to_b * to_c) * (to_b - to_c)
    third = (to_c**2 * over_b - to_b**2 * over_c) / unit
    second = (to_b**3 * over_c - to_c**3 * over_b) / unit
    return a.length + (jnp.sqrt(second * second - 3 * third * a.slope) - second) / (3 * third)


def _parabola(a, b):
    """Where the parabola through two points, with the slope of the first, has its minimum."""
    to_b = b.length - a.length
    return a.length - a.slope / (2 * ((b.value - a.value - a.slope * to_b) / to_b**2))


STEPS = 30

"""Feasible sets of scalarisation weights, as projections: action (d,) -> the nearest feasible
action (d,).
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.numerics import linalg
from mopl_jax.numerics.roots import crossing, implicit
from mopl_jax.policies.gaussian import Gaussian

Projection = Callable[[Float[Array, " d"]], Float[Array, " d"]]
# of alternating between two sets; each round shrinks the error geometrically where the sets cross
ROUNDS = 30


def unconstrained(action: Float[Array, " d"]) -> Float[Array, " d"]:
    """No constraint."""
    return action


def box(low: ArrayLike, high: ArrayLike) -> Projection:
    """low ≤ a ≤ high entrywise, ±inf where open (a sign is a box with one end at 0); ValueError if
    it is empty.
    """
    bottom, top = np.asarray(low, float), np.asarray(high, float)
    for k in np.flatnonzero(~(bottom <= top)):
        raise ValueError(
            f"infeasible constraints: weight {k + 1} of {bottom.size}: expected lower ≤ upper, got"
            f" {bottom[k]:g} > {top[k]:g}"
        )
    return lambda a: optax.projections.projection_box(
        a, jnp.asarray(bottom, a.dtype), jnp.asarray(top, a.dtype)
    )


def box_and_hyperplane(low: ArrayLike, high: ArrayLike, total: float) -> Projection:
    """low ≤ a ≤ high and Σa = total; exact: clip(a − λ) with the λ that gives the sum, by
    bisection.

    Bounds all open leave the plane, and where all are closed on one side the sum closes the
    other. ValueError if no action satisfies both, and for other mixtures of open and closed
    bounds.
    """
    bottom, top = np.asarray(low, float), np.asarray(high, float)
    box(bottom, top)
    if not (np.isfinite(bottom).any() or np.isfinite(top).any()):
        return lambda a: optax.projections.projection_hyperplane(a, jnp.ones_like(a), total)
    if not bottom.sum() <= total <= top.sum():
        raise ValueError(
            f"infeasible constraints: the sum must be {total:g}, but bounds allow {bottom.sum():g}"
            f" to {top.sum():g}"
        )
    bottom, top = _closed(bottom, top, total)

    def project(a):
        lo, hi = jnp.asarray(bottom, a.dtype), jnp.asarray(top, a.dtype)

        def beyond(shift):
            """By how much the sum falls short of the total, and its slope: the free entries."""
            moved = a - shift
            free = jnp.sum((moved > lo) & (moved < hi), dtype=a.dtype)
            return total - jnp.sum(jnp.clip(moved, lo, hi)), free

        found = crossing(lambda shift: beyond(shift)[0], jnp.min(a - hi), jnp.max(a - lo))
        return jnp.clip(a - implicit(beyond, found), lo, hi)

    return project


def _closed(bottom, top, total):
    """The bounds, with those that the sum and the closed side imply."""
    if np.isfinite(bottom).all():
        return bottom, np.minimum(top, total - (bottom.sum() - bottom))
    if np.isfinite(top).all():
        return np.maximum(bottom, total - (top.sum() - top)), top
    raise ValueError(
        "with a fixed sum, expected all lower or all upper bounds to be finite, or none; bound"
        " every weight"
    )


def box_around(current: ArrayLike, change: ArrayLike) -> Projection:
    """|a − current| ≤ change entrywise."""
    centre, reach = (
        np.asarray(current, float),
        np.broadcast_to(np.asarray(change, float), np.shape(current)),
    )
    return box(centre - reach, centre + reach)


def ball(reference: Gaussian, radius: float) -> Projection:
    """(a − μ₀)ᵀΣ₀⁻¹(a − μ₀) ≤ radius²: for Σ = Σ₀ the trust region KL(π‖π₀) ≤ radius²/2, and d₂
    ≤ exp(radius²).

    Projected in the metric of Σ₀, that of the natural gradient: towards the centre along the ray.
    """

    def project(a):
        z = optax.projections.projection_l2_ball(
            linalg.scale_solve(reference.scale, a - reference.mean), radius
        )
        return reference.mean + linalg.scale_times(reference.scale, z)

    return project


def spherical_cap(centre: Float[Array, " d"], radius: float) -> Projection:
    """Actions of the length of `centre` (d,) ≠ 0, d ≥ 2, at most `radius` < √2 ‖centre‖ from it:
    rankings as sharp, near by.

    Whatever points further aside is turned towards `centre` in the plane of both, then scaled.
    """
    length = jnp.linalg.norm(centre)
    widest = 2 * jnp.arcsin(jnp.minimum(radius / (2 * length), math.sqrt(0.5)))

    def project(a):
        along = centre * jnp.dot(a, centre) / length**2
        aside = optax.safe_norm(a - along, 1e-6 * length)
        short = jnp.maximum(aside / jnp.tan(widest) - jnp.dot(a, centre) / length, 0)
        turned = a + short * centre / length
        return length * turned / jnp.linalg.norm(turned)

    return project


def radius_of(divergence: float) -> float:
    """The radius of `ball` for KL(π‖π₀) ≤ divergence at the logging covariance."""
    return math.sqrt(2 * divergence)


def intersection(first: Projection, second: Projection) -> Projection:
    """The intersection of two sets by alternating projections, ending in `second` (von Neumann;
    nearly the nearest).
    """

    return lambda a: lax.fori_loop(0, ROUNDS, lambda _, x: second(first(x)), a)

"""Feasible sets of scalarisation weights, as projections: action (d,) -> the nearest feasible
action (d,).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.numerics import linalg
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
        ends = lax.stop_gradient((jnp.min(a - hi), jnp.max(a - lo)))

        def halve(_, ends):
            middle = 0.5 * (ends[0] + ends[1])
            high_sum = jnp.sum(jnp.clip(a - middle, lo, hi)) > total
            return jnp.where(high_sum, middle, ends[0]), jnp.where(high_sum, ends[1], middle)

        shift = lax.stop_gradient(0.5 * sum(lax.fori_loop(0, 40, halve, ends)))
        inside = lax.stop_gradient((a - shift > lo) & (a - shift < hi)).astype(a.dtype)
        share = jnp.where(
            jnp.sum(inside) > 0, jnp.sum((a - lax.stop_gradient(a)) * inside), 0
        ) / jnp.maximum(jnp.sum(inside), 1)
        return (
            jnp.clip(a - shift, lo, hi) - share * inside
        )  # the multiplier moves with the free entries

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


class Bounds(NamedTuple):
    """What bounds of the weights and of their changes ask for; each one number or d, None if open.

    `low`, `high`: of each weight
    `total`: what the weights must add up to
    `max_change`: of each weight from production
    """

    low: ArrayLike | None = None
    high: ArrayLike | None = None
    total: float | None = None
    max_change: ArrayLike | None = None

    def projection(self, d: int, production: Float[np.ndarray, " d"] | None = None) -> Projection:
        """The projection of d weights; ValueError if nothing is feasible."""
        if all(bound is None for bound in self):
            return unconstrained
        bottom, top = _each("low", self.low, -math.inf, d), _each("high", self.high, math.inf, d)
        if self.max_change is not None:
            if production is None:
                raise ValueError("max_change: change from what? give the production weights")
            reach = _each("max_change", self.max_change, math.inf, d)
            bottom = np.maximum(bottom, production - reach)
            top = np.minimum(top, production + reach)
        if self.total is None:
            return box(bottom, top)
        return box_and_hyperplane(bottom, top, self.total)


def _each(name, bound, default, d):
    """A bound for each of d weights."""
    values = np.asarray(default if bound is None else bound, float)
    if values.size not in (1, d):
        raise ValueError(f"{name}: expected one number or {d}, got {values.size}")
    return np.broadcast_to(values.reshape(-1), (d,))


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

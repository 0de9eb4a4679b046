"""Feasible sets of scalarisation weights, each a projection from an action to the nearest in it."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.numerics import linalg
from mopl_jax.numerics.roots import crossing, implicit
from mopl_jax.numerics.shapes import Vector
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture

Projection = Callable[[Vector], Vector]
# Of alternating between two sets: the error shrinks by a constant factor a round where they cross.
ROUNDS = 30


def unconstrained(action: Vector) -> Vector:
    """No constraint."""
    return action


def box(low: ArrayLike, high: ArrayLike) -> Projection:
    """low ≤ a ≤ high entrywise, ±inf where open: a sign is a box with one end at 0.

    ValueError if it is empty.
    """
    bottom, top = np.atleast_1d(*np.broadcast_arrays(np.asarray(low, float), high))
    for k in np.flatnonzero(~(bottom <= top)):
        raise ValueError(
            f"infeasible constraints: weight {k + 1} of {bottom.size}: expected lower ≤ upper, got"
            f" {bottom[k]:g} > {top[k]:g}"
        )
    return lambda a: optax.projections.projection_box(
        a, jnp.asarray(bottom, a.dtype), jnp.asarray(top, a.dtype)
    )


def check_projection(project: Projection, d: int) -> None:
    """ValueError unless `project` maps `d` weights to as many."""
    try:
        fine = jax.eval_shape(project, jax.ShapeDtypeStruct((d,), float)).shape == (d,)
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise ValueError(
            f"constraints: expected bounds for {d} weights, as many as the log has; give one number"
            " for all, or one a weight"
        )


def box_and_hyperplane(low: ArrayLike, high: ArrayLike, total: float) -> Projection:
    """low ≤ a ≤ high and Σa = total: clip(a − λ) with the λ that gives the sum.

    Without any finite bound the set is the plane; where all bounds of one side are finite, the
    sum bounds the other side. ValueError if no action satisfies both, and for other mixtures of
    open and closed bounds.
    """
    bottom, top = np.asarray(low, float), np.asarray(high, float)
    box(bottom, top)
    if not np.isfinite(total):
        raise ValueError(
            f"infeasible constraints: the sum must be finite, got {total}; give a number"
        )
    if not (np.isfinite(bottom).any() or np.isfinite(top).any()):
        return lambda a: optax.projections.projection_hyperplane(a, jnp.ones_like(a), total)
    if not bottom.sum() <= total <= top.sum():
        raise ValueError(
            f"infeasible constraints: the sum must be {total:g}, but bounds allow {bottom.sum():g}"
            f" to {top.sum():g}; widen them, or give another sum"
        )
    bottom, top = _closed(bottom, top, total)

    def project(a):
        lo, hi = jnp.asarray(bottom, a.dtype), jnp.asarray(top, a.dtype)

        def short(shift):
            return total - jnp.sum(jnp.clip(a - shift, lo, hi))

        found = crossing(short, jnp.min(a - hi), jnp.max(a - lo))
        return jnp.clip(a - implicit(jax.value_and_grad(short), found), lo, hi)

    return project


def _closed(bottom, top, total):
    """The bounds, with those that `total` and the side whose bounds are all finite imply."""
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
        bottom, top = self.ends(d, production)
        if self.total is None:
            return box(bottom, top)
        return box_and_hyperplane(bottom, top, self.total)

    def ends(
        self, d: int, production: Float[np.ndarray, " d"] | None = None
    ) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
        """Lower and upper bounds of each weight, ±inf where there is none."""
        bottom, top = _each("low", self.low, -math.inf, d), _each("high", self.high, math.inf, d)
        if self.max_change is None:
            return bottom, top
        if production is None:
            raise ValueError("max_change: change from what? give the production weights")
        reach = _each("max_change", self.max_change, math.inf, d)
        return np.maximum(bottom, production - reach), np.minimum(top, production + reach)


def _each(name, bound, default, d):
    """A bound for each of d weights."""
    values = np.asarray(default if bound is None else bound, float)
    if values.size not in (1, d):
        raise ValueError(f"{name}: expected one number or {d}, got {values.size}")
    return np.broadcast_to(values.reshape(-1), (d,))


def box_around(current: ArrayLike, change: ArrayLike) -> Projection:
    """|a − current| ≤ change entrywise."""
    centre = np.asarray(current, float)
    reach = np.broadcast_to(np.asarray(change, float), centre.shape)
    return box(centre - reach, centre + reach)


def ball(reference: Gaussian, radius: float) -> Projection:
    """(a − μ₀)ᵀΣ₀⁻¹(a − μ₀) ≤ radius², μ₀ and Σ₀ those of the `reference` policy.

    The trust region KL(π‖π₀) ≤ radius²/2, in which d₂ ≤ exp(radius²), of policies π with Σ = Σ₀.
    Actions move towards μ₀ along the ray: the projection in the metric of Σ₀, that of the
    natural gradient.
    """

    def project(a):
        z = optax.projections.projection_l2_ball(
            linalg.scale_solve(reference.scale, a - reference.mean), radius
        )
        return reference.mean + linalg.scale_times(reference.scale, z)

    return project


def spherical_cap(centre: Vector, radius: float) -> Projection:
    """Actions of the length of `centre` (d,) ≠ 0, d ≥ 2, at most `radius` < √2 ‖centre‖ from it.

    Their rankings are as sharp as that of `centre`. An action that points further aside is
    turned towards `centre` in the plane of both, then scaled.
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


def intersection(first: Projection, second: Projection) -> Projection:
    """The intersection of two sets by alternating projections, ending in `second` (von Neumann).

    It ends near the nearest point, not always at it.
    """
    return lambda a: lax.fori_loop(0, ROUNDS, lambda _, x: second(first(x)), a)


def share_outside(project: Projection, policy: Gaussian | Mixture) -> float:
    """The share of a policy's draws that `project` moves by more than rounding.

    Constraints bind the mean of a policy, and a normal policy plays around it: of `DRAWS` draws.
    """
    if project is unconstrained:
        return 0.0
    draws = jax.vmap(policy.sample)(jax.random.split(jax.random.key(0), DRAWS))
    return share_moved(project, draws, jnp.sqrt(jnp.min(jnp.diagonal(policy.covariance))))


def share_moved(project: Projection, draws: Float[Array, "n d"], unit: ArrayLike) -> float:
    """The share of `draws` that `project` moves by more than rounding, of weights of one `unit`."""
    moved = jnp.max(jnp.abs(jax.vmap(project)(draws) - draws), axis=1)
    return float(np.mean(np.asarray(moved > 1e-3 * unit)))


DRAWS = 4096  # a share of one half has a standard error of 0.008
FLOOR = 0.002  # least ESS/n

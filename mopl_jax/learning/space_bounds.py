"""Bounds of the weights, as what is learnt of is to keep them."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mopl_jax.learning.constraints import (
    Bounds,
    Projection,
    box,
    box_and_hyperplane,
    unconstrained,
)
from mopl_jax.learning.space import LOG_RATIOS, WEIGHTS, Space
from mopl_jax.policies.transformed import SHARES

LEAST_SHARE = 1e-6  # whose log ratio is finite


def projection_of(
    bounds: Bounds, space: Space, d: int, production: Float[np.ndarray, " k"] | None
) -> Projection:
    """The projection of what is learnt in the `space`, where `production` is, by the bounds of d
    weights; ValueError if nothing is feasible, and for a sum that has no meaning there.
    """
    if space == WEIGHTS:
        return bounds.projection(d, production)
    if all(bound is None for bound in bounds):
        return unconstrained
    ends = bounds.ends(d, None if production is None else space.weights(production))
    if space == LOG_RATIOS:
        return _of_shares(*ends, bounds.total)
    if bounds.total is not None:
        raise ValueError(f"sum: {space.name} of weights have no bound of their sum; leave it out")
    return box(*space.ends(*ends))


def _of_shares(bottom, top, total) -> Projection:
    """By the nearest shares between the bounds, as log ratios."""
    if total not in (None, 1.0):
        raise ValueError(f"sum: expected 1, as shares add up to, got {total:g}; leave it out")
    nearest = box_and_hyperplane(np.maximum(bottom, LEAST_SHARE), np.minimum(top, 1.0), 1.0)

    def project(z: Any) -> Any:
        return SHARES.backward(jnp.asarray(nearest(SHARES.forward(z)), z.dtype))

    return project

"""Quadratic features of actions in the units of a policy, and what they are on average under it."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from mopl_jax.numerics import linalg, quadratic
from mopl_jax.numerics.shapes import Vector
from mopl_jax.policies.gaussian import Gaussian


def quadratic_features(policy: Gaussian, action: Vector) -> Float[Array, " f"]:
    """The features 1, z, zᵢzⱼ (i ≤ j) of one action in the units of the `policy`."""
    return quadratic.features(linalg.scale_solve(policy.scale, action - policy.mean))


def expected_features(target: Gaussian, dtype: Any) -> Float[Array, " f"]:
    """Their expectation under the target: 1, 0, and 1 for squares, 0 for cross products."""
    d = target.mean.shape[0]
    return quadratic.expected_features(jnp.zeros(d, dtype), jnp.eye(d, dtype=dtype))

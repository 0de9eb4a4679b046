"""Policies made of independent ones for some of the weights each."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import block_diag

from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Matrix, OneKey, Scalar, Vector
from mopl_jax.policies.discrete import Discrete


@pytree_dataclass()
class Product:
    """Independent `parts`, the first for the first weights, and so on."""

    parts: tuple[Any, ...]

    @property
    def dim(self) -> int:
        """d."""
        return sum(part.dim for part in self.parts)

    @property
    def mean(self) -> Vector:
        """The mean action (d,); AttributeError where a part does not know its own."""
        return jnp.concatenate([part.mean for part in self.parts])

    @property
    def covariance(self) -> Matrix:
        """The covariance matrix (d, d), likewise."""
        return block_diag(*[part.covariance for part in self.parts])

    def sample(self, key: OneKey) -> Vector:
        """One action (d,)."""
        keys = jax.random.split(key, len(self.parts))
        return jnp.concatenate([part.sample(k) for part, k in zip(self.parts, keys, strict=True)])

    def log_density(self, action: Vector) -> Scalar:
        """The sum of the parts' log densities."""
        total, first = jnp.zeros((), action.dtype), 0
        for part in self.parts:
            total = total + part.log_density(action[first : first + part.dim])
            first += part.dim
        return total


def combined(policy: Product) -> Discrete | None:
    """A product of discrete policies as one of all combinations, those of the last part next to one
    another; None for a product of others.
    """
    if not all(isinstance(part, Discrete) for part in policy.parts):
        return None
    actions, share = np.zeros((1, 0)), np.ones(1)
    for part in policy.parts:
        own = np.asarray(part.actions)
        each = np.repeat(actions, len(own), axis=0)
        actions = np.concatenate([each, np.tile(own, (len(actions), 1))], axis=1)
        share = np.outer(share, np.exp(np.asarray(part.log_probability))).ravel()
    return Discrete.of(actions, share)

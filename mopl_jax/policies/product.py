"""Policies made of independent ones for some of the weights each."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.linalg import block_diag

from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Matrix, OneKey, Scalar, Vector


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

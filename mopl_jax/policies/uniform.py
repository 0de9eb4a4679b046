"""Uniform policies on a box."""

import jax.numpy as jnp

from mopl_jax.numerics import random
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Matrix, OneKey, Scalar, Vector


@pytree_dataclass()
class Uniform:
    """Uniform policy on a box: the logging policy that the curse of dimensionality punishes.

    `low`: the smallest entries (d,).
    `high`: the largest entries (d,).
    """

    low: Vector
    high: Vector

    @property
    def dim(self) -> int:
        """d."""
        return self.low.shape[-1]

    @property
    def mean(self) -> Vector:
        """The middle of the box (d,)."""
        return 0.5 * (self.low + self.high)

    @property
    def covariance(self) -> Matrix:
        """The covariance matrix (d, d): a twelfth of the squared widths."""
        return jnp.diag(jnp.square(self.high - self.low) / 12)

    def sample(self, key: OneKey) -> Vector:
        """One action (d,)."""
        u = random.uniform(key, self.low.shape[0]).astype(self.low.dtype)
        return self.low + (self.high - self.low) * u

    def log_density(self, action: Vector) -> Scalar:
        """−log volume inside the box, −inf outside."""
        inside = jnp.all((action >= self.low) & (action <= self.high))
        return jnp.where(inside, -jnp.sum(jnp.log(self.high - self.low)), -jnp.inf)

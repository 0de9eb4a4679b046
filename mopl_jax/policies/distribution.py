"""Distributions of other libraries as policies."""

from typing import Any

from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import OneKey, Scalar, Vector


@pytree_dataclass()
class Distribution:
    """A NumPyro distribution over (d,) vectors as a policy."""

    distribution: Any

    @property
    def dim(self) -> int:
        """d."""
        return self.distribution.event_shape[0]

    def sample(self, key: OneKey) -> Vector:
        """One action (d,)."""
        return self.distribution.sample(key)

    def log_density(self, action: Vector) -> Scalar:
        """`distribution.log_prob(action)`."""
        return self.distribution.log_prob(action)

"""Mixtures of policies: what a log that several logging policies share is drawn from."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.numerics import random, safe
from mopl_jax.numerics.check import MOST_PARTS, check_count
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Matrix, OneKey, Scalar, Vector
from mopl_jax.policies.policy import Policy


@pytree_dataclass()
class Mixture:
    """Play one of k policies, chosen at random: a log that several logging policies share is
    drawn from theirs.

    `log_weight`: log probabilities (k,) of the components.
    `components`: k policies on the same space.
    """

    log_weight: Float[Array, " k"]
    components: tuple[Any, ...]

    @classmethod
    def of(cls, weight: ArrayLike, components: Sequence[Policy]) -> "Mixture":
        """`weight` (k,) positive, in any unit: rows, traffic or probability.

        ValueError for more components than can be compiled.
        """
        check_count(
            len(components), MOST_PARTS, "components of a mixture", "join those nearly alike"
        )
        return cls(safe.log_shares(weight), tuple(components))

    @property
    def dim(self) -> int:
        """d."""
        return self.components[0].dim

    @property
    def mean(self) -> Vector:
        """The mean action (d,); AttributeError where a component does not know its own."""
        return jnp.exp(self.log_weight) @ jnp.stack([each.mean for each in self.components])

    @property
    def covariance(self) -> Matrix:
        """The covariance matrix (d, d): that within the components, and between their means."""
        mean = self.mean
        about = [
            each.covariance + jnp.outer(gap := each.mean - mean, gap) for each in self.components
        ]
        return jnp.tensordot(jnp.exp(self.log_weight), jnp.stack(about), 1)

    def sample(self, key: OneKey) -> Vector:
        """One action (d,)."""
        choose, draw = jax.random.split(key)
        u = random.uniform(choose, 1)[0]
        index = jnp.sum(u > jnp.cumsum(jnp.exp(self.log_weight))[:-1].astype(u.dtype))
        return jnp.stack([component.sample(draw) for component in self.components])[index]

    def log_density(self, action: Vector) -> Scalar:
        """log Σ exp(log weight + log density): −inf where no component can play."""
        each = jnp.stack([component.log_density(action) for component in self.components])
        return jax.nn.logsumexp(self.log_weight.astype(each.dtype) + each)

"""Policies that choose among a few actions: the arms of an A/B/n test."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.numerics import random, safe
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Matrix, OneKey, Scalar, Vector

SAME = 1e-6  # of a weight: as far may a logged action be from the arm that it is


@pytree_dataclass()
class Discrete:
    """Play one of k actions, each with its probability, which is the density: of unit masses.

    `actions`: (k, d).
    `log_probability`: (k,).
    """

    actions: Float[Array, "k d"]
    log_probability: Float[Array, " k"]

    @classmethod
    def of(cls, actions: ArrayLike, probability: ArrayLike) -> "Discrete":
        """`probability` (k,) positive, in any unit: rows, traffic or probability.

        ValueError for two actions that are the same.
        """
        rows = np.asarray(actions, float)
        if len(np.unique(rows, axis=0)) < len(rows):
            raise ValueError("expected different actions, got one twice; add its probabilities")
        return cls(jnp.asarray(rows), safe.log_shares(probability))

    @property
    def dim(self) -> int:
        """d."""
        return self.actions.shape[-1]

    @property
    def mean(self) -> Vector:
        """The mean action (d,)."""
        return jnp.exp(self.log_probability) @ self.actions

    @property
    def covariance(self) -> Matrix:
        """The covariance matrix (d, d)."""
        away = self.actions - self.mean[None, :]
        return (away * jnp.exp(self.log_probability)[:, None]).T @ away

    def sample(self, key: OneKey) -> Vector:
        """One action (d,)."""
        u = random.uniform(key, 1)[0]
        below = jnp.cumsum(jnp.exp(self.log_probability))[:-1].astype(u.dtype)
        return self.actions[jnp.sum(u > below)]

    def which(self, action: Vector) -> Array:
        """Whether an action is each of the arms, (k,)."""
        near = SAME * jnp.maximum(jnp.abs(self.actions), 1)
        return jnp.all(jnp.abs(self.actions - action[None, :]) <= near, axis=1)

    def log_density(self, action: Vector) -> Scalar:
        """The log probability of the arm, −inf for an action that is none."""
        each = jnp.where(self.which(action), self.log_probability, -jnp.inf)
        return jax.nn.logsumexp(each)

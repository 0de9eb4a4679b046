"""Dirichlet policies: weights that are shares of one."""

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Matrix, OneKey, Scalar, Vector
from mopl_jax.policies.transformed import ON_SIMPLEX


@pytree_dataclass()
class Dirichlet:
    """Shares of one with `concentration` (d,): their mean times how closely they stay at it."""

    concentration: Vector

    @property
    def dim(self) -> int:
        """d."""
        return self.concentration.shape[-1]

    @property
    def mean(self) -> Vector:
        """The mean action (d,)."""
        return self.concentration / jnp.sum(self.concentration)

    @property
    def covariance(self) -> Matrix:
        """The covariance matrix (d, d), which is singular."""
        mean = self.mean
        spread = jnp.diag(mean) - mean[:, None] * mean[None, :]
        return spread / (1 + jnp.sum(self.concentration))

    def sample(self, key: OneKey) -> Vector:
        """One action (d,)."""
        alpha = self.concentration.astype(jnp.float32)  # row keys draw words of 32 bits
        logs = jax.random.loggamma(key, alpha, dtype=jnp.float32)
        return jax.nn.softmax(logs.astype(self.concentration.dtype))

    def log_density(self, action: Vector) -> Scalar:
        """Log density with respect to the first d − 1 weights, −inf off the simplex."""
        inside = jnp.all(action > 0) & (jnp.abs(jnp.sum(action) - 1) <= ON_SIMPLEX)
        logs = jnp.log(jnp.where(action > 0, action, 1))
        alpha = self.concentration
        constant = gammaln(jnp.sum(alpha)) - jnp.sum(gammaln(alpha))
        return jnp.where(inside, constant + jnp.sum((alpha - 1) * logs), -jnp.inf)

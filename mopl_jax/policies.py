"""Policies over scalarisation weights: the action is the weight vector in R^d.

Contract: `policy.sample(key) -> action (d,)` and `policy.log_density(action (d,)) -> ()`. Any object with these two
methods serves. Functions are written for one action; `jax.vmap` makes them act on a log.
"""

import math
from typing import Any, Protocol

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from mopl_jax import _linalg, _random
from mopl_jax._record import record


class Policy(Protocol):
    """What every policy offers."""

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]: ...

    def log_density(self, action: Float[Array, " d"]) -> Float[Array, ""]: ...


@record()
class Gaussian:
    """Normal policy N(mean, scale scaleᵀ), the logging policy that keeps small changes informative in high dimension.

    `mean` (d,); `scale` is (d,) standard deviations, or the (d, d) lower Cholesky factor of the covariance. Build it
    with `Gaussian.diagonal` or `Gaussian.full`.
    """

    mean: Float[Array, " d"]
    scale: Float[Array, "d *d"]

    @classmethod
    def diagonal(cls, mean: ArrayLike, scale: ArrayLike) -> "Gaussian":
        """Independent entries: `mean` (d,), `scale` standard deviations (d,) or one for all. Scales must be > 0."""
        mean = jnp.asarray(mean) * 1.0
        return cls(mean, jnp.broadcast_to(jnp.asarray(scale, mean.dtype), mean.shape))

    @classmethod
    def full(cls, mean: ArrayLike, covariance: ArrayLike) -> "Gaussian":
        """`mean` (d,), `covariance` (d, d) symmetric positive definite; otherwise densities are NaN."""
        mean = jnp.asarray(mean) * 1.0
        return cls(mean, jnp.linalg.cholesky(jnp.asarray(covariance, mean.dtype)))

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """The covariance matrix (d, d)."""
        factor = jnp.diag(self.scale) if self.scale.ndim == 1 else self.scale
        return factor @ factor.T

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        """One action (d,)."""
        z = _random.normal(key, self.mean.shape[0]).astype(self.mean.dtype)
        return self.mean + _linalg.scale_times(self.scale, z)

    def log_density(self, action: Float[Array, " d"]) -> Float[Array, ""]:
        """Log density with respect to Lebesgue measure."""
        z = _linalg.scale_solve(self.scale, action - self.mean)
        constant = 0.5 * self.mean.shape[0] * math.log(2 * math.pi)
        return -0.5 * _linalg.square(z) - _linalg.log_determinant(self.scale) - constant


@record()
class Uniform:
    """Uniform policy on the box [low, high], each (d,): the logging policy that the curse of dimensionality punishes."""

    low: Float[Array, " d"]
    high: Float[Array, " d"]

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        """One action (d,)."""
        u = _random.uniform(key, self.low.shape[0]).astype(self.low.dtype)
        return self.low + (self.high - self.low) * u

    def log_density(self, action: Float[Array, " d"]) -> Float[Array, ""]:
        """−log volume inside the box, −inf outside."""
        inside = jnp.all((action >= self.low) & (action <= self.high))
        return jnp.where(inside, -jnp.sum(jnp.log(self.high - self.low)), -jnp.inf)


@record()
class Distribution:
    """A NumPyro distribution over (d,) vectors as a policy."""

    distribution: Any

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        """One action (d,)."""
        return self.distribution.sample(key)

    def log_density(self, action: Float[Array, " d"]) -> Float[Array, ""]:
        """`distribution.log_prob(action)`."""
        return self.distribution.log_prob(action)


def smooth(action: ArrayLike, bandwidth: ArrayLike) -> Gaussian:
    """Gaussian smoothing of the deterministic policy that plays `action` (d,), with standard deviation `bandwidth`.

    Kernel off-policy evaluation with a Gaussian kernel is importance weighting for this policy (Kallus & Zhou,
    AISTATS 2018); an interval for it covers the value of the smoothed policy, not that of `action`.
    """
    return Gaussian.diagonal(action, bandwidth)

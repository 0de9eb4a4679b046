"""Policies over scalarisation weights: the action is the weight vector in R^d.

Contract: `policy.sample(key) -> action (d,)` and `policy.log_density(action (d,)) -> ()`. Any object with these two
methods serves. Functions are written for one action; `jax.vmap` makes them act on a log.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from mopl_jax.numerics import linalg, random
from mopl_jax.numerics.pytree import record


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
        z = random.normal(key, self.mean.shape[0]).astype(self.mean.dtype)
        return self.mean + linalg.scale_times(self.scale, z)

    def log_density(self, action: Float[Array, " d"]) -> Float[Array, ""]:
        """Log density with respect to Lebesgue measure."""
        z = linalg.scale_solve(self.scale, action - self.mean)
        constant = 0.5 * self.mean.shape[0] * math.log(2 * math.pi)
        return -0.5 * linalg.square(z) - linalg.log_determinant(self.scale) - constant


@record()
class Uniform:
    """Uniform policy on the box [low, high], each (d,): the logging policy that the curse of dimensionality punishes."""

    low: Float[Array, " d"]
    high: Float[Array, " d"]

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        """One action (d,)."""
        u = random.uniform(key, self.low.shape[0]).astype(self.low.dtype)
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


@record()
class Mixture:
    """Play one of k policies, chosen at random: a log that several logging policies share is drawn from theirs.

    `log_weight` (k,) log probabilities of the `components`, policies on the same space.
    """

    log_weight: Float[Array, " k"]
    components: tuple[Policy, ...]

    @classmethod
    def of(cls, weight: ArrayLike, components: Sequence[Policy]) -> "Mixture":
        """`weight` (k,) positive, in any unit: rows, traffic or probability."""
        weight = jnp.asarray(weight) * 1.0
        return cls(jnp.log(weight) - jnp.log(jnp.sum(weight)), tuple(components))

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        """One action (d,)."""
        choose, draw = jax.random.split(key)
        u = random.uniform(choose, 1)[0]
        index = jnp.sum(u > jnp.cumsum(jnp.exp(self.log_weight))[:-1].astype(u.dtype))
        return jnp.stack([component.sample(draw) for component in self.components])[index]

    def log_density(self, action: Float[Array, " d"]) -> Float[Array, ""]:
        """log Σ exp(log weight + log density): −inf where no component can play."""
        each = jnp.stack([component.log_density(action) for component in self.components])
        return jax.nn.logsumexp(self.log_weight.astype(each.dtype) + each)


@record()
class Deterministic:
    """Always play `action` (d,). It has no density: `smooth` gives the policy that an importance weight can speak of."""

    action: Float[Array, " d"]

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        """The action."""
        return self.action

    def log_density(self, action: Float[Array, " d"]) -> Float[Array, ""]:
        """ValueError: there is none."""
        raise ValueError("a deterministic policy has no density; smooth it: policies.smooth(action, bandwidth)")


def smooth(action: ArrayLike, bandwidth: ArrayLike) -> Gaussian:
    """Gaussian smoothing of the deterministic policy that plays `action` (d,), with standard deviation `bandwidth`.

    Kernel off-policy evaluation with a Gaussian kernel is importance weighting for this policy (Kallus & Zhou,
    AISTATS 2018); an interval for it covers the value of the smoothed policy, not that of `action`.
    """
    return Gaussian.diagonal(action, bandwidth)

"""Synthetic worlds whose policy values are known exactly.

Contract: `environment.sample_reward(key, action (d,)) -> ()` and
`environment.policy_value(policy) -> ()`. An `Environment` is a mean reward and a noise, each a
record whose fields are data: a sweep over physics is a `vmap`. Mean rewards map action (d,) to
() and know their expectation under a Gaussian; noises are centred, with `scale` a standard
deviation except where said.
"""

import math
from typing import Protocol, cast

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from mopl_jax.numerics import linalg, random
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Matrix, OneKey, Scalar, Vector
from mopl_jax.planning import precision
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy


class MeanReward(Protocol):
    """Expected reward as a function of the action, with its exact expectation under a Gaussian
    policy.
    """

    def __call__(self, action: Vector) -> Scalar: ...

    def expectation(self, policy: Gaussian) -> Scalar: ...


Range = tuple[float, float]


class Noise(Protocol):
    """`reward(key, mean, spread)`: one reward with that mean; `spread` multiplies the noise (1
    where homoscedastic).

    `reward_range`: the range that all rewards are known to respect, None where there is none.
    """

    @property
    def reward_range(self) -> Range | None: ...

    def reward(self, key: OneKey, mean: Scalar, spread: Scalar) -> Scalar: ...


@pytree_dataclass()
class Environment:
    """Reward = mean_reward(action) + spread(action) · noise, spread(action) = exp(log_spreadᵀ
    action), 1 if None.
    """

    mean_reward: MeanReward
    noise: Noise
    log_spread: Vector | None = None

    def sample_reward(self, key: OneKey, action: Vector) -> Scalar:
        """One reward for `action` (d,)."""
        mean = self.mean_reward(action)
        spread = (
            jnp.ones_like(mean)
            if self.log_spread is None
            else jnp.exp(linalg.dot(self.log_spread, action))
        )
        return self.noise.reward(key, mean, spread)

    def policy_value(self, policy: Policy) -> Scalar:
        """The exact expected reward of a Gaussian policy, or of a mixture of such."""
        if isinstance(policy, Mixture):
            values = jnp.stack([self.policy_value(component) for component in policy.components])
            return jnp.sum(jnp.exp(policy.log_weight) * values)
        return self.mean_reward.expectation(cast(Gaussian, policy))

    @property
    def reward_range(self) -> Range | None:
        """The range that all rewards respect, None where there is none."""
        return self.noise.reward_range


@pytree_dataclass()
class Linear:
    """slopeᵀa + intercept."""

    slope: Vector
    intercept: Scalar

    def __call__(self, action: Vector) -> Scalar:
        return linalg.dot(self.slope, action) + self.intercept

    def expectation(self, policy: Gaussian) -> Scalar:
        """slopeᵀμ + intercept."""
        return self(policy.mean)


@pytree_dataclass()
class Quadratic:
    """peak − ½ (a−optimum)ᵀ C (a−optimum), `curvature` C (d, d)."""

    peak: Scalar
    optimum: Vector
    curvature: Matrix

    def __call__(self, action: Vector) -> Scalar:
        offset = action - self.optimum
        return self.peak - 0.5 * sum(
            offset[i] * linalg.dot(row, offset) for i, row in enumerate(self.curvature)
        )

    def expectation(self, policy: Gaussian) -> Scalar:
        """The value at the mean minus ½ tr(CΣ)."""
        return self(policy.mean) - 0.5 * jnp.sum(self.curvature * policy.covariance)


@pytree_dataclass()
class Cosine:
    """offset + amplitude cos(frequencyᵀa): many optima."""

    frequency: Vector
    amplitude: Scalar
    offset: Scalar

    def __call__(self, action: Vector) -> Scalar:
        return self.offset + self.amplitude * jnp.cos(linalg.dot(self.frequency, action))

    def expectation(self, policy: Gaussian) -> Scalar:
        """The wave at the mean, damped by exp(−½ kᵀΣk)."""
        damping = jnp.exp(-0.5 * linalg.dot(self.frequency, policy.covariance @ self.frequency))
        return self.offset + damping * (self(policy.mean) - self.offset)


@pytree_dataclass()
class Exponential:
    """offset + amplitude exp(rateᵀa)."""

    rate: Vector
    amplitude: Scalar
    offset: Scalar

    def __call__(self, action: Vector) -> Scalar:
        return self.offset + self.amplitude * jnp.exp(linalg.dot(self.rate, action))

    def expectation(self, policy: Gaussian) -> Scalar:
        """The exponential at the mean, raised by exp(½ kᵀΣk)."""
        raised = jnp.exp(0.5 * linalg.dot(self.rate, policy.covariance @ self.rate))
        return self.offset + raised * (self(policy.mean) - self.offset)


@pytree_dataclass()
class Probit:
    """offset + amplitude Φ(slopeᵀa + intercept): a rate that rises from one level to another, or
    a reward that saturates.
    """

    slope: Vector
    intercept: Scalar
    amplitude: Scalar
    offset: Scalar

    def __call__(self, action: Vector) -> Scalar:
        return self._at(linalg.dot(self.slope, action) + self.intercept)

    def expectation(self, policy: Gaussian) -> Scalar:
        """Φ at (slopeᵀμ + intercept) / √(1 + slopeᵀΣ slope)."""
        spread = 1 + linalg.dot(self.slope, policy.covariance @ self.slope)
        middle = linalg.dot(self.slope, policy.mean) + self.intercept
        return self._at(middle / jnp.sqrt(spread))

    def _at(self, x):
        return self.offset + self.amplitude * ndtr(x)


@pytree_dataclass()
class Normal:
    """Normal noise with standard deviation `scale`."""

    scale: Scalar

    reward_range = None

    def reward(self, key: OneKey, mean: Scalar, spread: Scalar) -> Scalar:
        """mean + spread · scale · z."""
        return mean + spread * self.scale * random.normal(key, 1)[0].astype(mean.dtype)


@pytree_dataclass()
class StudentT:
    """`scale` times Student's t with `df` degrees of freedom (variance scale² df/(df−2)), df real
    and > 1.
    """

    df: Scalar
    scale: Scalar

    reward_range = None

    def reward(self, key: OneKey, mean: Scalar, spread: Scalar) -> Scalar:
        """Bailey's polar method (1994), exact for real df: √(df (u^{−2/df} − 1)) cos of a uniform
        angle.
        """
        words = jax.random.bits(key, (2,), jnp.uint32)
        log_u = jnp.log(random.unit(words[0])).astype(mean.dtype)
        radius = jnp.sqrt(self.df * jnp.expm1(-2 / self.df * log_u))
        return mean + spread * self.scale * radius * random.cosine_sine(words[1])[0].astype(
            mean.dtype
        )


@pytree_dataclass()
class LogNormal:
    """Right-skewed noise scale · (exp(shape z − ½ shape²) − 1): mean 0, standard deviation scale
    √(exp(shape²)−1).
    """

    shape: Scalar
    scale: Scalar

    reward_range = None

    def reward(self, key: OneKey, mean: Scalar, spread: Scalar) -> Scalar:
        """mean + spread · scale · (exp(shape z − ½ shape²) − 1)."""
        z = random.normal(key, 1)[0].astype(mean.dtype)
        return mean + spread * self.scale * jnp.expm1(self.shape * z - 0.5 * self.shape**2)


@pytree_dataclass()
class Bernoulli:
    """Rewards in {0, 1} with the mean reward as probability, which must lie in [0, 1]; `spread` has
    no meaning here.
    """

    reward_range = (0.0, 1.0)

    def reward(self, key: OneKey, mean: Scalar, spread: Scalar) -> Scalar:
        """1 with probability mean."""
        return (random.uniform(key, 1)[0].astype(mean.dtype) < mean).astype(mean.dtype)


@pytree_dataclass()
class ZeroInflated:
    """Watch time: 0 with probability 1 − `share`, else log-normal with log standard deviation
    `shape`; the mean must be ≥ 0.

    Standard deviation mean · √(exp(shape²)/share − 1); `spread` has no meaning here.
    """

    share: Scalar
    shape: Scalar

    reward_range = (0.0, math.inf)

    def reward(self, key: OneKey, mean: Scalar, spread: Scalar) -> Scalar:
        """B mean/share · exp(shape z − ½ shape²), B Bernoulli(share)."""
        words = jax.random.bits(key, (3,), jnp.uint32)
        z = random.box_muller(words[1:])[0].astype(mean.dtype)
        size = mean / self.share * jnp.exp(self.shape * z - 0.5 * self.shape**2)
        return jnp.where(
            random.unit(words[0]).astype(mean.dtype) < self.share, size, jnp.zeros_like(size)
        )


def snips_variance(environment: Environment, logging: Gaussian, target: Gaussian) -> Scalar:
    """n · asymptotic variance of SNIPS for a linear mean reward and homoscedastic normal noise,
    in closed form.

    d₂ (bᵀΣ̃b + (bᵀ(μ̃−μ))² + σ²) with w²π₀/d₂ = N(μ̃, Σ̃). Raises TypeError for other environments.
    """
    mean, noise = environment.mean_reward, environment.noise
    if (
        not isinstance(mean, Linear)
        or not isinstance(noise, Normal)
        or environment.log_spread is not None
    ):
        raise TypeError(
            "expected a Linear mean reward with homoscedastic Normal noise; use simulation for"
            " other worlds"
        )
    return precision.variance(logging, target, mean.slope, noise.scale)

"""Policies whose weights are a known function of those of another policy: log-normal weights, and
shares of one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Matrix, OneKey, Scalar, Vector
from mopl_jax.policies.soft_clip import SoftClip

ON_SIMPLEX = 1e-6  # by how much shares may fail to add up to one


class Map(NamedTuple):
    """A one-to-one function of weights.

    `forward`: (k,) -> (d,)
    `backward`: (d,) -> (k,)
    `log_jacobian`: of `backward` at an action (d,), log |det|; −inf for what `forward` never gives
    `grows`: d − k
    `moments`: base -> mean (d,) and covariance (d, d), where they are known
    """

    forward: Callable[[Vector], Vector]
    backward: Callable[[Vector], Vector]
    log_jacobian: Callable[[Vector], Scalar]
    grows: int = 0
    moments: Callable[[Any], tuple[Vector, Matrix]] | None = None


def _log(x):
    return jnp.log(jnp.where(x > 0, x, 1))


def _exp_jacobian(action):
    return jnp.where(jnp.all(action > 0), -jnp.sum(_log(action)), -jnp.inf)


def _shares(z):
    return jax.nn.softmax(jnp.concatenate([z, jnp.zeros_like(z[:1])]))


def _log_ratios(action):
    return _log(action[:-1]) - _log(action[-1])


def _shares_jacobian(action):
    inside = jnp.all(action > 0) & (jnp.abs(jnp.sum(action) - 1) <= ON_SIMPLEX)
    return jnp.where(inside, -jnp.sum(_log(action)), -jnp.inf)


def _exp_moments(base):
    """exp(μ + ½σ²), and mᵢmⱼ (exp Σᵢⱼ − 1)."""
    mean = jnp.exp(base.mean + 0.5 * jnp.diagonal(base.covariance))
    return mean, mean[:, None] * mean[None, :] * jnp.expm1(base.covariance)


EXP = Map(jnp.exp, _log, _exp_jacobian, moments=_exp_moments)
SHARES = Map(_shares, _log_ratios, _shares_jacobian, 1)


@pytree_dataclass(static=("map",))
class Transformed:
    """Play `map.forward(z)` of a draw z of `base`.

    The density is that of `base` at z times |dz/da|; with respect to the first d − 1 weights for
    shares, of which the last follows.
    """

    base: Any
    map: Map | SoftClip

    @property
    def dim(self) -> int:
        """d."""
        return self.base.dim + self.map.grows

    @property
    def mean(self) -> Vector:
        """The mean action (d,); AttributeError where it is not known."""
        return self._moments()[0]

    @property
    def covariance(self) -> Matrix:
        """The covariance matrix (d, d), likewise."""
        return self._moments()[1]

    def _moments(self):
        if self.map.moments is None:
            raise AttributeError("the mean and covariance of this map are not known")
        return self.map.moments(self.base)

    def sample(self, key: OneKey) -> Vector:
        """One action (d,)."""
        return self.map.forward(self.base.sample(key))

    def log_density(self, action: Vector) -> Scalar:
        """log π(z) + log |dz/da|, −inf for what is never played."""
        jacobian = self.map.log_jacobian(action)
        inner = self.base.log_density(self.map.backward(action))
        return jnp.where(jacobian > -jnp.inf, inner + jacobian, -jnp.inf)

"""Weights kept between bounds by a smooth map: a normal policy that bends before it reaches them.

z ↦ z + s log(1 + e^{(low − z)/s}) − s log(1 + e^{(z − high)/s}), the SoftClip of TensorFlow
Probability: z itself where the bounds are some softnesses s away, and a logistic function where
they are near. Unlike a truncated normal it is a one-to-one function of normal weights; unlike a
clipped one it has a density everywhere.
"""

import dataclasses

import jax
import jax.numpy as jnp

from mopl_jax.numerics.shapes import Scalar, Vector

NEAREST = 1e-6  # to a bound, in softnesses: beyond it, what is played twice has no place


def _log1mexp(x):
    """log(1 − e^{−x}) for x > 0; 0 at infinity."""
    return jnp.where(x < 0.7, jnp.log(-jnp.expm1(-x)), jnp.log1p(-jnp.exp(-x)))


@dataclasses.dataclass(frozen=True)
class SoftClip:
    """A `Map` of d weights to d between bounds, known by its numbers.

    `low`, `high`: the bounds (d,), ±inf where there is none
    `softness`: s (d,) > 0
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    softness: tuple[float, ...]

    @property
    def grows(self) -> int:
        """0: as many weights as there are normal ones."""
        return 0

    @property
    def moments(self) -> None:
        """Not known."""

    def _gaps(self, action):
        """How far an action is from its bounds, in softnesses."""
        low, high, s = self._ends(action)
        gaps = (action - low) / s, (high - action) / s
        return s, *(jnp.maximum(gap, NEAREST) for gap in gaps)

    def _ends(self, like):
        return [jnp.asarray(x, like.dtype) for x in (self.low, self.high, self.softness)]

    def forward(self, z: Vector) -> Vector:
        """The weights (d,)."""
        low, high, s = self._ends(z)
        bent = z + s * (jax.nn.softplus((low - z) / s) - jax.nn.softplus((z - high) / s))
        return jnp.clip(bent, low, high)

    def backward(self, action: Vector) -> Vector:
        """z (d,)."""
        s, above, below = self._gaps(action)
        return action + s * (_log1mexp(above) - _log1mexp(below))

    def log_jacobian(self, action: Vector) -> Scalar:
        """Σ log dz/da = Σ log(1/(1 − e^{−(a − low)/s}) + 1/(e^{(high − a)/s} − 1)); −inf outside of
        the bounds.
        """
        low, high, _ = self._ends(action)
        _, above, below = self._gaps(action)
        slope = jnp.exp(-_log1mexp(above)) + jnp.exp(-below - _log1mexp(below))
        inside = jnp.all((action >= low) & (action <= high))
        return jnp.where(inside, jnp.sum(jnp.log(slope)), -jnp.inf)

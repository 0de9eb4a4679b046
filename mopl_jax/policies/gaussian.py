"""Normal policies.

The contract is in `policy`; here is the logging policy that most platforms play.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.numerics import linalg, random
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Matrix, OneKey, Scalar, Vector


@pytree_dataclass()
class Gaussian:
    """Normal policy N(mean, scale scaleᵀ), the logging policy that keeps small changes
    informative in high dimension.

    `mean`: (d,).
    `scale`: standard deviations (d,), or the lower Cholesky factor (d, d) of the covariance.

    Build it with `Gaussian.diagonal` or `Gaussian.full`.
    """

    mean: Vector
    scale: Float[Array, "d *d"]

    @classmethod
    def diagonal(cls, mean: ArrayLike | Sequence[float], scale: ArrayLike) -> "Gaussian":
        """Independent entries: `mean` (d,), `scale` standard deviations (d,) or one for all.

        ValueError unless scales are > 0, where they are known: not inside `jit`.
        """
        mean = jnp.asarray(mean) * 1.0
        scale = jnp.asarray(scale, mean.dtype)
        if not isinstance(scale, Tracer) and not np.all(np.asarray(scale) > 0):
            raise ValueError(f"expected standard deviations > 0, got {np.asarray(scale).min():g}")
        return cls(mean, jnp.broadcast_to(scale, mean.shape))

    @classmethod
    def full(cls, mean: ArrayLike, covariance: ArrayLike) -> "Gaussian":
        """`mean` (d,), `covariance` (d, d) symmetric positive definite; otherwise densities are
        NaN.

        Of NumPy's numbers the factor is found in float64: correlations of 1 − 10⁻⁸, which float32
        rounds to one, leave factors that it holds.
        """
        mean = jnp.asarray(mean) * 1.0
        if isinstance(covariance, np.ndarray):
            return cls(mean, jnp.asarray(_factor(covariance.astype(float)), mean.dtype))
        return cls(mean, jnp.linalg.cholesky(jnp.asarray(covariance, mean.dtype)))

    @property
    def covariance(self) -> Matrix:
        """The covariance matrix (d, d)."""
        factor = jnp.diag(self.scale) if self.scale.ndim == 1 else self.scale
        return factor @ factor.T

    @property
    def dim(self) -> int:
        """d."""
        return self.mean.shape[-1]

    def sample(self, key: OneKey) -> Vector:
        """One action (d,)."""
        z = random.normal(key, self.mean.shape[0]).astype(self.mean.dtype)
        return self.mean + linalg.scale_times(self.scale, z)

    def log_density(self, action: Vector) -> Scalar:
        """Log density with respect to Lebesgue measure."""
        z = linalg.scale_solve(self.scale, action - self.mean)
        constant = 0.5 * self.mean.shape[0] * math.log(2 * math.pi)
        return -0.5 * linalg.square(z) - linalg.log_determinant(self.scale) - constant


def _factor(covariance):
    """The Cholesky factor of a matrix of NumPy; NaN of one that has none."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return np.full_like(covariance, np.nan)


def same_moments(policy: Any) -> Gaussian | None:
    """The Gaussian with the `mean` and `covariance` of a policy; None where it does not know them.

    The expectation of a quadratic function is the same under both.
    """
    if isinstance(policy, Gaussian):
        return policy
    if not (hasattr(policy, "mean") and hasattr(policy, "covariance")):
        return None
    return Gaussian(policy.mean, linalg.cholesky(policy.covariance))

"""What a log is worth before it is drawn: moments of the importance weight in closed form, from the
two policies.
"""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Float

from mopl_jax.policies.gaussian import Gaussian


@functools.singledispatch
def population_d2(logging, target: Gaussian) -> Float[Array, ""]:
    """d₂ = E_π₀[w²], the second moment of the importance weight; population ESS is n / d₂. inf
    where it diverges.

    `population_d2(logging, target)`: logging Gaussian (any covariance), or uniform with a
    diagonal Gaussian target.
    """
    raise TypeError(f"expected a Gaussian or Uniform logging policy, got {type(logging).__name__}")


@functools.singledispatch
def population_max_weight(logging, target: Gaussian) -> Float[Array, ""]:
    """w_max = sup π/π₀, the largest importance weight that can occur; inf where weights are
    unbounded.

    `population_max_weight(logging, target)`: logging Gaussian, or uniform with a diagonal
    Gaussian target.
    """
    raise TypeError(f"expected a Gaussian or Uniform logging policy, got {type(logging).__name__}")


def _gap_factor(covariance):
    """Cholesky factor; NaN where the matrix is not positive definite, which the callers read as
    divergence.
    """
    return jnp.linalg.cholesky(covariance)


def _diagonal(target):
    if target.scale.ndim == 2:
        raise ValueError(
            "expected a diagonal target for uniform logging, got a full covariance; use"
            " Gaussian.diagonal"
        )
    return target.scale

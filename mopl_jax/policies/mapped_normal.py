"""Normal policies seen through a map: log-normal weights, and shares of one."""

from jaxtyping import ArrayLike

from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.transformed import EXP, SHARES, Transformed


def log_normal(mean: ArrayLike, scale: ArrayLike) -> Transformed:
    """Weights whose logarithms are independent normals of `mean` (d,) and `scale`, one or (d,)."""
    return Transformed(Gaussian.diagonal(mean, scale), EXP)


def logistic_normal(mean: ArrayLike, scale: ArrayLike) -> Transformed:
    """Shares of one whose log ratios to the last are independent normals, (d − 1,) each.

    Aitchison & Shen, Biometrika 1980.
    """
    return Transformed(Gaussian.diagonal(mean, scale), SHARES)

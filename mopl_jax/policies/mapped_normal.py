"""Normal policies seen through a map: log-normal weights, shares of one, weights between bounds."""

import numpy as np
from jaxtyping import ArrayLike

from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.soft_clip import SoftClip
from mopl_jax.policies.transformed import EXP, SHARES, Transformed


def log_normal(mean: ArrayLike, scale: ArrayLike) -> Transformed:
    """Weights whose logarithms are independent normals of `mean` (d,) and `scale`, one or (d,)."""
    return Transformed(Gaussian.diagonal(mean, scale), EXP)


def logistic_normal(mean: ArrayLike, scale: ArrayLike) -> Transformed:
    """Shares of one whose log ratios to the last are independent normals, (d − 1,) each.

    Aitchison & Shen, Biometrika 1980.
    """
    return Transformed(Gaussian.diagonal(mean, scale), SHARES)


def soft_clipped_normal(
    mean: ArrayLike, scale: ArrayLike, low: ArrayLike, high: ArrayLike, softness: ArrayLike
) -> Transformed:
    """Independent normals of `mean` (d,) and `scale`, kept between `low` and `high` (d,),
    ±inf where there is no bound, by a map that bends over some `softness`, one or (d,), as in
    `SoftClip`.
    """
    base = Gaussian.diagonal(mean, scale)
    each = (np.broadcast_to(np.asarray(x, float), base.mean.shape) for x in (low, high, softness))
    return Transformed(base, SoftClip(*(tuple(x.tolist()) for x in each)))

"""Target policies at a given distance from a logging policy, measured by what the log is worth:
ESS/n = 1/d₂.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np

from mopl_jax.estimators.divergence import population_d2
from mopl_jax.numerics.check import choose
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.policy import Policy
from mopl_jax.policies.uniform import Uniform

# Of log d₂, the share that the change of scale makes; the shift of the mean makes the rest.
WIDTHS = {"narrow": 0.5, "same": 0.0, "wide": 0.3}
# of the logger's variance: the weights then have moments up to the sixth, k/(k−1) bounds the k-th
WIDEST = 1.2


@functools.singledispatch
def overlapping(logging: Policy, ess: float, width: str = "narrow") -> Gaussian:
    """A normal target with population ESS/n = `ess` in (0, 1]; `width` narrow, same or wide, as
    against the logger.

    `overlapping(logging, ess, width)`: normal logging, moved along the diagonal of its whitened
    space and rescaled; or a uniform box, of which the target is a concentric normal (narrow
    alone).
    """
    raise ValueError(
        f"expected normal or uniform logging for a target by overlap, got {type(logging).__name__}"
    )


@overlapping.register
def _overlapping_normal(logging: Gaussian, ess: float, width: str = "narrow"):
    """(2−s²)s² = ess^(2 share/d) gives the scale s; |δ|² = (2−s²) (log 1/ess + d/2 log (2−s²)s²)
    the whitened shift.
    """
    choose([width], WIDTHS, "width")
    d = logging.mean.shape[0]
    gap = math.sqrt(max(1 - ess ** (2 * WIDTHS[width] / d), 0.0))
    variance = min(1 + gap, WIDEST) if width == "wide" else 1 - gap
    from_shift = max(-math.log(ess) + 0.5 * d * math.log((2 - variance) * variance), 0.0)
    step = math.sqrt((2 - variance) * from_shift / d)
    factor = logging.scale if logging.scale.ndim == 2 else jnp.diag(logging.scale)
    return Gaussian(
        logging.mean + step * jnp.sum(factor, axis=1), logging.scale * math.sqrt(variance)
    )


@overlapping.register
def _overlapping_box(logging: Uniform, ess: float, width: str = "narrow"):
    """The scale by bisection: d₂ falls as the normal widens, down to where it fills the box."""
    choose([width], {"narrow": None}, "width for uniform logging")
    centre, half = 0.5 * (logging.low + logging.high), 0.5 * (logging.high - logging.low)
    low, high = (
        1e-4,
        0.5,
    )  # of the half-width: wider targets leave the box, and their weights no longer average one
    for _ in range(50):
        middle = math.sqrt(low * high)
        enough = float(population_d2(logging, Gaussian(centre, middle * half))) <= 1 / ess
        low, high = (low, middle) if enough else (middle, high)
    found = Gaussian(centre, high * half)
    if not np.isclose(float(population_d2(logging, found)), 1 / ess, rtol=1e-2):
        raise ValueError(
            f"uniform logging in {half.shape[0]} dimensions has no such target: ess = {ess} is too"
            " large"
        )
    return found

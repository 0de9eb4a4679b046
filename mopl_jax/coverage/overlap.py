"""Target policies at a given distance from a logging policy, measured by ESS/n = 1/d₂."""

import functools
import math

import jax.numpy as jnp
import numpy as np

from mopl_jax.estimators.divergence import population_d2
from mopl_jax.numerics.check import choose
from mopl_jax.numerics.roots import crossing
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.policy import Policy
from mopl_jax.policies.uniform import Uniform

# The share of log d₂ that the change of scale makes; the shift of the mean makes the rest.
WIDTHS = {"narrow": 0.5, "same": 0.0, "wide": 0.3}
# Of the logging variance. The k-th moment of the weights exists for a ratio below k/(k−1), so
# that at 1.2 there are moments below the sixth.
WIDEST = 1.2
# of a box's half-width: wider normals leave the box, and their weights no longer average one
WIDEST_IN_BOX = 0.5


@functools.singledispatch
def overlapping(logging: Policy, ess: float, width: str = "narrow") -> Gaussian:
    """A normal target with population ESS/n = `ess` in (0, 1], narrower or wider than `logging`.

    For normal logging the target is the logging policy, moved along the diagonal of its whitened
    space and rescaled to a `width` "narrow", "same" or "wide". In a uniform box it is a
    concentric normal, "narrow" alone.
    """
    raise ValueError(
        f"expected normal or uniform logging for a target by overlap, got {type(logging).__name__}"
    )


@overlapping.register
def overlapping_gaussian(logging: Gaussian, ess: float, width: str = "narrow"):
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
def overlapping_box(logging: Uniform, ess: float, width: str = "narrow"):
    """The scale by bisection: d₂ falls as the normal widens, down to where it fills the box."""
    choose([width], {"narrow": None}, "width for uniform logging")
    centre, half = 0.5 * (logging.low + logging.high), 0.5 * (logging.high - logging.low)
    narrowest, widest = jnp.log(jnp.asarray([1e-4, WIDEST_IN_BOX], half.dtype))

    def scaled(log_scale):
        return Gaussian(centre, jnp.exp(log_scale) * half)

    enough = lambda log_scale: 1 / ess - population_d2(logging, scaled(log_scale))  # noqa: E731
    found = scaled(crossing(enough, narrowest, widest))
    if not np.isclose(float(population_d2(logging, found)), 1 / ess, rtol=1e-2):
        raise ValueError(
            f"uniform logging in {half.shape[0]} dimensions has no such target: ess = {ess} is too"
            " large; give a smaller one"
        )
    return found

"""`Interval`: a lower and an upper confidence limit; and one-sided bounds made of intervals."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Batch


@pytree_dataclass()
class Interval:
    """Lower and upper confidence limits, in the reward's unit; infinite where nothing is
    claimed.
    """

    lower: Batch
    upper: Batch

    @property
    def width(self) -> Batch:
        """upper − lower."""
        return self.upper - self.lower

    def contains(self, value: Batch) -> Bool[Array, "*batch"]:
        """Whether lower ≤ value ≤ upper."""
        return (self.lower <= value) & (value <= self.upper)


IntervalFunction = Callable[[Estimate, float], Interval]


def lower(interval: IntervalFunction) -> IntervalFunction:
    """The one-sided lower bound at level alpha: the lower end of the equal-tailed interval at 2
    alpha.
    """

    def bound(estimate, alpha):
        return Interval(interval(estimate, 2 * alpha).lower, jnp.full_like(estimate.value, jnp.inf))

    return bound


def upper(interval: IntervalFunction) -> IntervalFunction:
    """The one-sided upper bound at level alpha: the upper end of the equal-tailed interval at 2
    alpha.
    """

    def bound(estimate, alpha):
        return Interval(
            jnp.full_like(estimate.value, -jnp.inf), interval(estimate, 2 * alpha).upper
        )

    return bound


class NamedInterval(NamedTuple):
    """The interval `name` from `lower` to `upper`, ±inf where it claims nothing."""

    name: str
    lower: float
    upper: float

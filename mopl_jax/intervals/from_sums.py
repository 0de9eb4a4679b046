"""`FromSums`: an interval function that is a formula of `Moments`.

It serves every place where rows can lie: memory, blocks, a mesh, prefixes.
"""

import functools
from collections.abc import Callable

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.intervals.interval import Interval
from mopl_jax.intervals.moments import Moments, moments_of


class FromSums:
    """An interval function made of a formula (Moments, alpha, **facts) -> Interval.

    Unlike `Wald` it need not be a pivot: both ends may follow the value, as those of a proportion.
    """

    def __init__(self, formula: Callable[..., Interval]):
        self.formula = formula
        functools.update_wrapper(self, formula)

    def at(self, sums: Moments, alpha: float, **facts) -> Interval:
        """The interval given the sums (any batch shape)."""
        return self.formula(sums, alpha, **facts)

    def __call__(self, estimate: Estimate, alpha: float, **facts) -> Interval:
        return self.formula(moments_of(estimate), alpha, **facts)

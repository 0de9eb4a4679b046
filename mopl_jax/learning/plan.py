"""How to learn: the settings of a search and of its certificate."""

import math
from collections.abc import Callable
from typing import NamedTuple

from mopl_jax.diagnostics.weight_diagnostics import UNBOUNDED
from mopl_jax.intervals.ess_corrected import ess_skew
from mopl_jax.intervals.interval import IntervalFunction
from mopl_jax.intervals.reward_range import Range
from mopl_jax.learning.constraints import Projection, unconstrained
from mopl_jax.learning.objective import VALUATIONS, Valuation

# of the mean about the logging mean, in logging standard deviations: KL ≤ 2 at the logging scale
RADIUS = 2.0

Watch = Callable[[int, int], None]  # hears of stages that are done, and of all
Stop = Callable[[], bool]  # whether to end after a stage


class Plan(NamedTuple):
    """How to learn; every field has its default in `pipeline.learn`.

    `certificate`: the interval whose lower end is certified, at level `alpha`
    `valuation`: of the certificate
    `project`, `radius`: where means may be
    `reward_range`: in which rewards are known to lie
    """

    certificate: IntervalFunction = ess_skew
    alpha: float = 0.05
    valuation: Valuation = VALUATIONS["doubly_robust"]
    project: Projection = unconstrained
    radius: float = RADIUS
    reward_range: Range = UNBOUNDED


def check_plan(plan: Plan) -> None:
    """ValueError, before anything is compiled, for a radius that leaves nothing to search."""
    if not 0 < plan.radius < math.inf:
        raise ValueError(
            f"radius: expected a finite number > 0, got {plan.radius}; 2 logged standard deviations"
            " is the default"
        )

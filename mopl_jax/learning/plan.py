"""How to learn: the settings of a search."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import optax

from mopl_jax.intervals.ess_corrected import ess_exact, ess_skew
from mopl_jax.intervals.interval import IntervalFunction
from mopl_jax.learning.constraints import FLOOR, Projection, unconstrained
from mopl_jax.learning.line_search import STEPS
from mopl_jax.learning.objective import ValueEstimator, doubly_robust
from mopl_jax.learning.response_surface import (
    Surface,
)

# of the mean about the logging mean, in logging standard deviations: KL ≤ 2 at the logging scale
RADIUS = 2.0


class Plan(NamedTuple):
    """How to learn; every field has its default in `learn`."""

    interval: IntervalFunction = ess_exact
    alpha: float = 0.05
    value_estimator: Callable[[Surface], ValueEstimator] = doubly_robust
    project: Projection = unconstrained
    radius: float = RADIUS
    floor: float = FLOOR
    steps: int = STEPS
    optimiser: optax.GradientTransformation | None = None
    starts: int = 0  # random ones, beside the incumbent and the centre
    certificate: IntervalFunction = ess_skew  # for the rows that were not learnt from
    seed: int = 0  # of the random starts


def check_plan(plan: Plan, scales: Sequence[float]) -> None:
    """ValueError, before anything is compiled, for numbers that leave nothing to search."""
    for name, got, fine, expected, remedy in (
        ("steps", plan.steps, plan.steps >= 1, "at least 1", "30 are enough for most logs"),
        (
            "starts",
            plan.starts,
            plan.starts >= 0,
            "0 or more",
            "0 searches from the surface's maximum and the centre",
        ),
        (
            "radius",
            plan.radius,
            0 < plan.radius < math.inf,
            "a finite number > 0",
            "2 logged standard deviations is the default",
        ),
        (
            "floor",
            plan.floor,
            0 <= plan.floor < 1,
            "0 ≤ floor < 1",
            "0.002 asks for an effective row in 500",
        ),
        ("seed", plan.seed, plan.seed >= 0, "0 or more", "0 is the default"),
        *(
            (
                "scale",
                s,
                0 < s < math.inf,
                "finite numbers > 0",
                "0.85,0.7 play narrower than the log",
            )
            for s in scales
        ),
        (
            "scale",
            "none",
            len(scales) > 0,
            "one number at least",
            "0.85 plays a little narrower than the log",
        ),
    ):
        if not fine:
            raise ValueError(f"{name}: expected {expected}, got {got}; {remedy}")

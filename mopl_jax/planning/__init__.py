"""Planning exploration before traffic is spent: the verb `plan`, and the closed forms under it."""

from mopl_jax.planning.designs import Assumed, Design, Plan, plan
from mopl_jax.planning.precision import (
    Surface,
    best_rows,
    certified_regret,
    covariance,
    coverage_of_box,
    densest_scale,
    ess_share,
    exploration_cost,
    least,
    power,
    rows_needed,
    surface,
    variance,
)

__all__ = [
    "Assumed",
    "Design",
    "Plan",
    "Surface",
    "best_rows",
    "certified_regret",
    "covariance",
    "coverage_of_box",
    "densest_scale",
    "ess_share",
    "exploration_cost",
    "least",
    "plan",
    "power",
    "rows_needed",
    "surface",
    "variance",
]

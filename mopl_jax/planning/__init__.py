"""Planning exploration before traffic is spent: the verb `plan`, and the closed forms under it."""

from mopl_jax.planning.designs import Assumed, Design, Plan, plan
from mopl_jax.planning.precision import (
    Product,
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
    product,
    rows_needed,
    surface,
    variance,
)

__all__ = [
    "Assumed",
    "Design",
    "Plan",
    "Product",
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
    "product",
    "rows_needed",
    "surface",
    "variance",
]

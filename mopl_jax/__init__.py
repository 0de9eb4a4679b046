"""mopl_jax: from randomised scalarisation weights to new weights you can trust.

Rooms, each importing only those before it: `policies`, `logs`, `ess`, `estimators`, `environments`, `diagnose`,
`doubly_robust`, `intervals`, `bandwidth`, `world`, `replicates`, `coverage`; to learn, `constraints`,
`response_surface`, `learning`, `certification`, `refinement`, `workflow`; before and around it, `design`, `metrics`,
`validation`, `recommender`, `online`, `replay`, `loop`; then `study`, `storage`, `artifact`, `sources`, `roles`,
`tables`, `experiments`, `sharded`, `streaming`, `evaluation`, `doctor`, `targets`, `verdicts`, `plots`, `report` and
the command in `cli`.
"""

from mopl_jax import coverage, environments, ess, estimators, intervals, logs, policies

__all__ = ["coverage", "environments", "ess", "estimators", "intervals", "logs", "policies"]

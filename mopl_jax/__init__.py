"""mopl_jax: from randomised scalarisation weights to new weights you can trust.

Rooms, each importing only those before it: `policies`, `logs`, `ess`, `estimators`, `intervals`, `environments`,
`coverage`, `metrics`, `validation`, `design`; then `devices`, `study`, `storage`, `artifact`, `sources`, `roles`,
`tables`, `experiments`, `streaming`, `evaluation`, `targets`, `verdicts`, `doctor`, `obp`, `plots` and the command in
`cli`.
"""

from mopl_jax import coverage, environments, ess, estimators, intervals, logs, policies

__all__ = ["coverage", "environments", "ess", "estimators", "intervals", "logs", "policies"]

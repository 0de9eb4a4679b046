"""Coverage studies: how often intervals cover in worlds of known truth."""

from mopl_jax.doors import opened

DOORS = {
    name: f"mopl_jax.coverage.{name}" for name in ("engine", "overlap", "results", "study", "world")
} | {"CoverageStudy": "mopl_jax.coverage.run", "coverage_study": "mopl_jax.coverage.run"}

__getattr__, __dir__ = opened(__name__, DOORS)

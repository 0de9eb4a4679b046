"""Learnt metrics: past experiments in, a sensitive combination of their metrics out."""

from mopl_jax.doors import opened

DOORS = {
    "LearntMetric": "mopl_jax.metrics.learnt_metric",
    "experiments": "mopl_jax.metrics.experiments",
    "learn_metric": "mopl_jax.metrics.learnt_metric",
    "objectives": "mopl_jax.metrics.objectives",
    "validation": "mopl_jax.metrics.validation",
}

__getattr__, __dir__ = opened(__name__, DOORS)

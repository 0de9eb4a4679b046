"""Learnt metrics: past experiments in, a sensitive combination of their metrics out."""

from mopl_jax.doors import opened

DOORS = {
    "Reading": "mopl_jax.metrics.scorecards",
    "LearntMetric": "mopl_jax.metrics.learnt_metric",
    "experiments": "mopl_jax.metrics.experiments",
    "exchange": "mopl_jax.metrics.exchange",
    "learn_metric": "mopl_jax.metrics.learnt_metric",
    "learnt_reward": "mopl_jax.metrics.learnt_reward",
    "objectives": "mopl_jax.metrics.objectives",
    "past": "mopl_jax.metrics.past",
    "rules": "mopl_jax.metrics.rules",
    "validation": "mopl_jax.metrics.validation",
}

__getattr__, __dir__ = opened(__name__, DOORS)

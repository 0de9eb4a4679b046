"""Off-policy estimators of a policy's value: log weights and rewards in, `Estimate` out."""

from mopl_jax.estimators.cluster import clustered
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.importance import NAMED, beta_ips, difference, ips, optimal_baseline, snips
from mopl_jax.estimators.modified import clipped, harmonic, log_smoothed

__all__ = [
    "NAMED",
    "Estimate",
    "beta_ips",
    "clipped",
    "clustered",
    "difference",
    "harmonic",
    "ips",
    "log_smoothed",
    "optimal_baseline",
    "snips",
]

"""Off-policy estimators of a policy's value: log weights and rewards in, `Estimate` out."""

from mopl_jax.estimators.calibration import calibrated
from mopl_jax.estimators.cluster import clustered
from mopl_jax.estimators.contrast import difference
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.estimator import Estimator, Model
from mopl_jax.estimators.importance import NAMED, beta_ips, beta_ips_cross_fit, ips, snips
from mopl_jax.estimators.modified import clipped, harmonic, log_smoothed
from mopl_jax.estimators.registry import ESTIMATORS, bind_estimator
from mopl_jax.estimators.reward_model import doubly_robust

__all__ = [
    "ESTIMATORS",
    "Estimate",
    "Estimator",
    "Model",
    "NAMED",
    "beta_ips",
    "beta_ips_cross_fit",
    "bind_estimator",
    "calibrated",
    "clipped",
    "clustered",
    "difference",
    "doubly_robust",
    "harmonic",
    "ips",
    "log_smoothed",
    "snips",
]

"""Off-policy estimators of a policy's value: log weights and rewards in, `Estimate` out."""

from mopl_jax.estimators.importance import (
    NAMED,
    Estimate,
    beta_ips,
    clipped,
    difference,
    harmonic,
    ips,
    log_smoothed,
    optimal_baseline,
    snips,
)

__all__ = [
    "NAMED",
    "Estimate",
    "beta_ips",
    "clipped",
    "difference",
    "harmonic",
    "ips",
    "log_smoothed",
    "optimal_baseline",
    "snips",
]

"""Learning of log-normal policies: in all respects of a normal policy of the weights' logarithms.

Density, surface, search and certificate are those of the logarithms, and what is served is their
exponential.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from mopl_jax.logs import Logs
from mopl_jax.numerics.quadratic import TOLD_BY, left_over
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.transformed import EXP, Transformed


def is_log_normal(logging: Any) -> bool:
    """Whether a logging policy, or each of a mixture, plays exponentials of normals."""
    policies = logging.components if isinstance(logging, Mixture) else (logging,)
    return all(isinstance(x, Transformed) and x.map is EXP for x in policies)


SHARE, FEWER = 1e-3, 0.05  # of the densities' variance, and of what the other kind leaves


def has_log_normal_densities(logs: Logs) -> bool:
    """Whether the log densities of the rows are those of exponentials of a normal: all but for
    rounding quadratic in the weights' logarithms, and not in the weights.
    """
    action = np.asarray(logs.action, float)[:TOLD_BY]
    density = np.asarray(logs.log_propensity, float)[:TOLD_BY]
    if not (action > 0).all() or np.ptp(density) == 0:
        return False
    logarithm = np.log(action)
    log_normal = left_over(logarithm, density + logarithm.sum(axis=1))
    return log_normal < SHARE and log_normal < FEWER * left_over(action, density)


def in_logs(logs: Logs) -> Logs:
    """The log with the logarithms of the weights as actions, and their log densities."""
    action = np.log(np.asarray(logs.action))
    log_propensity = np.asarray(logs.log_propensity) + action.sum(axis=1)
    return dataclasses.replace(logs, action=action, log_propensity=log_propensity)


def weights_in_logs(production: Any) -> Any:
    """Production, weights (d,) or a log-normal policy, in logarithms; ValueError for others."""
    if isinstance(production, Transformed) and production.map is EXP:
        return production.base
    if hasattr(production, "covariance"):
        raise ValueError(
            "production: expected weights or a log-normal policy beside a log-normal log, got a"
            " policy of another kind"
        )
    weights = np.asarray(getattr(production, "action", production), float)
    if not (weights > 0).all():
        raise ValueError(
            f"production: expected weights above 0, as those of the log, got {weights.tolist()}"
        )
    return np.log(weights)


def bounds_in_logs(
    low: Float[np.ndarray, " d"], high: Float[np.ndarray, " d"]
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Bounds of the weights as those of their logarithms."""
    if not (high > 0).all():
        raise ValueError("high: expected bounds above 0, as the weights of the log are")
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(low, 0)), np.log(high)


def served(policy: Gaussian | Mixture) -> Transformed | Mixture:
    """The policy of the weights."""
    if isinstance(policy, Mixture):
        return dataclasses.replace(policy, components=tuple(map(served, policy.components)))
    return Transformed(policy, EXP)

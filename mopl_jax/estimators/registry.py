"""Estimators by name: a new one is a definition, and a line here."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from mopl_jax.estimators import modified
from mopl_jax.estimators.calibration import calibrated_of
from mopl_jax.estimators.estimator import Estimator
from mopl_jax.estimators.importance import beta_ips, beta_ips_cross_fit, ips, snips
from mopl_jax.estimators.reward_model import doubly_robust_of
from mopl_jax.numerics.check import choose
from mopl_jax.policies.gaussian import Gaussian, same_moments

# A name in `ESTIMATORS`, an estimator of one's own, or a function of the target that gives one.
Choice = str | Estimator | Callable[[Any], Estimator]


def _modified(reweigh: Callable[..., Any]) -> Estimator:
    """IPS of modified log weights; `reweigh(log_weight, reward, √n)`."""
    strength = lambda x, r, n: reweigh(x, r, jnp.sqrt(jnp.asarray(n, x.dtype)))  # noqa: E731
    return Estimator(ips.finish, ips.row, reweigh=strength)


# An estimator; or a function of the Gaussian with the target's mean and covariance, that gives one.
ESTIMATORS: dict[str, Estimator | Callable[[Gaussian], Estimator]] = {
    "ips": ips,
    "snips": snips,
    "beta_ips": beta_ips,
    "calibrated": calibrated_of,
    "doubly_robust": doubly_robust_of,
    "beta_ips_cross_fit": beta_ips_cross_fit,
}

# Of a modified value, which is not V: for studies. Their strength falls as 1/√n.
MODIFIED: dict[str, Estimator | Callable[[Gaussian], Estimator]] = {
    "clipped_ips": _modified(lambda x, r, root: modified.clipped(x, root)),
    "harmonic_ips": _modified(lambda x, r, root: modified.harmonic(x, 1 / root)),
    "log_smoothed_ips": _modified(lambda x, r, root: modified.log_smoothed(x, r, 1 / root)),
}


def is_of_target(choice: Choice) -> bool:
    """Whether the estimator is a function of the target policy: it has a model of the rewards."""
    return not isinstance(_chosen(choice), Estimator)


def name_of(choice: Choice) -> str:
    """The name of an estimator for documents: "own" for one of one's own."""
    return choice if isinstance(choice, str) else "own"


def _chosen(choice):
    if not isinstance(choice, str):
        return choice
    known = ESTIMATORS | MODIFIED
    return known[choose([choice], known, "estimator")[0]]


def bind_estimator(choice: Choice, target: Any = None) -> Estimator:
    """The estimator for the value of `target`; ValueError for an unknown name, or a target whose
    mean and covariance are not known, where the estimator needs them.
    """
    found = _chosen(choice)
    if isinstance(found, Estimator):
        return found
    if not isinstance(choice, str):
        return found(target)
    moments = same_moments(target)
    if moments is None:
        raise ValueError(
            f"estimator {choice}: expected a target whose mean and covariance are known: a normal "
            "policy, a uniform one, or a mixture of such; choose snips or beta_ips"
        )
    return found(moments)

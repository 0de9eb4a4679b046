"""Target policies for a log: read, put in the order of its columns, smoothed where they have no
density.
"""

import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mopl_jax.estimators.cluster import clustered
from mopl_jax.estimators.importance import snips
from mopl_jax.estimators.registry import Choice, bind_estimator
from mopl_jax.evaluation.answers import IN_MEMORY
from mopl_jax.evaluation.smoothing import slope
from mopl_jax.intervals.ess_corrected import ess_exact
from mopl_jax.io.log_reader import LogReader, check_weights, chunks
from mopl_jax.io.policy_json import read_policy
from mopl_jax.logs import Logs
from mopl_jax.policies.deterministic import Deterministic, smooth
from mopl_jax.policies.policy import Policy, check_policy

BANDWIDTHS = np.geomspace(0.05, 1.0, 8)  # of the standard deviation of each logged weight, for auto


def read_target(
    reader: LogReader, target: Any, bandwidth: str | float | None, only_deterministic: bool = True
) -> Any:
    """A policy from a policy or the path of one, a deterministic one smoothed; weights in the
    order of the log's columns.

    ValueError for a bandwidth without a deterministic policy, if it is for `only_deterministic`
    ones.
    """
    policy = target
    if isinstance(target, str | Path):
        policy, _ = read_policy(target, reader.columns.action or ())
    check_policy(policy, "target")
    if not isinstance(policy, Deterministic):
        if bandwidth is not None and only_deterministic:
            raise ValueError(
                "--bandwidth is for a deterministic target, and this one has a density; drop it"
            )
        return policy
    if bandwidth is None:
        raise ValueError(
            "a deterministic target has no density: give --bandwidth H to evaluate its smoothed"
            " policy, or --bandwidth auto"
        )
    return policy if bandwidth == "auto" else smooth(policy.action, _positive(bandwidth))


def _positive(bandwidth):
    try:
        number = float(bandwidth)
    except ValueError:
        number = math.nan
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(
            f"--bandwidth: expected a standard deviation > 0, or auto; got {bandwidth!r}"
        )
    return number


def choose_target(
    reader: LogReader, target: Any, bandwidth: str | float | None, estimator: Choice, alpha: float
) -> tuple[Policy, list[float] | None]:
    """The target, smoothed if it is deterministic; and the bandwidths where the data chose them
    ("auto").
    """
    policy = read_target(reader, target, bandwidth)
    check_weights(reader, policy, "target policy")
    if not isinstance(policy, Deterministic):
        return policy, None
    return _select(reader, policy, estimator, alpha)


def _select(reader, policy, estimator, alpha):
    """Lepski's rule on the rows that fit in memory: multiples of the standard deviation of each
    logged weight.
    """
    rows = next(chunks(reader, IN_MEMORY))
    if rows.action is None:
        raise ValueError(
            f"{reader.source.name}: a target policy needs the actions: name their columns"
            " (--action)"
        )
    deviation = np.std(rows.action, axis=0)
    if not deviation.min() > 0:
        raise ValueError(
            f"{reader.source.name}: --bandwidth auto: a logged weight does not vary; give a"
            " bandwidth"
        )
    logs = Logs(
        *(jnp.asarray(column) for column in (rows.action, rows.log_propensity, rows.reward))
    )
    candidates = jnp.asarray(BANDWIDTHS[:, None] * deviation[None, :])
    plain = snips if estimator == "doubly_robust" else bind_estimator(estimator)
    chosen = slope(logs, policy.action, candidates, _by_user(rows.cluster), alpha, plain)
    return smooth(policy.action, chosen.bandwidth), [float(x) for x in chosen.bandwidth]


def _by_user(cluster):
    """The interval that it compares bandwidths by."""
    if cluster is None:
        return ess_exact
    user, count = jnp.asarray(cluster), int(cluster.max()) + 1
    return lambda estimate, alpha: ess_exact(clustered(estimate, user, count), alpha)

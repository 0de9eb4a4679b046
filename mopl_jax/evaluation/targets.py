"""Target policies for a log: read, put in the order of its columns, smoothed where they have no
density.
"""

import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mopl_jax.evaluation.answer import IN_MEMORY
from mopl_jax.evaluation.smoothing import Bend, Smoothing, bend_about, least_error, users_of
from mopl_jax.io.log_reader import LogReader, check_weights, chunks
from mopl_jax.io.policy_json import read_policy
from mopl_jax.logs import Logs
from mopl_jax.numerics import quadratic
from mopl_jax.policies.deterministic import Deterministic, smooth
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.policy import Policy, check_policy


def read_target(
    reader: LogReader, target: Any, bandwidth: Any, only_deterministic: bool = True
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
    if isinstance(policy, Deterministic) and reader.source.table is not None:
        raise ValueError(
            f"{reader.source.name}: a deterministic target is smoothed by rows in memory, and these"
            " stay in their engine: give a normal policy with this mean and a scale, or export them"
        )
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
    if isinstance(bandwidth, str) and bandwidth == "auto":
        return policy
    return smooth(policy.action, _positive(bandwidth, policy.dim))


def given_policy(target: Any) -> Any:
    """A policy, or the one of a path, as it is."""
    return read_policy(target)[0] if isinstance(target, str | Path) else target


def _positive(bandwidth, d):
    """A standard deviation for all weights, or one for each: numbers, or their text."""
    parts = bandwidth.split(",") if isinstance(bandwidth, str) else bandwidth
    try:
        numbers = np.atleast_1d(np.asarray(parts, float))
    except ValueError:
        numbers = np.array([math.nan])
    if numbers.size not in (1, d) or not np.all((numbers > 0) & np.isfinite(numbers)):
        raise ValueError(
            f"--bandwidth: expected a standard deviation > 0, or {d}, one for each weight, or auto;"
            f" got {bandwidth!r}"
        )
    return jnp.broadcast_to(jnp.asarray(numbers), d)


def choose_target(
    reader: LogReader, target: Any, bandwidth: Any
) -> tuple[Policy, Smoothing | None]:
    """The target, and what smoothing it took if it is deterministic; the data choose how much
    ("auto").
    """
    policy, given = read_target(reader, target, bandwidth), given_policy(target)
    check_weights(reader, policy, "target policy")
    if not isinstance(given, Deterministic):
        return policy, None
    rows, selected = _first_rows(reader), isinstance(policy, Deterministic)
    bend = _bend(rows, given)
    chosen = _select(reader, rows, policy, bend) if selected else policy
    covariance = np.asarray(chosen.covariance)
    added, error = map(float, bend.added(chosen.covariance))
    bandwidth = tuple(np.sqrt(np.diagonal(covariance)).tolist())
    shape = tuple(map(tuple, covariance.tolist())) if selected else None
    return chosen, Smoothing(bandwidth, selected, added, error, shape)


def _bend(rows, given) -> Bend:
    speaks = 1.0 if rows.log_sampling is None else jnp.exp(rows.log_sampling)
    columns = map(jnp.asarray, (rows.action, rows.reward, given.action))
    return bend_about(*columns, speaks, *users_of(rows.cluster))


def _first_rows(reader):
    """The rows that fit in memory, which have actions."""
    rows = next(chunks(reader, IN_MEMORY))
    if rows.action is None:
        raise ValueError(
            f"{reader.source.name}: a target policy needs the actions: name their columns"
            " (--action)"
        )
    return rows


def _select(reader, rows, policy, bend) -> Gaussian:
    """The kernel of least estimated error."""
    if not np.std(rows.action, axis=0).min() > 0:
        raise ValueError(
            f"{reader.source.name}: --bandwidth auto: a logged weight does not vary; give a"
            " bandwidth"
        )
    if not np.isfinite(bend.curvature).all():
        raise ValueError(
            f"{reader.source.name}: --bandwidth auto: expected at least"
            f" {3 * quadratic.size(policy.dim)} rows, which tell how rewards bend about the target,"
            f" got {len(rows.reward)}; give a bandwidth"
        )
    kept = 0.0 if rows.log_sampling is None else rows.log_sampling
    columns = rows.action, rows.log_propensity - kept, rows.reward
    user, users = users_of(rows.cluster)
    logs = Logs(*map(jnp.asarray, columns), cluster=user, num_clusters=users)
    return least_error(logs, policy.action, bend)

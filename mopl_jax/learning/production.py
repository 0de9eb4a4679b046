"""What is played now: the weights that are compared with, and what they have more as they are
played.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mopl_jax.evaluation.smoothing import bend_about, users_of
from mopl_jax.io.context import context_of
from mopl_jax.io.known_before import check_known_before
from mopl_jax.io.log_reader import LogReader
from mopl_jax.io.policy_json import given_policy
from mopl_jax.learning import certification
from mopl_jax.learning.learnt_weights import LearntWeights, Served
from mopl_jax.learning.space import LOGARITHMS, Space
from mopl_jax.logs import speaks_for
from mopl_jax.policies.contextual import Segmented, is_contextual, no_weights

Weights = Float[np.ndarray, " d"]
SURFACED = 2**18  # rows that tell what production has more as it is played


def weights_now(given: Any, names: Sequence[str], space: Space) -> Weights | None:
    """The current weights, in the order of the `names`, in the space that is learnt in."""
    if given is None:
        return None
    weights = np.asarray(certification.weights_of(policy_now(given, names, space)), float)
    if not np.isfinite(weights).all():
        raise ValueError(f"production: expected finite numbers, got {weights.tolist()}")
    return weights


def by_row(given: Any, reader: LogReader) -> Any:
    """The policy by context that is played now: what is given, or that of the log where nothing is;
    None where all rows have one.

    ValueError for columns that the log lacks, or that were not known before the action.
    """
    names = reader.columns.action or ()
    policy: Any = reader.logging if given is None else given_policy(given, names)
    if not is_contextual(policy):
        return None
    if policy is not reader.logging:
        context_of(policy, reader.source, reader.columns, "production")
        check_known_before(reader, policy.columns, "production's context")
    return policy


def weights_by_row(policy: Any, codes: Any, space: Space) -> Float[np.ndarray, "n d"]:
    """The weights (n, d) that a policy by context has for rows of these codes, in the space that is
    learnt in.
    """
    if isinstance(policy, Segmented):
        own = [*policy.segments().values(), policy.otherwise]
        return np.stack([np.asarray(certification.weights_of(space.place(x))) for x in own])[codes]
    if policy.logarithms != (space == LOGARITHMS):
        kind = "log-normal" if policy.logarithms else "normal"
        raise ValueError(
            f"production: expected means of {space.kind} weights, as those of the log, got a"
            f" {kind} mean by context; give a table of segments"
        )
    plain = dataclasses.replace(policy, logarithms=False)
    return np.asarray(jax.vmap(lambda code: plain.given(code).mean)(jnp.asarray(codes)))


def policy_now(given: Any, names: Sequence[str], space: Space) -> Any:
    """The policy that is played now, in the space that is learnt in, from weights (d,), a policy or
    the path of its document.
    """
    policy = given_policy(given, names)
    if is_contextual(policy):
        columns = ",".join(policy.columns)
        raise ValueError(
            f"production: {no_weights(policy)}; the gain over it is learnt with --context"
            f" {columns} (learn_contextual), and of any policy told by compare"
        )
    check_size(getattr(policy, "dim", None) or np.size(np.asarray(policy)), len(names))
    return space.place(policy)


def check_size(known: int, d: int) -> None:
    """ValueError for production of another number of weights than the log's."""
    if known != d:
        raise ValueError(f"production: expected {d} weights, as many as the log has, got {known}")


def served_now(given: Any, names: Sequence[str], found: LearntWeights) -> Served | None:
    """What production has more as it is played, at one point or with a spread of its own."""
    if given is None:
        return None
    policy = policy_now(given, names, found.names.space)
    rows = found.logs if found.held is None else found.held
    known = rows.action[:SURFACED], rows.reward[:SURFACED], found.production
    each = speaks_for(rows)[:SURFACED]
    users = users_of(None if rows.cluster is None else rows.cluster[:SURFACED])
    # of all rows: policies with the learnt scale play nearly as widely as the log
    bend = bend_about(*map(jnp.asarray, (*known, each)), *users, nearest=math.inf)
    wider = getattr(policy, "covariance", 0.0) - jnp.asarray(found.policy.covariance)
    return Served(*map(float, bend.added(wider)))

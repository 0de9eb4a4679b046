"""What is played now: the weights that are compared with, and what they have more as they are
played.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mopl_jax.evaluation.smoothing import bend_about, users_of
from mopl_jax.io.policy_json import given_policy
from mopl_jax.learning import certification
from mopl_jax.learning.learnt_weights import LearntWeights, Served
from mopl_jax.learning.space import Space
from mopl_jax.logs import speaks_for
from mopl_jax.policies.contextual import is_contextual, no_weights

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


def policy_now(given: Any, names: Sequence[str], space: Space) -> Any:
    """The policy that is played now, in the space that is learnt in, from weights (d,), a policy or
    the path of its document.
    """
    policy = given_policy(given, names)
    if is_contextual(policy):
        raise ValueError(f"production: {no_weights(policy)}")
    known = getattr(policy, "dim", None) or np.size(np.asarray(policy))
    if known != len(names):
        raise ValueError(
            f"production: expected {len(names)} weights, as many as the log has, got {known}"
        )
    return space.place(policy)


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

"""How much each of the logs that are pooled says of a policy.

The rows of a log weigh by 1/d₂ of its logging policy, whose effective rows are n/d₂: a log far from
the target would otherwise add more noise than it knows. That is fixed before a reward is seen, so
intervals hold also where each log's policy was chosen from the logs before it: the study `rounds`.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mopl_jax.estimators.weight_facts import closed_form
from mopl_jax.io.log_reader import LogReader, Part, weighed_by_log
from mopl_jax.policies.policy import Policy

DRAWS = 2**12  # of a target, for a d₂ that has no closed form
LEAST = 1e-9  # of the largest weight of a log: next to nothing, where d₂ is infinite


def weigh_logs(reader: LogReader, targets: Sequence[Any]) -> LogReader:
    """The reader, whose rows of each pooled log speak for as many as `weights_of_logs` says; as it
    is where that says nothing.
    """
    found = weights_of_logs(reader.parts, targets)
    return reader if found is None else weighed_by_log(reader, found)


def weights_of_logs(parts: Sequence[Part] | None, targets: Sequence[Any]) -> list[float] | None:
    """What a row of each of the pooled logs speaks for: the inverse of d₂, summed over `targets`,
    over the largest.

    One weight for all of them, so that what changed between the logs favours none. None where a
    log's policy is not known, or a target that is none (a column, or what logged).
    """
    own = [part.logging for part in parts or () if part.logging is not None]
    all_known = own and len(own) == len(parts or ())
    if not (all_known and all(hasattr(target, "sample") for target in targets)):
        return None
    d2 = np.array([[float(second_moment(each, x)) for x in targets] for each in own]).sum(axis=1)
    known = np.nan_to_num(1 / d2)
    return np.maximum(known / known.max(), LEAST).tolist() if known.any() else None


def second_moment(logging: Policy, target: Policy) -> Float[Array, ""]:
    """d₂ = E w² under `logging`, which is E w under the target: its mean over draws of it, where it
    has no closed form.
    """
    closed = closed_form(logging, target)
    return _mean_weight(logging, target) if closed is None else closed.d2


@jax.jit
def _mean_weight(logging, target):
    action = jax.vmap(target.sample)(jax.random.split(jax.random.key(0), DRAWS))
    log_weight = jax.vmap(lambda a: target.log_density(a) - logging.log_density(a))(action)
    return jnp.mean(jnp.exp(log_weight))

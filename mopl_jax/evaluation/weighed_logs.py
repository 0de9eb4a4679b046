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

from mopl_jax.intervals.facts import policy_facts
from mopl_jax.io.log_reader import LogReader, weighed_by_log
from mopl_jax.policies.policy import Policy

DRAWS = 2**12  # of a target, for a d₂ that has no closed form
LEAST = 1e-9  # of the largest weight of a log: next to nothing, where d₂ is infinite


def weigh_logs(reader: LogReader, targets: Sequence[Any]) -> LogReader:
    """The reader, the rows of its pooled logs weighed by the inverse of d₂, summed over `targets`.

    One weight for all of them, so that what changed between the logs favours none.

    As it is where a log's policy is not known, or a target that is none (a column, or what logged).
    """
    own = [part.logging for part in reader.parts or () if part.logging is not None]
    all_known = own and len(own) == len(reader.parts or ())
    if not (all_known and all(hasattr(target, "sample") for target in targets)):
        return reader
    d2 = np.array([[float(second_moment(each, x)) for x in targets] for each in own]).sum(axis=1)
    known = np.nan_to_num(1 / d2)
    if not known.any():
        return reader
    return weighed_by_log(reader, np.maximum(known / known.max(), LEAST).tolist())


def second_moment(logging: Policy, target: Policy) -> Float[Array, ""]:
    """d₂ = E w² under `logging`, which is E w under the target: its mean over draws of it, where it
    has no closed form.
    """
    closed = policy_facts(logging, target).d2
    return _mean_weight(logging, target) if closed is None else closed


@jax.jit
def _mean_weight(logging, target):
    action = jax.vmap(target.sample)(jax.random.split(jax.random.key(0), DRAWS))
    log_weight = jax.vmap(lambda a: target.log_density(a) - logging.log_density(a))(action)
    return jnp.mean(jnp.exp(log_weight))

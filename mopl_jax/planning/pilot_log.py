"""The log of a pilot, read; one of a policy that is not of a kind that is planned is refused."""

from typing import Any

import numpy as np

from mopl_jax.evaluation.answer import IN_MEMORY
from mopl_jax.io.column_spec import weight_names
from mopl_jax.io.log_reader import LogReader
from mopl_jax.io.policy_keys import describe
from mopl_jax.io.read import sample_of
from mopl_jax.learning.space import WEIGHTS, Space
from mopl_jax.learning.which_space import told_by_policy
from mopl_jax.planning.pilot import REMEDY, Pilot, pilot_of
from mopl_jax.policies.bounded import ClippedNormal, TruncatedNormal
from mopl_jax.policies.dirichlet import Dirichlet
from mopl_jax.policies.discrete import Discrete
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.product import Product
from mopl_jax.policies.transformed import Transformed

OTHERS = ClippedNormal, TruncatedNormal, Dirichlet, Discrete, Transformed


def read_pilot(reader: LogReader) -> Pilot:
    """The pilot of a log, of which many rows are a sample of the users; ValueError for weights of a
    policy beside which nothing is planned.
    """
    space = None if reader.logging is None else _space(reader)
    logs = sample_of(reader, IN_MEMORY)
    names = weight_names(reader.columns.action, np.shape(logs.action)[1])
    return pilot_of(logs, names, space)


def _space(reader) -> Space:
    """The space of what the declared policy played."""
    space = told_by_policy(reader.logging)
    for policy in _parts(reader.logging) if space is None else ():
        if isinstance(policy, OTHERS):
            kind = describe(policy)["kind"]
            raise ValueError(
                f"--pilot: {reader.source.name}: expected normal, log-normal, truncated or clipped"
                " weights, or shares, all of one kind and bounds, got those of a policy of kind"
                f" {kind}{'' if policy is reader.logging else ' beside others'}{REMEDY}"
            )
    return space or WEIGHTS


def _parts(policy) -> list[Any]:
    """The policies that a mixture or a product is made of."""
    if isinstance(policy, Mixture | Product):
        parts = policy.components if isinstance(policy, Mixture) else policy.parts
        return [each for part in parts for each in _parts(part)]
    return [policy]

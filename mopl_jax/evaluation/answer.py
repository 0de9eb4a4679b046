"""`Answer`: what a log says of a policy, as the passes over its rows leave it."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from mopl_jax.diagnostics.appearance import Appearance
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.evaluation.parts import PartSums
from mopl_jax.intervals.moments import Halves, Moments

IN_MEMORY = 1_000_000  # rows up to which a log is held at once
LOGGING = "logging"  # the target that is the logging policy itself


class Answer(NamedTuple):
    """What a log says of a policy, or of a difference of two.

    `value`: the estimate
    `n`: rows
    `units`: independent ones, rows or users
    `moments`, `diagnosis`: over the units; of a difference the diagnosis is None
    `estimate`: the terms of the units, where they fit in memory; else None
    `parts`: sums over the rows of each of the logs that are pooled; else None
    `halves`: of a difference, where the range of the rewards is known; else None
    """

    value: Array
    n: int
    units: int
    moments: Moments
    diagnosis: Any
    estimate: Estimate | None = None
    parts: PartSums | None = None
    halves: Halves | None = None


class Answers(NamedTuple):
    """What a log says of several policies.

    `policies`: of each
    `contrasts`: of each but the first, its difference to the first
    `correlation` (k, k): of the contrasts' estimates
    `appearance`: what the rewards and actions of the log look like
    `remarks`: values of the context that a policy does not know
    """

    policies: list[Answer]
    contrasts: list[Answer]
    correlation: Float[np.ndarray, "k k"]
    appearance: Appearance
    remarks: tuple[str, ...] = ()

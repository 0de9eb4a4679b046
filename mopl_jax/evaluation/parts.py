"""Logs that are pooled: how much each says of a policy, its value in each of them, and whether they
tell one value.

The rows of a log weigh by 1/d₂ of its logging policy, whose effective rows are n/d₂: a log far from
the target would otherwise add more noise than it knows. That is fixed before a reward is seen, so
intervals hold also where each log's policy was chosen from the logs before it: the study `rounds`.
Where a policy's value changes from log to log, rewards changed for other reasons than the weights.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mopl_jax.estimators.estimator import Member
from mopl_jax.intervals.facts import policy_facts
from mopl_jax.io.log_reader import LogReader, weighed_by_log
from mopl_jax.numerics import chi_square
from mopl_jax.numerics.reduce import ADD, Stage
from mopl_jax.policies.policy import Policy

LEVEL = 0.01  # of the test that all logs tell one value


class PartSums(NamedTuple):
    """Sums over the rows of each log, (k,), with the gap g of a reward to the value.

    `rows`: their number
    `p`, `pg`: of normalised weights p, and of pg
    `pp`, `ppg`, `ppgg`: of p², p²g and p²g²
    """

    rows: Float[Array, " k"]
    p: Float[Array, " k"]
    pg: Float[Array, " k"]
    pp: Float[Array, " k"]
    ppg: Float[Array, " k"]
    ppgg: Float[Array, " k"]


DRAWS = 2**12  # of a target, for a d₂ that has no closed form
LEAST = 1e-9  # of the largest weight of a log: next to nothing, where d₂ is infinite


def weigh_logs(reader: LogReader, targets: Sequence[Any]) -> LogReader:
    """The reader, the rows of its pooled logs weighed by the inverse of d₂, summed over `targets`.

    One weight for all of them, so that what changed between the logs favours none.

    As it is where a log's policy is not known, or a target that is none (a column, or what logged).
    """
    parts = reader.parts or ()
    own = [part.logging for part in parts if part.logging is not None]
    known = own and len(own) == len(parts)
    if not known or not all(hasattr(target, "sample") for target in targets):
        return reader
    d2 = np.array([[float(second_moment(each, x)) for x in targets] for each in own]).sum(axis=1)
    share = np.nan_to_num(1 / d2)
    if not share.any():
        return reader
    return weighed_by_log(reader, np.maximum(share / share.max(), LEAST).tolist())


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


class Part(NamedTuple):
    """One of the logs that are pooled.

    `log`: its name
    `n`: rows
    `share`: of the importance weight of all rows
    `value`, `standard_error`: of the policy on these rows, self-normalised; NaN without weight
    """

    log: str
    n: int
    share: float
    value: float
    standard_error: float


def part_stage(member: Member, parts: int) -> Stage:
    """The pass after which the state is the sums over the rows of each of so many logs."""

    def summarise(state, block):
        rows = member.rows(state, block)
        p, gap = state.totals.share(rows.log_weight), rows.reward - state.value
        p, one = block.mask(p), block.mask(jnp.ones_like(p))
        columns = jnp.stack([one, p, p * gap, p * p, p * p * gap, jnp.square(p * gap)])
        sums = jax.vmap(lambda x: jax.ops.segment_sum(x, block.columns.part, parts))(columns)
        return PartSums(*sums)

    return Stage(summarise, ADD, lambda state, sums: sums)


def parts_of(sums: PartSums, value: float, names: Sequence[str]) -> tuple[Part, ...]:
    """The value in each log: value + Σpg / Σp, with the standard error of a ratio."""
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sums.pg / sums.p
        variance = (sums.ppgg - 2 * gap * sums.ppg + gap**2 * sums.pp) / sums.p**2
    error = np.sqrt(np.maximum(variance, 0))
    columns = zip(names, sums.rows, sums.p, value + gap, error, strict=True)
    return tuple(Part(name, int(n), float(p), float(v), float(e)) for name, n, p, v, e in columns)


def p_value_of_one_value(parts: Sequence[Part], inflation: float = 1.0) -> float:
    """Cochran's Q of the values: their squared distances from the common one, χ² with k − 1 degrees
    of freedom where all logs tell one value.

    `inflation`: of the variances, for rows that depend on one another. 1 where fewer than two logs
    have a value with a standard error.
    """
    known = [x for x in parts if x.standard_error > 0 and math.isfinite(x.value)]
    if len(known) < 2:
        return 1.0
    value = np.array([x.value for x in known])
    precision = 1 / np.square([x.standard_error for x in known]) / inflation
    centre = (precision * value).sum() / precision.sum()
    q = (precision * np.square(value - centre)).sum()
    return chi_square.tail(q, len(known) - 1)


def remark_on(parts: Sequence[Part], p_value: float) -> tuple[str, ...]:
    """What to know where the logs do not tell one value."""
    if p_value >= LEVEL:
        return ()
    ends = sorted(parts, key=lambda x: x.value)
    return (
        f"the value is not one in all logs (p = {p_value:.1g}): {ends[0].value:.4g} in"
        f" {ends[0].log}, {ends[-1].value:.4g} in {ends[-1].log}; each log's rows are weighed by"
        " its own logging policy, so that what changed between logs favours no policy; what is"
        " printed is a mean of these values, each by what its log knows of the target",
    )

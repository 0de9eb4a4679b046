"""Logs that are pooled: the value of a policy in each of them, and whether they tell one value.

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
from mopl_jax.numerics import chi_square
from mopl_jax.numerics.reduce import ADD, Stage

LEVEL = 0.01  # of the test that all logs tell one value
HEARD = (
    0.01  # share of a log in the value, below which what it tells, from a few rows, is no matter
)


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


def _heard(parts) -> list[Part]:
    """The logs that have a say and a value with a standard error."""
    known = [x for x in parts if x.standard_error > 0 and math.isfinite(x.value)]
    return [x for x in known if x.share >= HEARD]


def p_value_of_one_value(parts: Sequence[Part], inflation: float = 1.0) -> float:
    """Cochran's Q of the values: their squared distances from the common one, χ² with k − 1 degrees
    of freedom where all logs tell one value.

    `inflation`: of the variances, for rows that depend on one another. 1 where fewer than two logs
    have a value with a standard error.
    """
    known = _heard(parts)
    if len(known) < 2:
        return 1.0
    value = np.array([x.value for x in known])
    precision = 1 / np.square([x.standard_error for x in known]) / inflation
    centre = (precision * value).sum() / precision.sum()
    q = (precision * np.square(value - centre)).sum()
    return chi_square.tail(q, len(known) - 1)


def least_p_value(answers: Sequence[Any], names: Sequence[str]) -> tuple[float, tuple[Part, ...]]:
    """The smallest p-value of one value in all logs, times the number of answers, and the values of
    that answer; rows of one user vary together: variances are as much larger as the whole value's.
    """
    found = [(x, parts_of(x.parts, float(x.value), names)) for x in answers if x.parts is not None]
    p_values = [p_value_of_one_value(parts, _inflation(answer)) for answer, parts in found]
    least = p_values.index(min(p_values))
    return min(p_values[least] * len(found), 1.0), found[least][1]


def _inflation(answer):
    by_unit, by_row = float(answer.moments.influence), float(answer.parts.ppgg.sum())
    return max(by_unit / max(by_row, 1e-300), 1.0)


def remark_on(parts: Sequence[Part], p_value: float) -> tuple[str, ...]:
    """What to know where the logs do not tell one value."""
    if p_value >= LEVEL:
        return ()
    return (
        f"the value is not one in all logs (p = {p_value:.1g}): {range_of(parts)}; each log's rows"
        " are weighed by what each was played with, so that what changed between logs favours no"
        " policy; what is printed is a mean of these values: logs count by what they know of all"
        " that is asked for, or alike where a policy is not known",
    )


def range_of(parts: Sequence[Part]) -> str:
    """The smallest and the largest of the values that have a say."""
    ends = sorted(_heard(parts), key=lambda x: x.value)
    return " and ".join(f"{x.value:.4g} in {x.log}" for x in (ends[0], ends[-1]))

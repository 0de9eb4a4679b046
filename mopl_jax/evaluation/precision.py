"""What an answer's interval takes: users that are missing, and users that an adjustment saves."""

import math
from statistics import NormalDist
from typing import Any

from mopl_jax.evaluation.answer import Answer
from mopl_jax.evaluation.result import POWER
from mopl_jax.io.log_reader import LogReader


def check_known(reader: LogReader, reward_range: Any, adjust: bool, **more: Any) -> None:
    """ValueError for facts about rewards and weights where the value is not a mean of rewards."""
    given = {"reward_range": reward_range, **more}
    named = [name for name, fact in given.items() if fact is not None]
    changed = "an adjusted value" if adjust else "a ratio"
    if named and (adjust or reader.columns.per is not None):
        raise ValueError(
            f"--{named[0].replace('_', '-')}: expected a mean of rewards, got {changed}, of which"
            " nothing is known by it; leave it out"
        )


def saving(without: Answer, adjusted: Answer) -> float:
    """The variance of an answer without adjusting over that with it."""
    before, after = (float(answer.moments.influence) for answer in (without, adjusted))
    return before / after if after else 1.0


def more_units(answer: Answer, ends: Any, level: float, goal: float = 0.0) -> float:
    """Units until |value − goal| is z standard errors, z that of the level and of `POWER`; errors
    fall as 1/√units. 0 where the interval `ends` exclude the goal, inf where none can be told.
    """
    if ends.lower > goal or ends.upper < goal:
        return 0.0
    gap, error = float(answer.value) - goal, math.sqrt(float(answer.moments.influence))
    z = NormalDist().inv_cdf(POWER) - NormalDist().inv_cdf(level / 2)
    if not gap or not error or not math.isfinite(gap):
        return math.inf
    return max(answer.units * ((z * error / gap) ** 2 - 1), 0.0)

"""Guardrails of arms: what other outcomes certainly change under every arm, all bounds at once."""

import math
from collections.abc import Iterator, Sequence

import jax

from mopl_jax.diagnostics.verdicts import REFUSE
from mopl_jax.evaluation.answer import Answer, Answers
from mopl_jax.intervals.ess_corrected import ess_skew
from mopl_jax.intervals.interval import Interval
from mopl_jax.intervals.simultaneous import simultaneous_alpha
from mopl_jax.learning.guardrails import Change, Guardrail
from mopl_jax.numerics.pytree import entries, stacked
from mopl_jax.numerics.quick_jit import quick_jit

# Of a guardrail's alpha, what is spent on production's own outcome, of which it allows a share: the
# normal bounds of the changes are a two-hundredth wider for it (1.653 for 1.645), and a share of a
# few hundredths times the error of that outcome is as little.
OF_LEVEL = 0.02


def changes(limit: Guardrail, found: Answers, alpha: float, place: str) -> Iterator[Change]:
    """What is certain of the outcome under each arm, by what the log says of it: all bounds hold at
    once with confidence 1 − alpha, that of production's outcome among them where a share of it is
    allowed; of an arm whose rows cannot answer nothing is certain. ValueError for an outcome that
    does not vary, in the log at `place`.
    """
    now, spread = found.policies[0], found.appearance.reward.value
    if len(spread) == 1:
        raise ValueError(
            f"{place}: guardrail {limit.name!r}: all {now.n} rows are {spread[0]:g}: nothing can"
            " break it; leave it out"
        )
    spent = OF_LEVEL * alpha if limit.relative else 0.0
    level = simultaneous_alpha(found.correlation, alpha - spent, one_sided=True)
    allowed = limit.allowed * (_least(now, spent) if limit.relative else 1.0)
    each = zip(found.policies[1:], found.contrasts, ends(found.contrasts, level), strict=True)
    for policy, change, end in each:
        certain = end.lower if limit.sign > 0 else end.upper
        if REFUSE in (int(policy.diagnosis.verdict), int(now.diagnosis.verdict)):
            certain = math.nan  # of an arm in which the outcome was not seen, or hardly
        produced, moved, least = map(float, (now.value, change.value, certain))
        yield Change(produced, moved, least, -limit.sign * allowed)


def _least(now: Answer, alpha: float) -> float:
    """The least size of production's outcome."""
    (end,) = ends([now], alpha)
    return max(float(end.lower), -float(end.upper), 0.0)


def ends(answers: Sequence[Answer], level: float) -> list[Interval]:
    """The interval of each value."""
    found = jax.device_get(_skewed(stacked([each.moments for each in answers]), level))
    return [entries(found, k) for k in range(len(answers))]


@quick_jit()
def _skewed(moments, level):
    return ess_skew.at(moments).interval(level)

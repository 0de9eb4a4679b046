"""Logs whose rows are weighed by a mixture of logging policies: whether these played at one time.

The weights of a mixture take what changed between the times of its policies, a season, for their
work, and would call a gain certain that no policy makes.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mopl_jax.diagnostics.finding import Finding
from mopl_jax.diagnostics.log_report import LogReport
from mopl_jax.diagnostics.verdicts import REFUSE_P_VALUE, VERDICTS
from mopl_jax.evaluation.answers import gather
from mopl_jax.evaluation.parts import LEVEL, least_p_value, range_of
from mopl_jax.io.log_reader import LogReader

DRIFTS = ("drift of the action", "drift")


def doubts_of_mixture(
    reader: LogReader, targets: Sequence[Any], check: Callable[[LogReader], LogReport]
) -> list[Finding]:
    """What speaks against the mixture: values of `targets` that are not one in all its files, or in
    a single log actions that drift, by the `check` of all rows; nothing where each row has its own
    policy's density.
    """
    if reader.mixed is not None:
        return by_file(reader, targets)
    if not reader.is_mixed:
        return []
    return [x for x in check(reader).findings if x.check in DRIFTS and x.level != VERDICTS[0]]


def by_file(reader: LogReader, targets: Sequence[Any]) -> list[Finding]:
    """Whether each target's value is one in all files of a mixture, by each file's own policy."""
    own = [target for target in targets if hasattr(target, "log_density")]
    if reader.mixed is None or not own:
        return []
    answers = gather(reader._replace(parts=reader.mixed, mixed=None), own, "snips").policies
    p_value, parts = least_p_value(answers, [part.name for part in reader.mixed])
    if p_value >= LEVEL:
        return []
    text = (
        f"the value is not one in all logs (p = {p_value:.1g}): {range_of(parts)}, by the policy of"
        " each; their mixture takes what changed between them for its policies' work: drop"
        " mixture = true"
    )
    return [Finding("mixture", VERDICTS[2 if p_value < REFUSE_P_VALUE else 1], text)]

"""The verdict on an answer: of its importance weights, and of what the log looks like."""

from typing import Any, NamedTuple

from mopl_jax.diagnostics.appearance import Appearance, findings_of, is_continuous
from mopl_jax.diagnostics.verdicts import VERDICTS, reasons
from mopl_jax.evaluation.answers import Answer
from mopl_jax.io.log_reader import LogReader


class Judgement(NamedTuple):
    """A verdict, one of `VERDICTS`, and its reasons, the grave first."""

    level: str
    reasons: tuple[str, ...]


def judge(reader: LogReader, target: Any, answer: Answer, seen: Appearance) -> Judgement:
    """The gravest of the verdicts on an answer for `target` and on the log as it looks."""
    findings = findings_of(
        seen,
        reader.columns.action if len(reader.columns.action or ()) == len(seen.action) else None,
        clustered=reader.columns.cluster is not None,
        continuous=is_continuous(target),
    )
    doubts = [finding for finding in findings if finding.level != VERDICTS[0]]
    own = VERDICTS[int(answer.diagnosis.verdict)]
    level = max((own, *(x.level for x in doubts)), key=VERDICTS.index)
    texts = [x.found for x in sorted(doubts, key=lambda x: -VERDICTS.index(x.level))]
    return Judgement(level, (*texts, *reasons(answer.diagnosis, answer.units)))

"""The verdict on an answer: of its importance weights, and of what the log looks like."""

from collections.abc import Sequence
from os.path import exists  # False where a path cannot be looked at
from pathlib import Path
from typing import Any, NamedTuple

from mopl_jax.diagnostics.appearance import Appearance, findings_of
from mopl_jax.diagnostics.finding import Finding
from mopl_jax.diagnostics.verdicts import VERDICTS, grave_first, gravest, reasons
from mopl_jax.evaluation.answer import LOGGING, Answer
from mopl_jax.evaluation.parts import Part, least_p_value, parts_of, remark_on
from mopl_jax.io.log_description import files_of
from mopl_jax.io.log_reader import LogReader
from mopl_jax.io.policy_json import read_policy
from mopl_jax.logs import Logs
from mopl_jax.policies.support import is_continuous, on_simplex


def by_log(reader: LogReader, *answers: Answer) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """The first answer's value in each of the logs that are pooled, and what to know where any
    answer's value is not one in all of them.
    """
    if not answers or answers[0].parts is None:
        return (), ()
    names, sign = [part.name for part in reader.parts or ()], -1 if reader.negated else 1
    p_value, parts = least_p_value(answers, names)
    own = parts_of(answers[0].parts, float(answers[0].value), names)
    return own, remark_on([x._replace(value=sign * x.value) for x in parts], p_value)


def of_policies(targets: Sequence[Any], answers: Sequence[Answer]) -> list[Answer]:
    """The answers for policies: what was logging differs from log to log by its policies alone."""
    pairs = zip(targets, answers, strict=True)
    return [answer for target, answer in pairs if target is not LOGGING]


def log_name(reader: LogReader, log: Any) -> str:
    """The path of a log; "memory" for one that is there."""
    return "memory" if isinstance(log, Logs) else reader.source.name


def taught(log: Any, targets: Sequence[Any]) -> tuple[str, ...]:
    """What to know of targets that were learnt from files of this log: their rows flatter them, as
    the study `rounds` shows; the rows of a certificate are of its own split.
    """
    return tuple(
        f"{target} was learnt from {shared[0].name}, which is in this log: a policy looks better"
        " where it was chosen, on new rows it will not; its certificate is of rows that did not"
        " choose it, as are rows logged since"
        for target in targets
        if (shared := _shared(log, target))
    )


def _shared(log, target) -> list[Path]:
    """The files of a log that a policy's document says it was learnt from."""
    if not isinstance(target, str | Path) or str(target) == LOGGING:
        return []
    about = read_policy(target)[1].get("provenance")
    source = about.get("log") if isinstance(about, dict) else None
    if not isinstance(source, str):
        return []
    names = [source] if exists(source) else source.split(" + ")  # of logs that were pooled
    files = [file for name in names if exists(name) for file in files_of(Path(name))]
    here = {path.resolve() for path in _files(log) if path.suffix != ".json"}
    return [path for path in files if path.resolve() in here]


def _files(log) -> list[Path]:
    """The files of a log that is a path, or that was opened."""
    names = [log] if isinstance(log, str | Path) else []
    if isinstance(log, LogReader):
        names = [log.source.name, *(part.name for part in log.parts or ())]
    paths = [Path(name) for name in names if exists(name)]
    return [file for path in paths for file in files_of(path)]


class Judgement(NamedTuple):
    """A verdict, one of `VERDICTS`, and its reasons, the grave first."""

    level: str
    reasons: tuple[str, ...]


def judge(
    reader: LogReader,
    target: Any,
    answer: Answer,
    seen: Appearance,
    others: Sequence[Finding] = (),
) -> Judgement:
    """The gravest of the verdicts on an answer for `target`, on the log as it looks, and of what
    `others` found.
    """
    findings = findings_of(
        seen,
        reader.columns.action if len(reader.columns.action or ()) == len(seen.action) else None,
        clustered=reader.columns.cluster is not None,
        continuous=is_continuous(target),
        simplex=on_simplex(target),
        declared=reader.logging,
    )
    doubts = [finding for finding in (*findings, *others) if finding.level != VERDICTS[0]]
    own = VERDICTS[int(answer.diagnosis.verdict)]
    texts = grave_first((x.level, x.found) for x in doubts)
    level = gravest(own, *(x.level for x in doubts))
    return Judgement(level, (*texts, *reasons(answer.diagnosis, answer.units)))

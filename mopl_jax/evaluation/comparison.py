"""How much more several policies would have earned than a first one, all intervals at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mopl_jax.estimators.registry import Choice
from mopl_jax.evaluation.answers import IN_MEMORY, LOGGING, Answer, gather
from mopl_jax.evaluation.judgement import judge
from mopl_jax.evaluation.limits import limits
from mopl_jax.evaluation.result import Candidate, Comparison, Difference, Ends
from mopl_jax.evaluation.targets import read_target
from mopl_jax.intervals.facts import Facts
from mopl_jax.intervals.registry import WALD
from mopl_jax.intervals.simultaneous import simultaneous_alpha
from mopl_jax.io.log_reader import Rows
from mopl_jax.io.read import open_log
from mopl_jax.numerics.check import check_alpha, choose


def compare(
    log: Any,
    policies: Sequence[Any],
    *,
    bandwidth: float | None = None,
    estimator: Choice = "snips",
    alpha: float = 0.05,
    interval: str = "ess_skew",
    in_memory: int = IN_MEMORY,
    watch: Callable[[Iterator[Rows]], Iterable[Rows]] = iter,
    **columns: Any,
) -> Comparison:
    """Differences of policies to the first of them, with intervals that hold at once.

    `log` as for `evaluate`; `policies` are policies, paths of them, or "logging". Each difference
    is estimated on the same rows, so that what the policies share cancels. ValueError as for
    `evaluate`.
    """
    reader = open_log(log, **columns)
    check_alpha(alpha)
    choose([interval], WALD, "interval for differences")
    targets = [_target(reader, policy, bandwidth) for policy in policies]
    if len(targets) < 2:
        raise ValueError(
            "expected at least two policies to compare; logging is the name of the one that was "
            "logging"
        )
    answers = gather(reader, targets, estimator, in_memory=in_memory, watch=watch)
    level = simultaneous_alpha(answers.correlation, alpha)
    names = [_name(policy, k) for k, policy in enumerate(policies)]
    changes = [None, *(_difference(x, interval, alpha, level) for x in answers.contrasts)]
    verdicts = [
        judge(reader, target, answer, answers.appearance)
        for target, answer in zip(targets, answers.policies, strict=True)
    ]
    rows = [
        _candidate(name, answer, verdict, interval, alpha, change)
        for name, answer, verdict, change in zip(
            names, answers.policies, verdicts, changes, strict=True
        )
    ]
    first = answers.policies[0]
    label = estimator if isinstance(estimator, str) else "own"
    return Comparison(label, interval, alpha, level, first.n, first.units, tuple(rows))


def _name(policy, k):
    """The name of a policy's file, or what kind it is and which."""
    if isinstance(policy, str | Path):
        return Path(policy).stem
    return f"{type(policy).__name__} {k + 1}"


def _target(reader, policy, bandwidth):
    if isinstance(policy, str | Path) and str(policy) == LOGGING:
        return LOGGING
    return read_target(reader, policy, bandwidth, only_deterministic=False)


def _difference(answer: Answer, interval, alpha, level) -> Difference:
    alone, together = (limits(answer, [interval], a, Facts())[0] for a in (alpha, level))
    return Difference(
        float(answer.value),
        together.lower,
        together.upper,
        Ends(alone.lower, alone.upper),
        float(answer.diagnosis.kish),
    )


def _candidate(name, answer: Answer, verdict, interval, alpha, change) -> Candidate:
    (ends,) = limits(answer, [interval], alpha, Facts())
    d = answer.diagnosis
    return Candidate(
        name,
        float(answer.value),
        ends.lower,
        ends.upper,
        float(d.kish),
        float(d.mean_weight),
        verdict.level,
        verdict.reasons,
        change,
    )

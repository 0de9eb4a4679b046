"""How much more several policies would have earned than a first one, all intervals at once."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from mopl_jax.diagnostics.verdicts import VERDICTS, reasons
from mopl_jax.estimators.registry import Choice
from mopl_jax.evaluation.answers import IN_MEMORY, LOGGING, Answer, gather
from mopl_jax.evaluation.limits import limits
from mopl_jax.evaluation.targets import read_target
from mopl_jax.intervals.facts import Facts
from mopl_jax.intervals.registry import WALD
from mopl_jax.intervals.simultaneous import simultaneous_alpha
from mopl_jax.io.log_reader import Rows
from mopl_jax.io.read import open_log
from mopl_jax.numerics.check import check_alpha, choose


class Ends(NamedTuple):
    """The ends of an interval."""

    lower: float
    upper: float


class Difference(NamedTuple):
    """What a policy would have earned more than the first one.

    `value`: the estimated difference
    `lower`, `upper`: its interval, all intervals of a comparison at once
    `alone`: its interval at the nominal level
    `ess`: the effective sample size of the contrast
    """

    value: float
    lower: float
    upper: float
    alone: Ends
    ess: float


class Candidate(NamedTuple):
    """One policy of a comparison.

    `policy`: its name
    `value`: what it would have earned, with the ends `lower` and `upper` of an interval
    `ess`, `mean_weight`: of its importance weights
    `verdict`: trust, caution or refuse, for `reasons`
    `difference`: to the first policy, None for that one
    """

    policy: str
    value: float
    lower: float
    upper: float
    ess: float
    mean_weight: float
    verdict: str
    reasons: tuple[str, ...]
    difference: Difference | None = None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Several policies on one log; the first is what the others are compared to.

    `estimator`, `interval`: names
    `alpha`: one minus the probability that all differences hold at once
    `alpha_each`: the level of each of them
    `n`: rows
    `units`: independent ones, users or rows
    """

    estimator: str
    interval: str
    alpha: float
    alpha_each: float
    n: int
    units: int
    policies: tuple[Candidate, ...]

    def __repr__(self) -> str:
        rows = ", ".join(f"{x.policy} {x.value:.5g}" for x in self.policies)
        return f"Comparison({rows}; n={self.n:,})"

    def to_dict(self) -> dict[str, Any]:
        """As plain Python: the JSON of `mopl compare`."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return plain | {"policies": [_plain(candidate) for candidate in self.policies]}

    def to_arrow(self) -> pa.Table:
        """One row a policy."""
        return pa.Table.from_pylist([_plain(candidate) for candidate in self.policies])


def _plain(candidate):
    plain = candidate._asdict() | {"reasons": list(candidate.reasons)}
    change = plain.pop("difference")
    if change is None:
        return plain
    return plain | {"difference": change._asdict() | {"alone": change.alone._asdict()}}


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
    names = [policy.stem if isinstance(policy, Path) else str(policy) for policy in policies]
    changes = [None, *(_difference(x, interval, alpha, level) for x in answers.contrasts)]
    rows = [
        _candidate(name, answer, interval, alpha, change)
        for name, answer, change in zip(names, answers.policies, changes, strict=True)
    ]
    first = answers.policies[0]
    label = estimator if isinstance(estimator, str) else "own"
    return Comparison(label, interval, alpha, level, first.n, first.units, tuple(rows))


def _target(reader, policy, bandwidth):
    if str(policy) == LOGGING:
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


def _candidate(name, answer: Answer, interval, alpha, change) -> Candidate:
    (ends,) = limits(answer, [interval], alpha, Facts())
    d = answer.diagnosis
    return Candidate(
        name,
        float(answer.value),
        ends.lower,
        ends.upper,
        float(d.kish),
        float(d.mean_weight),
        VERDICTS[int(d.verdict)],
        tuple(reasons(d, answer.units)),
        change,
    )

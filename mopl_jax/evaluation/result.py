"""What evaluations and comparisons find: frozen records, with their JSON and tables."""

import dataclasses
from typing import Any, NamedTuple

import pyarrow as pa

from mopl_jax.diagnostics.mean_weight import MeanWeight
from mopl_jax.evaluation.parts import Part
from mopl_jax.evaluation.smoothing import Smoothing
from mopl_jax.intervals.interval import NamedInterval


class EffectiveSizes(NamedTuple):
    """Effective sample sizes of the importance weights; `fraction` is Kish's over the units."""

    kish: float
    max_weight: float
    perplexity: float
    reward_aware: float
    fraction: float


class Adjustment(NamedTuple):
    """What columns known before the action did for a value or a difference.

    `columns`: their names
    `saved`: the variance without them over that with them, by which users are saved
    """

    columns: tuple[str, ...]
    saved: float


class InLog(NamedTuple):
    """What the whole log says, where rows weigh by their time for the value of the next period.

    `rows`: as many equal rows would know as much as rows that weigh by their time
    `value`, `lower`, `upper`: in the log, with the first interval
    """

    rows: float
    value: float
    lower: float
    upper: float

    def doubts(self, interval: NamedInterval) -> tuple[str, ...]:
        """Why the next period may be another: the `interval` of later rows is not that of all."""
        if interval.lower <= self.upper and interval.upper >= self.lower:
            return ()
        return (
            f"later rows tell another value than all rows do ({self.lower:.4g} to {self.upper:.4g})"
            ": the value moves, and that of the next period may be beyond what the log has seen; a"
            " shorter half-life lags less behind",
        )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The value of a target policy, estimated from a log.

    `value`: the estimate by `estimator`
    `n`: rows
    `units`: independent ones: users where the log knows them, else rows
    `alpha`: one minus the nominal coverage of the `intervals`
    `ess`: effective sample sizes
    `mean_weight`: of the importance weights, which should be 1
    `pareto_k`: the tail index of the weights
    `unseen`: the share of the target's actions that would outweigh every logged row
    `verdict`: trust, caution or refuse, for `reasons`
    `warnings`: what to know of the intervals
    `smoothing`: of a deterministic target, whose smoothed value this is; else None
    `parts`: the value in each of the logs that are pooled
    `log`, `target`: names
    `adjustment`: by what was known before the action, if it was asked for; else None
    `in_log`: of the log, where this is the value of the next period; else None
    `goal`: a value to be certain of, if one was given, and of how many `more` units that takes
    """

    value: float
    estimator: str
    n: int
    units: int
    alpha: float
    ess: EffectiveSizes
    mean_weight: MeanWeight
    pareto_k: float
    unseen: float
    intervals: tuple[NamedInterval, ...]
    verdict: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    smoothing: Smoothing | None = None
    parts: tuple[Part, ...] = ()
    log: str = "memory"
    target: str = "own"
    adjustment: Adjustment | None = None
    in_log: InLog | None = None
    goal: float | None = None
    more: float | None = None

    @property
    def interval(self) -> NamedInterval:
        """The first interval: the recommended one unless another was asked for."""
        return self.intervals[0]

    def __repr__(self) -> str:
        ends = f"[{self.interval.lower:.5g}, {self.interval.upper:.5g}]"
        return f"Evaluation({self.value:.5g} {ends}, ess={self.ess.kish:,.1f}, {self.verdict})"

    def to_dict(self) -> dict[str, Any]:
        """As plain Python, with infinite ends as ±inf: the JSON of `mopl evaluate`."""
        return _fields(self)


DECISIONS = ("better", "worse", "not distinguishable", "not answerable")
POWER = 0.8  # of a log with so many more units


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
    `more`: units beyond those of the log until an interval as this excludes 0 with probability
        `POWER`, were the difference as estimated; 0 where it does, inf where that cannot be told
    `saved`: the variance that it has without adjusting over that with it
    """

    value: float
    lower: float
    upper: float
    alone: Ends
    ess: float
    more: float
    saved: float = 1.0


class Candidate(NamedTuple):
    """One policy of a comparison.

    `policy`: its name
    `value`: what it would have earned, with the ends `lower` and `upper` of an interval
    `ess`, `mean_weight`: of its importance weights
    `verdict`: trust, caution or refuse, for `reasons`
    `difference`: to the first policy, None for that one
    `parts`: the value in each of the logs that are pooled
    """

    policy: str
    value: float
    lower: float
    upper: float
    ess: float
    mean_weight: MeanWeight
    verdict: str
    reasons: tuple[str, ...]
    difference: Difference | None = None
    parts: tuple[Part, ...] = ()

    def decision(self, minimise: bool = False) -> str | None:
        """One of `DECISIONS` on the difference to the first policy, None for that one.

        `minimise`: whether less is better.
        """
        change = self.difference
        if change is None:
            return None
        if self.verdict == "refuse":
            return DECISIONS[3]
        above, below = change.lower > 0, change.upper < 0
        if not above and not below:
            return DECISIONS[2]
        return DECISIONS[0 if above != minimise else 1]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Several policies on one log; the first is what the others are compared to.

    `estimator`, `interval`: names
    `alpha`: one minus the probability that all differences hold at once
    `alpha_each`: the level of each of them
    `n`: rows
    `units`: independent ones, users or rows
    `warnings`: what to know of the log
    `log`: its name
    `minimise`: whether less is better, for rewards that are costs
    `adjusted_by`: columns known before the action
    """

    estimator: str
    interval: str
    alpha: float
    alpha_each: float
    n: int
    units: int
    policies: tuple[Candidate, ...]
    warnings: tuple[str, ...] = ()
    log: str = "memory"
    minimise: bool = False
    adjusted_by: tuple[str, ...] = ()

    @property
    def decisions(self) -> tuple[str | None, ...]:
        """On each policy, see `Candidate.decision`; none can be made where the first is refused."""
        refused = self.policies[0].verdict == "refuse"
        made = (candidate.decision(self.minimise) for candidate in self.policies)
        return tuple(DECISIONS[3] if refused and one else one for one in made)

    def __repr__(self) -> str:
        rows = ", ".join(f"{x.policy} {x.value:.5g}" for x in self.policies)
        return f"Comparison({rows}; n={self.n:,})"

    def to_dict(self) -> dict[str, Any]:
        """As plain Python: the JSON of `mopl compare`."""
        policies = [
            _row(candidate) | {"decision": decision}
            for candidate, decision in zip(self.policies, self.decisions, strict=True)
        ]
        return _fields(self) | {"policies": policies}

    def to_arrow(self) -> pa.Table:
        """One row a policy."""
        return pa.Table.from_pylist([_row(candidate) for candidate in self.policies])


def _fields(result) -> dict[str, Any]:
    """A result as a dictionary."""
    return {field.name: _plain(getattr(result, field.name)) for field in dataclasses.fields(result)}


def _plain(value) -> Any:
    """Records as dictionaries, tuples as lists."""
    if hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _row(candidate):
    """A candidate, without a difference if it is what the others are compared to."""
    plain = _plain(candidate)
    change = plain.pop("difference")
    return plain if change is None else plain | {"difference": change}

"""How much more several policies would have earned than a first one, all intervals at once."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mopl_jax.diagnostics.log_checks import check_rows
from mopl_jax.diagnostics.mean_weight import mean_weight_of
from mopl_jax.diagnostics.weight_diagnostics import UNBOUNDED
from mopl_jax.estimators.registry import Choice, name_of
from mopl_jax.evaluation.answer import IN_MEMORY, LOGGING, Answer, Answers
from mopl_jax.evaluation.answers import gather
from mopl_jax.evaluation.judgement import by_log, judge, log_name, of_policies, taught
from mopl_jax.evaluation.limits import limits
from mopl_jax.evaluation.mixed import doubts_of_mixture
from mopl_jax.evaluation.precision import check_known, more_units, saving
from mopl_jax.evaluation.result import Candidate, Comparison, Difference, Ends
from mopl_jax.evaluation.targets import read_target
from mopl_jax.evaluation.warnings import undeclared_range
from mopl_jax.evaluation.weighed_logs import weigh_logs
from mopl_jax.intervals.facts import Facts
from mopl_jax.intervals.registry import WALD
from mopl_jax.intervals.reward_range import gains
from mopl_jax.intervals.simultaneous import simultaneous_alpha
from mopl_jax.io.known_before import check_asked
from mopl_jax.io.log_reader import WatchRows
from mopl_jax.io.policy_json import given_policy
from mopl_jax.io.read import open_log
from mopl_jax.numerics.check import check_alpha, choose
from mopl_jax.policies.deterministic import Deterministic


def compare(
    log: Any,
    policies: Sequence[Any],
    *,
    bandwidth: Any = None,
    estimator: Choice = "snips",
    alpha: float = 0.05,
    interval: str = "recommended",
    minimise: bool = False,
    reward_range: tuple[float, float] | None = None,
    adjust: bool = False,
    in_memory: int = IN_MEMORY,
    watch: WatchRows = iter,
    **columns: Any,
) -> Comparison:
    """Differences of policies to the first of them, with intervals that hold at once.

    `log` as for `evaluate`; `policies` are policies, paths of them, or "logging". Each difference
    is estimated on the same rows, so that what the policies share cancels. `minimise`: the reward
    is a cost, and less is better. With a `reward_range` each value has the recommended interval for
    it, and each difference of SNIPS over rows as well (`intervals.recommended_difference`) unless
    another is named; of users, or of other estimators, it is `ess_skew`. `adjust`: by the columns
    of the context. ValueError as for `evaluate`.
    """
    reader = open_log(log, **columns)._replace(reward_range=reward_range)
    check_known(reader, reward_range, adjust)
    check_alpha(alpha)
    choose([interval], dict.fromkeys(("recommended", *WALD)), "interval for differences")
    targets = _targets(reader, policies, bandwidth)
    check_asked(reader, targets, adjust)
    reader = weigh_logs(reader, targets)
    asked = reader, targets, estimator, reward_range or UNBOUNDED, in_memory, watch
    answers = gather(*asked, adjust=adjust)
    plain = gather(*asked) if adjust else answers
    level = simultaneous_alpha(answers.correlation, alpha)
    of_rows = answers.policies[0].units == answers.policies[0].n
    ranged = Facts(reward_range if of_rows and estimator == "snips" else None)
    possible = None if reward_range is None else gains(reward_range)
    equal = [bool(x.diagnosis.num_not_modal == 0) for x in answers.policies]
    each = zip(answers.contrasts, plain.contrasts, equal[1:], strict=True)
    changes = [
        _difference(x, interval, alpha, level, ranged, possible, equal[0] or unseen)._replace(
            saved=saving(without, x)
        )
        for x, without, unseen in each
    ]
    own = interval if reward_range is None else "recommended"
    names = _names(policies)
    rows = _candidates(reader, names, targets, answers, own, alpha)
    return Comparison(
        name_of(estimator),
        interval,
        alpha,
        level,
        answers.policies[0].n,
        answers.policies[0].units,
        tuple(x._replace(difference=y) for x, y in zip(rows, [None, *changes], strict=True)),
        warnings=reader.source.remarks
        + undeclared_range(answers.appearance.reward, reward_range)
        + taught(log, policies)
        + by_log(reader, *of_policies(targets, answers.policies))[1]
        + answers.remarks,
        log=log_name(reader, log),
        minimise=minimise,
        adjusted_by=tuple(reader.columns.context or ()) if adjust else (),
    )


def _targets(reader, policies, bandwidth) -> list[Any]:
    """The policies that are compared; ValueError for fewer than two."""
    targets = [_target(reader, policy, bandwidth) for policy in policies]
    if len(targets) < 2:
        raise ValueError(
            "expected at least two policies to compare; logging is the name of the one that was "
            "logging"
        )
    return targets


def _candidates(reader, names, targets, answers: Answers, interval, alpha) -> list[Candidate]:
    """Each policy by itself, with its verdict, of a log whose policies may be mixed."""
    mixed = doubts_of_mixture(reader, targets, check_rows)
    seen = answers.appearance
    return [
        _candidate(reader, name, target, answer, seen, interval, alpha, mixed)
        for name, target, answer in zip(names, targets, answers.policies, strict=True)
    ]


def _names(policies) -> list[str]:
    """The name of a policy's file, with as many of its folders as tell it from the others; or what
    kind of policy it is and which. It says where a deterministic one was smoothed.
    """
    paths = [Path(policy) if isinstance(policy, str | Path) else None for policy in policies]
    names = [
        f"{type(policy).__name__} {k + 1}" if path is None else _told_apart(path, paths, k)
        for k, (policy, path) in enumerate(zip(policies, paths, strict=True))
    ]
    return [
        f"{name}, smoothed" if _is_smoothed(policy) else name
        for name, policy in zip(names, policies, strict=True)
    ]


def _is_smoothed(policy) -> bool:
    return str(policy) != LOGGING and isinstance(given_policy(policy), Deterministic)


def _told_apart(path, paths, k):
    others = [other for j, other in enumerate(paths) if j != k and other is not None]
    for depth in range(1, len(path.parts) + 1):
        ends = [other.with_suffix("").parts[-depth:] for other in others]
        if path.with_suffix("").parts[-depth:] not in ends:
            return "/".join(path.with_suffix("").parts[-depth:])
    return f"{path} ({k + 1})"


def _target(reader, policy, bandwidth):
    if isinstance(policy, str | Path) and str(policy) == LOGGING:
        return LOGGING
    target = read_target(reader, policy, bandwidth, only_deterministic=False)
    if isinstance(target, Deterministic):
        raise ValueError(
            "--bandwidth: auto is for one target (mopl evaluate); give a standard deviation, which"
            " all that are compared share"
        )
    return target


def _difference(answer: Answer, interval, alpha, level, ranged, possible, equal) -> Difference:
    """`equal`: whether all rewards of one of the two are, which tells nothing of their spread, and
    only an interval of two halves in the range holds.
    """
    facts = ranged if answer.halves is not None else Facts()
    alone, together = (limits(answer, [interval], a, facts, possible)[0] for a in (alpha, level))
    if equal and facts.reward_range is None and possible is not None:
        alone = together = Ends(*possible)
    share = float(answer.moments.sum_p2)
    return Difference(
        float(answer.value),
        together.lower,
        together.upper,
        Ends(alone.lower, alone.upper),
        1 / share if share > 0 else 0.0,
        more_units(answer, together, level) if share > 0 or not answer.value else math.inf,
    )


def _candidate(reader, name, target, answer: Answer, seen, interval, alpha, mixed) -> Candidate:
    (ends,) = limits(answer, [interval], alpha, Facts(reader.reward_range))
    doubts = () if target is LOGGING else mixed  # whose weights are one
    d, verdict = answer.diagnosis, judge(reader, target, answer, seen, doubts)
    return Candidate(
        name,
        float(answer.value),
        ends.lower,
        ends.upper,
        float(d.kish),
        mean_weight_of(d, answer.units),
        verdict.level,
        verdict.reasons,
        parts=by_log(reader, answer)[0],
    )

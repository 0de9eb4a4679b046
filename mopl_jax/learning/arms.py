"""Choosing among arms: from the log of an A/B/n test, whose actions are a few.

No surface is needed and no rows are held out: every arm is valued on the rows that played it, the
bounds of all gains hold at once, and so the arm with the largest may be chosen by them.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from mopl_jax.diagnostics.log_checks import check_rows
from mopl_jax.diagnostics.verdicts import VERDICTS
from mopl_jax.diagnostics.weight_diagnostics import UNBOUNDED
from mopl_jax.estimators.registry import Choice, name_of
from mopl_jax.evaluation.answer import LOGGING, Answer, Answers
from mopl_jax.evaluation.answers import gather
from mopl_jax.evaluation.judgement import by_log, judge, log_name, of_policies
from mopl_jax.evaluation.limits import limits
from mopl_jax.evaluation.mixed import by_file
from mopl_jax.evaluation.precision import more_units
from mopl_jax.intervals.facts import Facts
from mopl_jax.intervals.reward_range import Range, between, gains
from mopl_jax.intervals.simultaneous import simultaneous_alpha
from mopl_jax.io.column_spec import weight_names
from mopl_jax.io.known_before import check_asked
from mopl_jax.io.log_reader import LogReader, WatchRows, chunks
from mopl_jax.io.policy_json import given_policy
from mopl_jax.io.read import open_log
from mopl_jax.io.reward_note import provenance_of
from mopl_jax.io.table_source import distinct
from mopl_jax.learning.chosen_arm import Arm, ChosenArm
from mopl_jax.learning.constraints import Bounds, Projection, unconstrained
from mopl_jax.learning.guarded_arms import changes, ends
from mopl_jax.learning.guardrails import Change, Guardrail, guardrail
from mopl_jax.logs import Logs
from mopl_jax.numerics.check import check_alpha
from mopl_jax.policies.discrete import SAME, Discrete
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.product import Product, combined

MOST = 32  # arms: each is valued by code of its own
ROWS = 10  # of each arm on average: fewer are no arms
MOST_COMBINED = 2**12  # combinations of a product: more are not listed
CHUNK = 2**18  # rows looked at together
REFUSE = VERDICTS[-1]

Arms = Float[np.ndarray, "k d"]


def choose_arm(
    log: Any,
    *,
    production: Any = None,
    constraints: Projection | Bounds = unconstrained,
    estimator: Choice = "snips",
    alpha: float = 0.05,
    minimise: bool = False,
    guardrails: Sequence[str] | Mapping[str, ArrayLike] = (),
    reward_range: Range | None = None,
    watch: WatchRows = iter,
    **roles: Any,
) -> ChosenArm:
    """The arm with the largest certain gain over `production`: weights (d,) that are an arm, a
    `Discrete` policy (or a `Product` of such) or the path of one; over what was played, where it is
    None.

    `log` and its `roles` as for `evaluate`: the logging policy is `Discrete`, or the log has the
    probabilities of what was played. Every arm's value is that of the rows that played it, users
    are the units where the log knows them, and the bounds of all gains hold at once (max-t), so
    that the choice costs nothing more. An arm of too few rows, which is refused by itself, is
    promised nothing and does not keep the others from being chosen. Arms that `constraints` forbid
    are left out. `minimise`: the reward is a cost, and gains are what is saved. `reward_range`:
    where rewards are known to lie; the bounds of gains by SNIPS over rows are then those of
    `compare` in it, and all are cut to its width.

    `guardrails` are texts as "revenue:-0.5%" (may fall by at most) or "reports:+0.01" (may rise by
    at most), against what is played now: of outcomes, by the names of their columns; of `Logs` in
    memory, a dict of such texts with the outcomes (n,). An arm is then chosen among those under
    which every outcome certainly keeps to what is allowed; the bounds of the gains and of every
    outcome hold at once, each family at alpha over their number.

    ValueError for a log that is not of arms, a production that is none, for none to change to, and
    for outcomes that are absent or do not vary.
    """
    reader = open_log(log, **roles)._replace(reward_range=reward_range)
    arms = _checked(reader, alpha)
    outcomes = _outcomes(log, reader, guardrails)
    current = _current(production, reader)
    now, tried = _tried(arms, current, constraints)
    first = current if isinstance(current, Discrete) else LOGGING
    if now is not None:
        first = Discrete.of(arms[[now]], np.ones(1))
    targets = [first, *(Discrete.of(arms[[k]], np.ones(1)) for k in tried)]
    asked = reader._replace(negated=minimise)
    sign = -1 if minimise else 1
    known = _known(asked, estimator)
    found = gather(asked, targets, estimator, known, watch=watch)
    whole = found.policies[0]
    called = "what was played" if current is None else "production"
    doubts = tuple(_doubts(asked, targets, found, watch))
    level = alpha / (1 + len(outcomes))
    changed = [
        list(changes(limit, gather(of, targets, estimator, watch=watch), level, of.source.name))
        for limit, of in outcomes
    ]
    facts = Facts(None if known == UNBOUNDED else known)
    compared = _compared(asked, targets, found, arms, tried, level, doubts, changed, facts)
    return ChosenArm(
        log=log_name(reader, log),
        note=provenance_of(reader.source.schema, reader.columns.reward),
        objectives=weight_names(reader.columns.action, arms.shape[1]),
        reward=reader.columns.reward or "reward",
        estimator=name_of(estimator),
        alpha=alpha,
        n=whole.n,
        units=whole.units,
        now=called if now is None else f"arm {now + 1}",
        value_now=sign * float(whole.value),
        arms=tuple(arm._replace(value=sign * arm.value) for arm in compared),
        doubts=doubts,
        minimise=minimise,
        guardrails=tuple(limit for limit, _ in outcomes),
        warnings=() if reader.columns.fit_logging else reader.source.remarks,
    )


def _checked(reader, alpha) -> Float[np.ndarray, "k d"]:
    """The arms of a log; ValueError for a log of others, and a level that is none."""
    arms = arms_of(reader)
    if arms is None:
        raise ValueError(
            f"{reader.source.name}: expected a log of at most {MOST} arms, {ROWS} rows each, got"
            " weights that vary; learn from it"
        )
    check_asked(reader)
    check_alpha(alpha)
    if alpha >= 0.5:
        raise ValueError(f"alpha: expected a bound on one side below 0.5, got {alpha:g}")
    return arms


def _known(reader, estimator) -> Range:
    """In which range gains are judged: that of the reward where the intervals of gains know it."""
    low, high = reader.reward_range or UNBOUNDED
    if reader.columns.cluster or estimator != "snips" or not np.isfinite([low, high]).all():
        return UNBOUNDED
    return (-high, -low) if reader.negated else (low, high)


def _outcomes(
    log: Any, reader: LogReader, given: Sequence[str] | Mapping[str, Any]
) -> list[tuple[Guardrail, LogReader]]:
    """Each guardrail, and the log whose reward is its outcome; ValueError for columns that are not
    there, and for `Logs` in memory without their outcomes.
    """
    limits = [guardrail(text) for text in given]
    if not limits:
        return []
    if isinstance(log, Logs):
        if not isinstance(given, Mapping):
            raise ValueError("guardrails: expected a dict with the outcomes of Logs in memory")
        rows = (dataclasses.replace(log, reward=np.asarray(x, float)) for x in given.values())
        return [(limit, open_log(each)) for limit, each in zip(limits, rows, strict=True)]
    found = []
    for limit in limits:
        reader.source.column(limit.name)
        columns = reader.columns.replace(reward=limit.name)
        found.append((limit, reader._replace(columns=columns, reward_range=None)))
    return found


def _compared(
    reader, targets, found: Answers, arms, tried, alpha, doubts, changed, facts
) -> Iterator[Arm]:
    """Each arm against what is played now; nothing is certain of a log that is refused."""
    possible = gains(reader.reward_range or UNBOUNDED)
    level = simultaneous_alpha(found.correlation, alpha, one_sided=True)
    bounds, contrasts = _ends(found.contrasts, level, facts), found.contrasts
    each = zip(tried, targets[1:], found.policies[1:], contrasts, bounds, strict=True)
    for place, (k, target, answer, change, end) in enumerate(each):
        verdict, value = judge(reader, target, answer, found.appearance), float(answer.value)
        refused = REFUSE in (verdict.level, *(level for level, _ in doubts))
        least = between(end.lower, end.upper, possible)
        yield Arm(
            number=k + 1,
            action=tuple(arms[k].tolist()),
            value=value,
            ess=float(answer.diagnosis.kish),
            gain=float(change.value) if math.isfinite(value) else math.nan,
            certified_gain=-math.inf if refused else float(least.lower),
            more=math.inf if refused else more_units(change, end, level),
            verdict=verdict.level,
            reasons=verdict.reasons,
            changes=tuple(_allowed(of[place], refused) for of in changed),
        )


def _allowed(change: Change, refused: bool) -> Change:
    """The same; nothing is certain of what is refused."""
    return change._replace(certain=math.nan) if refused else change


def _doubts(reader, targets, found: Answers, watch) -> Iterator[tuple[str, str]]:
    """On the log, on what is played now, and on logs that are pooled."""
    plain = reader._replace(negated=False)
    checked = check_rows(plain, watch, target=targets[1]).findings
    for finding in (*checked, *by_file(plain, targets)):
        if finding.level != VERDICTS[0]:
            yield finding.level, f"{finding.check}: {finding.found}"
    now = judge(reader, targets[0], found.policies[0], found.appearance)
    yield from ((now.level, text) for text in now.reasons)
    known = of_policies(targets, found.policies)
    yield from (("caution", text) for text in by_log(reader, *known)[1])


def arms_of(reader: LogReader) -> Arms | None:
    """The actions (k, d) of a log of arms, as the policies that declare them have them, or sorted;
    None for any other log.
    """
    declared = reader.logging
    policies = declared.components if isinstance(declared, Mixture) else (declared,)
    policies = list(map(_as_arms, policies))
    every = [np.asarray(each.actions) for each in policies if isinstance(each, Discrete)]
    if len(every) == len(policies):
        return every[0] if len(every) == 1 else np.unique(np.concatenate(every), axis=0)
    if declared is not None or reader.columns.action is None:
        return None
    if reader.source.table is not None:
        found = distinct(reader.source, reader.columns.action, MOST + 1)
        few = len(found) <= min(MOST, reader.source.count() / ROWS)
        return np.unique(found, axis=0) if few and len(found) > 1 else None
    found, n = np.zeros((0, 0)), 0
    for rows in chunks(reader, CHUNK):
        action = np.asarray(rows.action)
        if len(np.unique(action[:, 0])) > MOST:
            return None
        seen = np.unique(action, axis=0)
        found = np.unique(np.concatenate([found, seen]), axis=0) if n else seen
        n += len(action)
        if len(found) > MOST:
            return None
    return found if 1 < len(found) <= n / ROWS else None


def _as_arms(policy: Any) -> Any:
    """A product of discrete policies as one of their combinations; others themselves."""
    if not isinstance(policy, Product):
        return policy
    each = [len(part.actions) for part in policy.parts if isinstance(part, Discrete)]
    few = math.prod(each) <= MOST_COMBINED
    return (combined(policy) if few else None) or policy


def _current(production, reader) -> Any:
    """What is played now: weights (d,), or a policy on arms."""
    production = _as_arms(given_policy(production, reader.columns.action or ()))
    if production is None or isinstance(production, Discrete):
        return production
    if hasattr(production, "log_density"):
        production = getattr(production, "action", None)
        if production is None:
            raise ValueError("production: expected weights, or a policy of kind discrete")
    return np.asarray(production, float)


def _tried(arms: Arms, current: Any, constraints: Any) -> tuple[int | None, list[int]]:
    """The number of the arm that is played now, and those that it may be changed to."""
    if len(arms) > MOST:
        raise ValueError(
            f"expected at most {MOST} arms, got {len(arms)}; compare those that matter"
        )
    weights: Any = None if isinstance(current, Discrete) else current
    now = None if weights is None else _number(arms, weights)
    project = constraints
    if isinstance(constraints, Bounds):
        project = constraints.projection(arms.shape[1], weights)
    left = np.stack([np.asarray(project(jnp.asarray(arm))) for arm in arms])
    tried = [k for k in np.flatnonzero(_same(arms, left)).tolist() if k != now]
    if not tried:
        raise ValueError(
            "constraints: expected an arm to change to, got none that bounds of the weights leave"
        )
    return now, tried


def _number(arms: Arms, weights: Any) -> int:
    fits = weights.shape == arms.shape[1:]
    near = _same(arms, weights) if fits else np.zeros(len(arms), bool)
    if not near.any():
        raise ValueError(
            f"production: expected one of the {len(arms)} arms of the log, got {_listed(weights)};"
            f" they are {'; '.join(map(_listed, arms))}"
        )
    return int(np.argmax(near))


def _same(arms, weights):
    return (np.abs(arms - weights) <= SAME * np.maximum(np.abs(arms), 1)).all(axis=1)


def _listed(weights: Float[np.ndarray, " d"]) -> str:
    return ",".join(f"{x:g}" for x in weights.reshape(-1))


def _ends(contrasts: list[Answer], level: float, facts: Facts) -> list[Any]:
    """The interval of each gain."""
    if facts.reward_range is None or contrasts[0].halves is None:
        return ends(contrasts, level)
    possible = gains(facts.reward_range)
    return [limits(change, ["recommended"], level, facts, possible)[0] for change in contrasts]

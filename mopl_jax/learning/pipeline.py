"""From a log to certified new weights: the verbs `learn` and `learn_contextual`."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import ArrayLike

from mopl_jax.diagnostics.log_checks import check_rows
from mopl_jax.diagnostics.log_report import LogReport
from mopl_jax.diagnostics.weight_diagnostics import UNBOUNDED
from mopl_jax.estimators.estimator import Estimator
from mopl_jax.estimators.registry import name_of
from mopl_jax.evaluation.answer import IN_MEMORY
from mopl_jax.evaluation.mixed import by_file
from mopl_jax.intervals.facts import check_rewards
from mopl_jax.intervals.registry import bind
from mopl_jax.intervals.reward_range import Range
from mopl_jax.io import log_reader, read
from mopl_jax.io.column_spec import weight_names
from mopl_jax.io.known_before import check_asked, check_known_before
from mopl_jax.io.refusals import within
from mopl_jax.io.reward_note import provenance_of
from mopl_jax.learning import stages
from mopl_jax.learning.constraints import (
    Bounds,
    Projection,
    check_projection,
    share_outside,
    unconstrained,
)
from mopl_jax.learning.contextual import check_one_split, personalised
from mopl_jax.learning.contextual_weights import ContextualWeights
from mopl_jax.learning.guardrails import guardrail
from mopl_jax.learning.learnt_weights import LearntWeights, Names
from mopl_jax.learning.levels import level_above
from mopl_jax.learning.long_log import LongLog, certified_in_passes
from mopl_jax.learning.objective import valuation_of
from mopl_jax.learning.personal import MEANS, TABLE
from mopl_jax.learning.plan import RADIUS, Plan, Stop, Watch, check_plan
from mopl_jax.learning.pooled_rows import PooledRows
from mopl_jax.learning.production import (
    by_row,
    check_size,
    served_now,
    weights_by_row,
    weights_now,
)
from mopl_jax.learning.seen import check_no_user, context_names, seen_of
from mopl_jax.learning.space import LOGARITHMS, WEIGHTS, Space
from mopl_jax.learning.space_bounds import projection_of
from mopl_jax.learning.stages import Task
from mopl_jax.learning.teachable import check_outcomes, check_teaches
from mopl_jax.learning.which_space import space_of
from mopl_jax.logs import Logs, check, check_splits, num_units
from mopl_jax.numerics.check import check_alpha, check_seed, choose
from mopl_jax.warehouse.connection import public

Guardrails = Sequence[str] | Mapping[str, ArrayLike]
SHARE = 0.5  # of the users: as many certify as teach
# What promises most of the rules of `benchmarks/certificates.py`. It takes five fits, and what it
# gains shrinks with the noise: beyond so many rows a half certifies nearly as much in less time.
FOLDS, FEW = 4, 20_000
HOLD_MORE = "they are a sample of the log, of which more can be held: raise --in-memory"


def learn(
    log: Any,
    *,
    constraints: Projection | Bounds = unconstrained,
    production: Any = None,
    estimator: str | Estimator = "doubly_robust",
    certificate: str = "ess_skew",
    alpha: float = 0.05,
    minimise: bool = False,
    radius: float = RADIUS,
    share: float | None = None,
    folds: int | None = None,
    guardrails: Guardrails = (),
    trades: int = 0,
    reward_range: Range | None = None,
    seed: int = 0,
    in_memory: int = IN_MEMORY,
    watch: Watch = lambda done, stages: None,
    stop: Stop = lambda: False,
    **roles: Any,
) -> LearntWeights:
    """New weights from a log, and what they certainly gain over the current ones: a best guess by
    the surface, and the policy with the largest gain that can be certified.

    `log` is `Logs`, or whatever `read_logs` takes, with its roles by keyword (`action`, `reward`,
    `logging`, `cluster`, …). With `folds` ≥ 2 each fold, of users (of rows, without users),
    certifies the policy that the others teach, all in one estimate with one bound, for the mixture
    of these policies. With `share`, or 0 folds, that share of the users certifies what the others
    teach, a half unless given. Where neither is given, a log that is read is cross-fitted in
    `FOLDS`, and one of more than `FEW` rows halved; of `Logs` in memory, which you have split
    already (`logs.split`), nothing is held out: `certification.certify` then has the certificate on
    the other part. Of logs that are pooled with a logging policy each, as of several rounds, all
    teach alike, and they certify by what each knows of the policy and the baseline, 1/d₂, as they
    count in `evaluate`.

    Of a log of more than `in_memory` rows, or in a query engine, a sample of the users, about
    `long_log.TAUGHT` rows, teaches, and all others certify, in passes: no more rows are held.

    `guardrails` are texts as "revenue:-0.5%" (may fall by at most) or "reports:+0.01" (may rise by
    at most), against production, or the logging mean where that is not given: of outcomes, by the
    names of their columns; of `Logs` in memory, a dict of such texts with the outcomes (n,). The
    largest certified gain is then sought where every outcome is predicted to be confirmed, and all
    bounds hold at once. `trades` ≥ 2 also gives so many policies that trade the outcome of the
    first guardrail for the reward, all certified at once (`front`).

    `reward_range` (low, high) is where rewards are known to lie, never the least and largest seen:
    others are refused, and bounds are cut to what it leaves possible, of a gain to its width.

    `minimise`: the reward is a cost. All is then learnt of its negative, whose gains are savings.

    From a log of log-normal, truncated or clipped weights, or of shares, a normal policy is learnt
    of which these are a function (`learning.space`), and `played` is what to serve.

    `estimator` values what certifies: "doubly_robust", the surface and SNIPS of what it leaves of
    the rewards, "snips", "beta_ips", "ips", or an `Estimator` of one's own of the rewards.

    `constraints` is a projection of `learning.constraints`, or `Bounds`. `production` are the
    current weights: numbers (d,), a policy, or the path of its JSON. `radius` bounds the means, in
    logged standard deviations from the logging mean. `watch(done, stages)` hears of progress; where
    `stop()` is true after a stage, or on KeyboardInterrupt, the best policy so far is certified and
    returned.

    ValueError in one line, before anything is compiled, for a log that cannot teach and for options
    that leave nothing to search. What `check_log` finds and the weights that certify are the
    verdict.
    """
    limits = tuple(guardrail(text) for text in guardrails)
    long = LongLog(in_memory, share, folds, bool(limits), trades, certificate, seed)
    taken = _read(log, roles, guardrails, limits, long, reward_range).in_space()
    _check(taken, limits, trades)
    check_alpha(alpha)
    valuation = valuation_of(estimator)
    taken = taken.of_costs if minimise else taken
    current = weights_now(production, taken.names, taken.space)
    project = _projection(constraints, taken, current)
    within_range = reward_range or UNBOUNDED
    plan = Plan(bind(certificate), alpha, valuation, project, radius, within_range)
    check_plan(plan)
    check_seed(seed, "seed")
    check_projection(project, taken.logs.action.shape[1])
    share, folds = _design(taken, isinstance(log, Logs), share, folds)
    made_by = {"estimator": name_of(estimator), "certificate": certificate, "minimise": minimise}
    names = taken.called(seed=seed, folds=folds, share=share or 0.0, **made_by)
    known, by_time = current is not None, taken.reader.by_time
    task = Task(plan, current, names, limits, trades, known, by_time, taken.pooled)
    found = _found(taken, task, share, watch, stop)
    return dataclasses.replace(
        found,
        outside=share_outside(project, found.policy),
        checks=_checked(taken.reader, found.played),
        served=served_now(production, taken.names, found),
    ).judged


def _check(taken, limits, trades):
    """ValueError for a log that cannot teach."""
    remedy = "collect more" if taken.others is None else HOLD_MORE
    names, place = taken.space.labels(taken.names), taken.place
    check_teaches(taken.logs, names=names, reward=taken.reward, place=place, remedy=remedy)
    check_outcomes(taken.logs, limits, trades, taken.place)


def _projection(constraints, taken, current) -> Projection:
    """Onto what the constraints leave of the weights, in the space that is learnt in."""
    if not isinstance(constraints, Bounds):
        return constraints
    return projection_of(constraints, taken.space, len(taken.names), current)


def _found(taken, task: Task, share, watch: Watch, stop: Stop) -> LearntWeights:
    """What is learnt and certified: in passes, in folds, or on a share of the users."""
    if taken.others is not None:
        watch(0, 2)
        found = stages.taught(taken.logs, taken.others.source.count(), task)
        found = dataclasses.replace(found, interrupted=stop())
        return certified_in_passes(found, taken.others, watch)
    if task.names.folds or share is not None:
        with within(taken.place):
            check_splits(taken.logs)
    if task.names.folds:
        return stages.cross_fitted(taken.logs, task, watch, stop)
    return stages.halved(taken.logs, share, task, watch, stop)


def _checked(reader, played) -> LogReport:
    """What the checks find of the log, and of the mixture that its files are weighed by."""
    report = check_rows(reader, target=played)
    more = by_file(reader, [played])
    return dataclasses.replace(report, findings=(*report.findings, *more))


GLOBAL = ("guardrails", "trades")  # options of learning that are for one policy for all
SETTINGS = (  # the others, which `learn` takes
    "production",
    "estimator",
    "certificate",
    "alpha",
    "minimise",
    "radius",
    "reward_range",
    "seed",
    "in_memory",
    "watch",
    "stop",
)


def learn_contextual(
    log: Any,
    context: str | Sequence[str],
    *,
    mean: str = TABLE,
    constraints: Projection | Bounds = unconstrained,
    share: float | None = None,
    folds: int | None = None,
    **options: Any,
) -> ContextualWeights | LearntWeights:
    """Weights by the columns of the `context`, and what they certainly gain over the best global
    weights, which are learnt beside them.

    `log` is a path or a table (not `Logs`, whose columns have no names); `options` and roles are
    those of `learn`. `mean` is "table", weights for each segment (rows that have the same
    levels of all columns; at most `segments.MOST`), or a function of numbers and levels: "linear",
    or a small "network". A linear mean or network is certified on a `share` of the users, a half
    unless given. Where no gain over the global weights is certain, `played` are the global ones.
    `production` may be a policy by context, and is the logging policy where that is one and no
    other is given: the gain of what is served is then over each row's own current weights.
    After an interrupt it is the global `LearntWeights` that is returned.

    ValueError in one line for columns that are absent, are all alike, have too many levels, or name
    the user; for guardrails, which are for one policy for all; for more rows than `in_memory`.
    """
    choose([mean], dict.fromkeys(MEANS), "mean")
    settings = {name: options.pop(name) for name in SETTINGS if name in options}
    for name in GLOBAL:
        if options.pop(name, None):
            raise ValueError(
                f"{name}: expected no context, of which guardrails and fronts know nothing; drop"
                " one of the two"
            )
    if isinstance(log, Logs):
        raise ValueError(
            "context: expected a path or a table, whose columns have names, got Logs in memory"
        )
    reader = read.open_log(log, **options)
    names = context_names(context, reader)
    check_no_user(reader, names)
    n, most = reader.source.count(), log_reader.room(reader, settings.get("in_memory", IN_MEMORY))
    if n > most:
        raise ValueError(
            f"context: expected at most {most:,} rows, which are held, got {n:,} in"
            f" {reader.source.name}; raise --in-memory, or keep a sample of the users"
        )
    check_known_before(reader, names, "context")
    if mean != TABLE:
        check_one_split(mean, constraints, folds)
        share = SHARE if share is None else share
    now = by_row(settings.get("production"), reader)
    if now is not None:
        settings |= {"production": None}
    seen = seen_of(reader, names, mean, now)
    if now is not None:
        check_size(now.dim, seen.logs.action.shape[1])
    settings |= {"constraints": constraints, "share": share, "folds": folds}
    learnt = learn(reader, **settings)
    if mean != TABLE and learnt.names.space not in (WEIGHTS, LOGARITHMS):
        raise ValueError(
            f"mean: expected a table beside weights of a {learnt.names.space.kind} policy, got"
            f" {mean}, which is for normal and log-normal ones"
        )
    if now is not None:
        seen = seen._replace(now=weights_by_row(now, seen.codes, learnt.names.space))
    return learnt if learnt.interrupted else personalised(learnt, seen, mean)


class _TakenLog(NamedTuple):
    """A log that was read.

    `reader`: all of it
    `logs`: the rows in memory
    `names`, `reward`: of the weights and the reward
    `place`, `path`: for complaints and for documents
    `others`: of a long log those rows that are not held
    `space`: of the actions of `logs`
    `pooled`: of which log each of these rows is, where several are pooled
    """

    reader: log_reader.LogReader
    logs: Logs
    names: tuple[str, ...]
    reward: str
    place: str
    path: str
    others: log_reader.LogReader | None = None
    space: Space = WEIGHTS
    pooled: PooledRows | None = None

    def in_space(self) -> "_TakenLog":
        """The log with the actions that a normal policy is learnt of; ValueError for none such."""
        space = space_of(self.reader.logging, self.logs, self.place)
        if self.others is not None and space.clipped is not None:
            raise ValueError(
                f"in_memory: {self.place}: clipped weights are learnt in memory; raise it"
            )
        return self._replace(logs=space.rows(self.logs), space=space)

    @property
    def of_costs(self) -> "_TakenLog":
        """The same with the negative of the reward; the reader of all, which is checked, has it as
        it is.
        """
        logs = dataclasses.replace(self.logs, reward=0.0 - self.logs.reward)
        others = self.others and self.others._replace(negated=True)
        return self._replace(logs=logs, others=others)

    def called(self, **method: Any) -> Names:
        """The names for documents, with those of the `method`."""
        note = provenance_of(self.reader.source.schema, self.reward)
        own = self.path, self.names, self.reward
        return Names(*own, space=self.space, note=note, **method)

    @property
    def share(self) -> float:
        """The share of the rows that is not held."""
        return 1 - len(self.logs.reward) / self.reader.source.count()


def _read(log, roles, given, guardrails, long, reward_range) -> _TakenLog:
    """A log, whose outcomes for guardrails are the context of the rows, whatever else was known of
    them.
    """
    if isinstance(log, Logs):
        return _in_memory(log, roles, given, guardrails, reward_range)
    reader = read.open_log(log, **roles)._replace(reward_range=reward_range)
    check_asked(reader)
    for each in guardrails:
        reader.source.column(each.name)
    outcomes = tuple(each.name for each in guardrails) or None
    reader = reader._replace(columns=reader.columns.replace(context=outcomes))
    long = long._replace(in_memory=log_reader.room(reader, long.in_memory))
    if long.is_one(reader.source):
        logs, others = read.halves(reader, long.taught(reader.source), long.seed)
        pooled = None
    else:
        (logs, pooled), others = _held(reader), None
        log_reader.check_densities(reader, None)
    place, reward = reader.source.name, reader.columns.reward or "reward"
    path = place if isinstance(log, log_reader.LogReader) else public(str(log))
    names = weight_names(reader.columns.action, logs.action.shape[1])
    return _TakenLog(reader, logs, names, reward, place, path, others, pooled=pooled)


def _held(reader) -> tuple[Logs, PooledRows | None]:
    """All rows, of logs that are pooled without what differs between their levels, and of which
    log each is.
    """
    if not reader.parts or reader.columns.action is None:
        return read.read_logs(reader), None
    rows = log_reader.whole(reader)
    logs, part = read.logs_of(rows), np.asarray(rows.part)
    take = functools.partial(level_above, np.asarray(logs.action), log=part)
    outcomes = None if logs.context is None else np.asarray(logs.context).T
    if outcomes is not None:
        outcomes = np.stack([each - take(each) for each in outcomes], axis=1)
    reward = np.asarray(logs.reward)
    logs = dataclasses.replace(logs, reward=reward - take(reward), context=outcomes)
    return logs, PooledRows(reader.parts, part)


def _in_memory(log, roles, given, guardrails, reward_range) -> _TakenLog:
    if roles:
        raise ValueError(f"expected a path to go with {sorted(roles)[0]!r}, got Logs in memory")
    if guardrails and not isinstance(given, Mapping):
        raise ValueError("guardrails: expected a dict with the outcomes of Logs in memory")
    outcomes = [np.asarray(given[text], float) for text in given] if guardrails else None
    context = None if outcomes is None else np.stack(outcomes, axis=1)
    logs = dataclasses.replace(jax.tree.map(np.asarray, log), context=context)
    logs = check(logs)
    if reward_range is not None:
        check_rewards(logs.reward, reward_range)
    names = weight_names(None, logs.action.shape[1])
    return _TakenLog(read.open_log(logs), logs, names, "reward", "memory", "memory")


def _design(taken: _TakenLog, split_already, share, folds) -> tuple[float | None, int]:
    """The share of the users that certify, and how many folds do instead."""
    if taken.others is not None:
        return taken.share, 0
    if share is not None and folds:
        raise ValueError("folds: expected folds or a share of the users, got both")
    if share is not None or folds:
        return share, folds or 0
    if folds is None and split_already:
        return None, 0
    few = folds is None and len(taken.logs.reward) <= FEW
    return (None, min(FOLDS, num_units(taken.logs))) if few else (SHARE, 0)

"""What another policy would have earned, from a log; and whether to believe it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mopl_jax.diagnostics.log_checks import check_rows
from mopl_jax.diagnostics.mean_weight import mean_weight_of
from mopl_jax.diagnostics.verdicts import gravest
from mopl_jax.diagnostics.weight_diagnostics import UNBOUNDED
from mopl_jax.estimators.registry import Choice, bind_estimator, name_of
from mopl_jax.evaluation.answer import IN_MEMORY, Answer
from mopl_jax.evaluation.answers import gather
from mopl_jax.evaluation.judgement import by_log, judge, log_name, taught
from mopl_jax.evaluation.limits import check_facts, check_intervals, limits
from mopl_jax.evaluation.mixed import doubts_of_mixture
from mopl_jax.evaluation.precision import check_known, more_units, saving
from mopl_jax.evaluation.result import Adjustment, EffectiveSizes, Evaluation, InLog
from mopl_jax.evaluation.smoothing import CHOSEN, Smoothing
from mopl_jax.evaluation.targets import choose_target
from mopl_jax.evaluation.warnings import undeclared_range, warnings_of
from mopl_jax.evaluation.weighed_logs import weigh_logs
from mopl_jax.intervals.facts import Facts, policy_facts
from mopl_jax.intervals.registry import METHODS
from mopl_jax.io import log_reader
from mopl_jax.io.known_before import check_asked
from mopl_jax.io.log_reader import LogReader, WatchRows
from mopl_jax.io.read import open_log
from mopl_jax.io.table_source import extent
from mopl_jax.numerics.check import check_alpha, choose

FIRST = ("recommended", "normal")  # the intervals that are printed unless others are asked for


def evaluate(
    log: Any,
    target: Any = None,
    *,
    bandwidth: Any = None,
    estimator: Choice = "snips",
    alpha: float = 0.05,
    interval: Sequence[str] | None = None,
    reward_range: tuple[float, float] | None = None,
    w_max: float | None = None,
    d2: float | None = None,
    adjust: bool = False,
    goal: float | None = None,
    in_memory: int = IN_MEMORY,
    watch: WatchRows = iter,
    **columns: Any,
) -> Evaluation:
    """What another policy would have earned: value, intervals, effective sample size, verdict.

    `log` is `Logs` in memory, or what `open_log` takes with its `columns`; `target` a policy or the
    path of one, or None where a column holds its densities (`target_propensity`, or
    `log_target_propensity` for their logarithms). `interval` names intervals of
    `intervals.METHODS`; the default is the recommended one with the normal one beside it. Users are
    the independent units wherever the log knows them. A deterministic target is smoothed by
    `bandwidth`, a standard deviation for all weights or one for each, or "auto". `adjust`: by what
    the columns of the context, known before the action, say that the weighted rows miss. `goal`: a
    value, of which the record says how many more units it takes to be certain that the target's is
    another. `watch(chunks)` may count rows.

    ValueError for an unknown name, alpha outside (0, 1), or a log that cannot be read. Precision is
    the caller's: float64 under `jax_enable_x64`, which the command turns on.
    """
    check_alpha(alpha)
    names = (interval,) if isinstance(interval, str) else tuple(dict.fromkeys(interval or FIRST))
    choose(names, METHODS, "interval")
    reader = open_log(log, **columns)._replace(reward_range=reward_range)
    policy, smoothing = _target(reader, target, bandwidth)
    bind_estimator(estimator, policy)
    check_asked(reader, [policy], adjust)
    facts = _facts(reader, policy, reward_range, w_max, d2)
    check_known(reader, reward_range, adjust, w_max=w_max, d2=d2)
    check_intervals(reader, names, facts, in_memory, of_mean=not (adjust or reader.columns.per))
    if w_max is None and d2 is None:  # which bound the weights of a row as they are
        reader = weigh_logs(reader, [policy])
    asked = [policy], estimator, reward_range or UNBOUNDED, in_memory, watch
    answers = gather(reader, *asked, adjust=adjust)
    answer = answers.policies[0]
    level = alpha / CHOSEN if smoothing and smoothing.selected else alpha
    mixed = doubts_of_mixture(reader, [policy], check_rows)
    verdict = judge(reader, policy, answer, answers.appearance, mixed)
    made = _evaluation(answer, verdict, estimator, alpha, level, names, facts)
    made = _named(made, reader, answers, log, target)
    if adjust:
        saved = saving(gather(reader, *asked).policies[0], answer)
        adjustment = Adjustment(tuple(reader.columns.context or ()), saved)
        made = dataclasses.replace(made, adjustment=adjustment)
    if reader.by_time:
        whole = gather(log_reader.of_the_log(reader), *asked, adjust=adjust).policies[0]
        (ends,) = limits(whole, names[:1], level, facts)
        rows = reader.sampling and reader.sampling.rows or 0.0
        in_log = InLog(rows, float(whole.value), ends.lower, ends.upper)
        made = _doubted(dataclasses.replace(made, in_log=in_log), *in_log.doubts(made.interval))
    if goal is not None:
        more = more_units(answer, made.interval, level, goal)
        made = dataclasses.replace(made, goal=goal, more=more)
    return made if smoothing is None else _smoothed(made, smoothing)


def _target(reader, target, bandwidth) -> tuple[Any, Smoothing | None]:
    """The target policy, None where a column holds its densities, and how it was smoothed."""
    stated = reader.columns.target_propensity or reader.columns.log_target_propensity
    if (target is None) == (stated is None):
        raise ValueError(
            "expected a target: either --target POLICY.json or --target-propensity COLUMN"
        )
    if target is None:
        return None, None
    return choose_target(reader, target, bandwidth)


def _named(made: Evaluation, reader, answers, log, target) -> Evaluation:
    """With the names of the log and of the target, its pooled logs, and what to know of the log."""
    parts, remarks = by_log(reader, answers.policies[0])
    range_of = undeclared_range(answers.appearance.reward, reader.reward_range)
    doubts = _no_logs(reader) + range_of + taught(log, [target])
    warnings = made.warnings + doubts + reader.source.remarks + answers.remarks
    log, name = _names(reader, log, target)
    made = dataclasses.replace(made, warnings=warnings, parts=parts, log=log, target=name)
    return _doubted(made, *remarks)


def _names(reader: LogReader, log: Any, target: Any) -> tuple[str, str]:
    """The names of the log and of the target: a path, a column, or the kind of policy."""
    columns = reader.columns
    stated = columns.target_propensity or columns.log_target_propensity or "logging"
    kind = str(target) if isinstance(target, str | Path) else type(target).__name__
    return log_name(reader, log), stated if target is None else kind


def _smoothed(made: Evaluation, smoothing: Smoothing) -> Evaluation:
    """The evaluation of a deterministic target, of which it says that it was smoothed."""
    doubt, made = smoothing.doubt(made.interval), dataclasses.replace(made, smoothing=smoothing)
    return made if doubt is None else _doubted(made, doubt)


def _doubted(made: Evaluation, *doubts: str) -> Evaluation:
    """The evaluation with more reasons for caution, where there are any."""
    if not doubts:
        return made
    verdict = gravest(made.verdict, "caution")
    return dataclasses.replace(made, verdict=verdict, reasons=(*made.reasons, *doubts))


def _facts(reader, policy, reward_range, w_max, d2):
    """Facts about the pair hold for rows, not for users."""
    by_row = reader.columns.cluster is None and reader.sampling is None
    if not by_row and (w_max is not None or d2 is not None):
        raise ValueError(
            "--w-max, --d2: expected a log without --cluster and without sampling weights: they"
            " bound the weight of a row"
        )
    known = Facts(reward_range)
    if by_row and reader.logging is not None and policy is not None:
        known = policy_facts(reader.logging, policy, reward_range)
    given = {"w_max": w_max, "d2": d2}
    for name, value in given.items():
        if value is not None and not value >= 1:
            raise ValueError(
                f"--{name.replace('_', '-')}: expected a number of at least 1, got {value}"
            )
    chosen = {
        name: getattr(known, name) if value is None else jnp.asarray(value)
        for name, value in given.items()
    }
    return Facts(reward_range, **chosen)


def _evaluation(answer: Answer, verdict, estimator, alpha, level, names, facts) -> Evaluation:
    check_facts(answer, names, facts)
    entries, d = limits(answer, names, level, facts), answer.diagnosis
    check = mean_weight_of(d, answer.units)
    return Evaluation(
        value=float(answer.value),
        estimator=name_of(estimator),
        n=answer.n,
        units=answer.units,
        alpha=alpha,
        ess=_sizes(d, answer.units),
        mean_weight=check,
        pareto_k=float(d.pareto_k),
        unseen=float(d.unseen),
        intervals=entries,
        verdict=verdict.level,
        reasons=verdict.reasons,
        warnings=warnings_of(d, entries, check),
    )


def _sizes(diagnosis, units) -> EffectiveSizes:
    sizes = {name: float(getattr(diagnosis, name)) for name in EffectiveSizes._fields[:-1]}
    return EffectiveSizes(**sizes, fraction=sizes["kish"] / units)


def _no_logs(reader: LogReader) -> tuple[str, ...]:
    """A warning where what is called log densities looks like densities, in the first rows."""
    if reader.columns.log_target_propensity is None:
        return ()
    if reader.source.table is None:
        rows = next(log_reader.chunks(reader, 10_000))
        columns = [x for x in (rows.log_propensity, rows.log_target) if x is not None]
        low, high = min(map(np.min, columns)), max(map(np.max, columns))
    else:
        names = reader.columns.log_propensity, reader.columns.log_target_propensity
        low, high = extent(reader.source, [name for name in names if name is not None])
    if low < 0 or high > 1:
        return ()
    return ("all log densities are between 0 and 1: if they are densities, drop --log-densities",)

"""From a log to certified new weights: what `mopl learn` does, stage by stage, so that an interrupt
finds the best policy so far.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from mopl_jax.diagnostics.log_checks import check_rows
from mopl_jax.evaluation.answer import IN_MEMORY
from mopl_jax.evaluation.smoothing import smoothing_bias
from mopl_jax.intervals.registry import bind, bind_sums
from mopl_jax.io import log_reader, read
from mopl_jax.io.policy_json import read_policy
from mopl_jax.io.source import Source
from mopl_jax.learning import certification
from mopl_jax.learning.certification import Certificate, certify_compiled
from mopl_jax.learning.constraints import (
    Bounds,
    Projection,
    check_projection,
    share_outside,
    unconstrained,
)
from mopl_jax.learning.contextual import personalised
from mopl_jax.learning.contextual_weights import ContextualWeights
from mopl_jax.learning.guardrails import Guarded, Guardrail, guardrail
from mopl_jax.learning.learnt_weights import LearntWeights, Names, Served, spread
from mopl_jax.learning.log_space import (
    has_log_normal_densities,
    in_logs,
    is_log_normal,
    weights_in_logs,
)
from mopl_jax.learning.long_log import certify_in_passes
from mopl_jax.learning.objective import VALUE_ESTIMATORS
from mopl_jax.learning.personal import MEANS, TABLE
from mopl_jax.learning.plan import RADIUS, Plan, check_plan
from mopl_jax.learning.proposal import Proposal, propose
from mopl_jax.learning.response_surface import fit_surface
from mopl_jax.learning.seen import seen_of
from mopl_jax.logs import Logs, check, check_unsampled, folds_of, rows, split
from mopl_jax.numerics.check import check_alpha, check_count, check_seed, choose
from mopl_jax.numerics.pytree import entries, stacked
from mopl_jax.policies.contextual import is_contextual, no_weights
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture

Guardrails = Sequence[str] | Mapping[str, ArrayLike]
SHARE = 0.5  # of the users: as many certify as teach
TAUGHT = 2**18  # rows that a long log teaches by: twice as many take twice as long
# What promises most of the rules of `benchmarks/certificates.py`. It takes five fits, and what it
# gains shrinks with the noise: beyond so many rows a half certifies nearly as much in less time.
FOLDS, FEW = 4, 20_000


def learn(
    log: Any,
    *,
    constraints: Projection | Bounds = unconstrained,
    production: Any = None,
    estimator: str = "doubly_robust",
    certificate: str = "ess_skew",
    alpha: float = 0.05,
    radius: float = RADIUS,
    share: float | None = None,
    folds: int | None = None,
    guardrails: Guardrails = (),
    trades: int = 0,
    seed: int = 0,
    in_memory: int = IN_MEMORY,
    watch: Callable[[int, int], None] = lambda done, stages: None,
    stop: Callable[[], bool] = lambda: False,
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
    the other part.

    Of a log of more than `in_memory` rows, or in a query engine, a sample of the users, about
    `TAUGHT` rows, teaches, and all others certify, in passes: no more rows are held.

    `guardrails` are texts as "revenue:-0.5%" (may fall by at most) or "reports:+0.01" (may rise by
    at most), against production, or the logging mean where that is not given: of outcomes, by the
    names of their columns; of `Logs` in memory, a dict of such texts with the outcomes (n,). The
    largest certified gain is then sought where every outcome is predicted to be confirmed, and all
    bounds hold at once. `trades` ≥ 2 also gives so many policies that trade the outcome of the
    first guardrail for the reward, all certified at once (`front`).

    From a log of log-normal weights, by its logging policy or by the densities that it has, a
    normal policy of their logarithms is learnt, and `played` is what to serve.

    `constraints` is a projection of `learning.constraints`, or `Bounds`. `production` are the
    current weights: numbers (d,), a policy, or the path of its JSON. `radius` bounds the means, in
    logged standard deviations from the logging mean. `watch(done, stages)` hears of progress; where
    `stop()` is true after a stage, or on KeyboardInterrupt, the best policy so far is certified and
    returned.

    ValueError in one line, before anything is compiled, for a log that cannot teach and for options
    that leave nothing to search. What `check_log` finds and the weights that certify are the
    verdict.
    """
    limits = [guardrail(text) for text in guardrails]
    long = _LongLog(in_memory, share, folds, bool(limits), trades, certificate, seed)
    reader, logs, names, target, place, others = _read(log, roles, guardrails, limits, long)
    check_log(logs, names=names, reward=target, place=place)
    _check_outcomes(logs, limits, trades, place)
    check_alpha(alpha)
    choose([estimator], VALUE_ESTIMATORS, "estimator")
    known = reader.logging is not None
    logarithms = is_log_normal(reader.logging) if known else has_log_normal_densities(logs)
    if logarithms:
        logs = in_logs(logs)
    current = _production(production, names, logarithms)
    bounded = isinstance(constraints, Bounds)
    plan = Plan(
        certificate=bind(certificate),
        alpha=alpha,
        value_estimator=VALUE_ESTIMATORS[estimator],
        project=constraints.projection(logs.action.shape[1], current, logarithms)
        if bounded
        else constraints,
        radius=radius,
    )
    check_plan(plan)
    check_seed(seed, "seed")
    check_projection(plan.project, logs.action.shape[1])
    if others is None:
        share, folds = _design(log, logs, share, folds)
    else:
        share, folds = 1 - len(logs.reward) / reader.source.count(), 0
    called = Names(
        place if isinstance(log, Logs) else _path(log),
        tuple(names),
        target,
        estimator,
        certificate,
        seed,
        folds,
        share or 0.0,
        logarithms,
    )
    given = _Given(plan, current, called, tuple(limits), trades, current is not None)
    if others is not None:
        found = _in_passes(logs, others, given, watch, stop)
    elif folds:
        found = _cross_fitted(logs, given, watch, stop)
    else:
        found = _split(*_parts(logs, share, seed), given, watch, stop)
    outside = 0.0
    if plan.project is not unconstrained:
        outside = share_outside(plan.project, found.policy)
    return dataclasses.replace(
        found,
        outside=outside,
        checks=check_rows(reader, target=found.played),
        served=_served(production, names, found),
    )


# Weights by context.

GLOBAL = ("guardrails", "trades")  # options of learning that are for one policy for all
SETTINGS = (  # the others, which `learn` takes
    "production",
    "estimator",
    "certificate",
    "alpha",
    "radius",
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
    After an interrupt it is the global `LearntWeights` that is returned.

    ValueError in one line for columns that are absent, are all alike, have too many levels, or name
    the user; for guardrails, which are for one policy for all; for more rows than `in_memory`.
    """
    choose([mean], dict.fromkeys(MEANS), "mean")
    settings = {name: options.pop(name) for name in SETTINGS if name in options}
    for name in GLOBAL:
        if options.pop(name, None):
            raise ValueError(f"{name}: expected no context, which they do not know; drop one")
    if isinstance(log, Logs):
        raise ValueError(
            "context: expected a path or a table, whose columns have names, got Logs in memory"
        )
    reader = read.open_log(log, **options)
    _check_context(reader, _names(context, reader))
    n, most = reader.source.count(), settings.get("in_memory", IN_MEMORY)
    if n > most:
        raise ValueError(
            f"context: expected at most {most:,} rows, which are held, got {n:,} in"
            f" {reader.source.name}; raise --in-memory, or keep a sample of the users"
        )
    if mean != TABLE:
        share = _one_split(mean, constraints, share, folds)
    seen = seen_of(reader, _names(context, reader), mean)
    settings |= {"constraints": constraints, "share": share, "folds": folds}
    learnt = learn(reader, **settings)
    return learnt if learnt.interrupted else personalised(learnt, seen, mean)


def _one_split(mean, constraints, share, folds) -> float:
    """The share of the users that certify a function of the context."""
    if folds:
        raise ValueError(f"folds: expected one split for a {mean} mean, got folds; give a share")
    boxed = constraints is unconstrained or isinstance(constraints, Bounds)
    if not boxed or getattr(constraints, "total", None) is not None:
        raise ValueError(
            f"constraints: expected bounds of each weight for a {mean} mean, which is clipped to"
            " them, got others; let it be a table"
        )
    return SHARE if share is None else share


def _check_context(reader, names):
    """ValueError for a column that is not known before the action."""
    columns = reader.columns
    known = {
        "reward": (columns.reward or "reward",),
        "action": columns.action or (),
        "density": (columns.density,),
    }
    for what, own in known.items():
        for name in names:
            if name in own:
                raise ValueError(
                    f"{reader.source.name}: context column {name!r}: expected what is known before"
                    f" the action, got its {what}; name another"
                )


def _names(context, reader) -> tuple[str, ...]:
    names = context.split(",") if isinstance(context, str) else context
    return tuple(reader.source.column(name.strip()) for name in names)


# Options.


class _Given(NamedTuple):
    """What is asked for."""

    plan: Plan
    current: Any
    names: Names
    guardrails: tuple[Guardrail, ...]
    trades: int
    known: bool  # whether `current` is what production plays, or the logging mean


class _LongLog(NamedTuple):
    """How a log that is not held in memory is learnt from; what is asked for besides cannot be had
    of it.
    """

    in_memory: int
    share: float | None
    folds: int | None
    guarded: bool
    traded: int
    certificate: str
    seed: int

    def is_one(self, source: Source) -> bool:
        """Whether its rows are not to be held."""
        return source.table is not None or source.count() > self.in_memory

    def halves(self, reader: log_reader.LogReader) -> tuple[Logs, log_reader.LogReader]:
        """The rows that teach, and the log of those that certify; ValueError in one line."""
        n, name = reader.source.count(), reader.source.name
        check_count(self.in_memory, 10**12, "in_memory", "rows that are held are some thousands")
        taught = min(TAUGHT, self.in_memory, n // 2) if self.share is None else n * (1 - self.share)
        asked = ("folds", self.folds), ("guardrails", self.guarded), ("trades", self.traded)
        for option, given in asked:
            if given:
                raise ValueError(
                    f"{option}: {name} has {n:,} rows, of which one share teaches and the others"
                    " certify the reward, in passes; drop it, or hold all rows (--in-memory) of a"
                    " log that is read"
                )
        if not 0 < taught <= self.in_memory:
            raise ValueError(
                f"share: expected a share of {n:,} rows, below 1, that leaves at most"
                f" {self.in_memory:,} to learn from in memory, got {self.share}"
            )
        bind_sums(self.certificate)
        check_seed(self.seed, "seed")
        return read.halves(reader, taught / n, self.seed)


def _read(log, roles, given, guardrails, long) -> tuple[Any, Logs, list[str], str, str, Any]:
    """The log, its rows, the names of weights and reward, the place for complaints, and of a long
    log that of the rows that are not held.

    The outcomes of guardrails are the context of the rows, whatever else was known of them.
    """
    if isinstance(log, Logs):
        if roles:
            raise ValueError(f"expected a path to go with {sorted(roles)[0]!r}, got Logs in memory")
        names = [f"action[{k}]" for k in range(log.action.shape[1])]
        if guardrails and not isinstance(given, Mapping):
            raise ValueError("guardrails: expected a dict with the outcomes of Logs in memory")
        outcomes = [np.asarray(given[text], float) for text in given] if guardrails else None
        context = None if outcomes is None else np.stack(outcomes, axis=1)
        held = dataclasses.replace(jax.tree.map(np.asarray, log), context=context)
        held = check_unsampled(check(held), "learn")
        return read.open_log(held), held, names, "reward", "memory", None
    reader = read.open_log(log, **roles)
    for each in guardrails:
        reader.source.column(each.name)
    outcomes = tuple(each.name for each in guardrails) or None
    reader = reader._replace(columns=reader.columns.replace(context=outcomes))
    if long.is_one(reader.source):
        logs, others = long.halves(reader)
    else:
        logs, others = read.read_logs(reader), None
        log_reader.check_densities(reader, None)
    logs, target = check_unsampled(logs, "learn"), reader.columns.reward or "reward"
    return reader, logs, _objectives(reader, logs), target, reader.source.name, others


def _design(log, logs, share, folds) -> tuple[float | None, int]:
    """The share of the users that certify, and how many folds do instead."""
    if share is not None and folds:
        raise ValueError("folds: expected folds or a share of the users, got both")
    asked = share is not None or folds is not None or isinstance(log, Logs)
    if not asked and len(logs.reward) <= FEW:
        return None, FOLDS
    halved = share is None and not folds and not (folds is None and isinstance(log, Logs))
    return SHARE if halved else share, folds or 0


def _path(log):
    return log.source.name if isinstance(log, log_reader.LogReader) else str(log)


def _objectives(reader, logs) -> list[str]:
    """The names of the weights, in the order of the columns."""
    names, d = reader.columns.action, logs.action.shape[1]
    if not isinstance(names, str) and len(names) == d:
        return list(names)
    return [f"{names}[{k}]" for k in range(d)]


def _parts(logs, share, seed) -> tuple[Logs, Logs | None]:
    """Rows that teach and rows that certify."""
    return (logs, None) if share is None else split(logs, share, seed)


def _production(given, names, logarithms):
    """The current weights, (d,), in the order of the `names`, or their logarithms."""
    if given is None:
        return None
    policy = _policy(given, names, logarithms)
    weights = np.asarray(certification.weights_of(policy), float)
    if weights.shape != (len(names),):
        raise ValueError(
            f"production: expected {len(names)} weights, as many as the log has, got {weights.size}"
        )
    if not np.isfinite(weights).all():
        raise ValueError(f"production: expected finite numbers, got {weights.tolist()}")
    return weights


def _policy(given, names, logarithms) -> Any:
    policy = read_policy(given, names)[0] if isinstance(given, str | Path) else given
    if is_contextual(policy):
        raise ValueError(f"production: {no_weights(policy)}")
    return weights_in_logs(policy) if logarithms else policy


SURFACED = 2**18  # rows that tell what production has more


def _served(given, names, found) -> Served | None:
    """What production has more as it is played, at one point or with a spread of its own."""
    if given is None:
        return None
    policy = _policy(given, names, found.names.logarithms)
    rows = found.logs if found.held is None else found.held
    own = spread(policy) if hasattr(policy, "covariance") else np.zeros(len(names))
    known = rows.action[:SURFACED], rows.reward[:SURFACED], found.production
    added = [
        smoothing_bias(*map(jnp.asarray, (*known, width))) for width in (own, spread(found.policy))
    ]
    return Served(float(added[0][0] - added[1][0]), float(added[1][1]))


# Logs that cannot teach.


def check_log(
    logs: Logs,
    *,
    names: Sequence[str] | None = None,
    reward: str = "reward",
    place: str = "log",
) -> None:
    """ValueError for a log that cannot teach: one reward, one action, too few rows.

    `names` of the weights, `reward` the name of its column and `place` that of the file are for
    the complaint.
    """
    check(logs)
    n, d = logs.action.shape
    if np.ptp(logs.reward) == 0:
        raise ValueError(
            f"{place}: column {reward!r}: all {n} rewards are {logs.reward[0]:g}: nothing can be"
            " learnt; name a reward that varies"
        )
    for k, name in enumerate(names or [f"action[{k}]" for k in range(d)]):
        if np.ptp(logs.action[:, k]) == 0:
            raise ValueError(
                f"{place}: weight {name!r}: all {n} rows played {logs.action[0, k]:g}: "
                "randomise it, or leave the column out"
            )
    least = 4 * (d + 1) * (d + 2)
    if n < least:
        raise ValueError(
            f"{place}: expected at least {least} rows to learn {d} weights, got {n}; collect more"
        )
    spread = np.linalg.svd(np.cov(logs.action.T).reshape(d, d), compute_uv=False)
    if spread[-1] < 1e-10 * spread[0]:
        raise ValueError(
            f"{place}: the logged weights are linearly dependent (do they add up to a constant?): "
            f"{', '.join(names or ['action'])}; leave one column out"
        )


def _check_outcomes(logs, guardrails, trades, place):
    """ValueError for an outcome that does not vary, and for a front without a second outcome."""
    if trades and not (trades >= 2 and guardrails):
        raise ValueError(
            f"trades: expected 2 policies or more and a guardrail whose outcome they trade, got"
            f" {trades} and {len(guardrails)} guardrails"
        )
    for k, each in enumerate(guardrails):
        outcome = np.asarray(logs.context)[:, k]
        if not np.isfinite(outcome).all():
            row = int(np.argmin(np.isfinite(outcome)))
            raise ValueError(f"{place}: guardrail {each.name!r}: not a finite number in row {row}")
        if np.ptp(outcome) == 0:
            raise ValueError(
                f"{place}: guardrail {each.name!r}: all {len(outcome)} rows are {outcome[0]:g}:"
                " nothing can break it; leave it out"
            )


# Running, stage by stage.


def _split(learning, held, given, watch, stop) -> LearntWeights:
    """Learn from some rows, certify on others."""
    watch(0, 2)
    made = _proposed(learning, len(learning.reward) if held is None else len(held.reward), given)
    watch(1, 2)
    found = _found(made, learning, given, interrupted=stop())
    if held is not None:
        found = _certified(found, [made], _floats(held), None, given)
    watch(2, 2)
    return found


def _in_passes(logs, others, given, watch, stop) -> LearntWeights:
    """Learn from the rows in memory, certify on all others, in passes."""
    n, names, plan = others.source.count(), given.names, given.plan

    def counted(chunks):
        done = 0
        for chunk in chunks:
            yield chunk
            done += len(chunk.reward)
            watch(done, n)

    watch(0, 2)
    made = _proposed(logs, n, given)
    found = _found(made, logs, given, interrupted=stop())
    baselines = [found.whitening.mean, *([given.current] if given.known else [])]
    certificates = certify_in_passes(
        made.certified,
        others,
        baselines,
        surface=fit_surface(jnp.asarray(logs.action), jnp.asarray(logs.reward), made.whitening),
        estimator=names.estimator,
        certificate=names.certificate,
        alpha=plan.alpha,
        logarithms=names.logarithms,
        watch=counted,
    )
    first, *rest = certificates
    return dataclasses.replace(
        found, certificate=first, against_production=rest[0] if rest else None, certifying=n
    )


def _cross_fitted(logs, given, watch, stop) -> LearntWeights:
    """Each fold certifies what the others teach; all rows teach the best guess.

    After an interrupt the folds that have been certified are those whose policies are there.
    """
    names, fold = given.names, folds_of(logs, given.names.folds, given.names.seed)
    made, stages = [], names.folds + 2
    if given.current is None:  # one baseline for all folds
        given = given._replace(current=np.mean(np.asarray(logs.action), axis=0))
    watch(0, stages)
    try:
        for k in range(names.folds):
            made.append(_proposed(logs, len(fold), given, fold != k))
            watch(k + 1, stages)
            if stop():
                break
    except KeyboardInterrupt:
        if not made:
            raise
    interrupted = len(made) < names.folds
    whole = made[0] if interrupted else _proposed(logs, len(fold), given, fold >= 0)
    watch(stages - 1, stages)
    found = _found(whole, logs, given, interrupted=interrupted)
    kept = fold < len(made)
    held = _floats(rows(logs, kept) if interrupted else logs)
    found = _certified(found, made, held, jnp.asarray(fold[kept]), given)
    watch(stages, stages)
    return found


def _found(made, logs, given, interrupted) -> LearntWeights:
    return LearntWeights(
        made,
        given.plan,
        given.names,
        logs,
        policy=made.certified,
        guardrails=given.guardrails,
        production=given.current if given.known else None,
        interrupted=interrupted,
    )


def _floats(logs):
    """Rows in JAX's default precision."""
    return jax.tree.map(jnp.asarray, logs)


def _guarded(logs, given) -> Guarded | None:
    """The outcomes of the guardrails on these rows."""
    return Guarded.of(given.guardrails, [*np.asarray(logs.context).T]) if given.guardrails else None


def _proposed(logs, size, given, kept=None) -> Proposal:
    """What to certify on `size` rows, and what to believe in, taught by those `kept`."""
    plan, logs = given.plan, _floats(logs)
    current = given.current
    made = propose(
        logs,
        float(size),
        None if current is None else jnp.asarray(current, logs.action.dtype),
        project=plan.project,
        radius=plan.radius,
        alpha=plan.alpha,
        kept=None if kept is None else jnp.asarray(kept, logs.action.dtype),
        guarded=_guarded(logs, given),
        trades=given.trades,
    )
    return jax.block_until_ready(made)


def _certified(found: LearntWeights, made, held, fold, given) -> LearntWeights:
    """With its certificates against the logging mean and against production, where guardrails
    bind, and those of the front.
    """
    plan, guarded = given.plan, _guarded(held, given)
    surfaces = made[0].surfaces
    if fold is not None:
        stack = stacked([each.surfaces for each in made])
        surfaces = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), stack)

    def against(baseline, policies, alpha) -> Certificate:
        each = certify_compiled(
            policies[0] if fold is None else stacked(policies),
            held,
            jnp.asarray(baseline, held.action.dtype),
            surfaces,
            plan.value_estimator,
            plan.certificate,
            alpha,
            guarded,
            fold,
        )
        return jax.device_get(each)

    def played(policies) -> Gaussian | Mixture:
        return policies[0] if fold is None else Mixture.of(np.bincount(fold) / len(fold), policies)

    policies = [proposal.certified for proposal in made]
    start = given.current if given.current is not None else found.whitening.mean
    mean = found.whitening.mean if given.known else start
    deciding = first = against(mean, policies, plan.alpha)
    if given.known:
        deciding = against(start, policies, plan.alpha)
    trades = [[entries(each.front, t) for each in made] for t in range(given.trades)]
    front = [(played(each), against(start, each, plan.alpha / given.trades)) for each in trades]
    return dataclasses.replace(
        found,
        held=held,
        certifying=len(held.reward),
        made=tuple(made),
        policy=played(policies),
        certificate=entries(first, 0),
        against_production=entries(deciding, 0) if given.known else None,
        guards=tuple(entries(deciding, k) for k in range(1, 1 + len(given.guardrails))),
        front=tuple(front),
    )

"""Learning, stage by stage, so that an interrupt finds the best policy so far."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax.learning.certification import Certificate, certify_compiled
from mopl_jax.learning.guardrails import Guarded, Guardrail
from mopl_jax.learning.learnt_weights import LearntWeights, Names
from mopl_jax.learning.plan import Plan, Stop, Watch
from mopl_jax.learning.pooled_rows import PooledRows
from mopl_jax.learning.proposal import Proposal, propose
from mopl_jax.learning.teachable import check_part
from mopl_jax.logs import Logs, folds_of, held_out, logged_mean, rows, speaks_for
from mopl_jax.numerics.memory import give_back
from mopl_jax.numerics.pytree import entries, stacked
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture


class Task(NamedTuple):
    """What is to be learnt, and by which plan."""

    plan: Plan
    current: Any
    names: Names
    guardrails: tuple[Guardrail, ...]
    trades: int
    known: bool  # whether `current` is what production plays, or the logging mean
    by_time: bool = False  # whether rows speak for less because they are old
    pooled: PooledRows | None = None  # of which log each row is that certifies

    def at(self, kept: Any) -> "Task":
        """Where these rows (n,) certify."""
        return self if self.pooled is None else self._replace(pooled=self.pooled.at(kept))


def halved(logs: Logs, share: float | None, task: Task, watch: Watch, stop: Stop) -> LearntWeights:
    """Learn from some rows, certify on a `share` of the users; learn from all if None."""
    watch(0, 2)
    teach, held = logs, None
    if share is not None:
        kept = held_out(logs, share, task.names.seed)
        teach, held, task = rows(logs, ~kept), _floats(rows(logs, kept)), task.at(kept)
    found = taught(teach, len((teach if held is None else held).reward), task)
    watch(1, 2)
    found = dataclasses.replace(found, interrupted=stop())
    if held is not None:
        found = _certified(found, [found.proposal], held, None, task)
    watch(2, 2)
    return found


def taught(logs: Logs, size: int, task: Task) -> LearntWeights:
    """What rows teach, to be certified on `size` others."""
    give_back()  # what reading the log took
    made = _proposed(logs, size, task)
    give_back()
    return _found(made, logs, task, interrupted=False)


def cross_fitted(logs: Logs, task: Task, watch: Watch, stop: Stop) -> LearntWeights:
    """Each fold certifies what the others teach; all rows teach the best guess.

    After an interrupt the folds that have been certified are those whose policies are there.
    """
    names, fold = task.names, folds_of(logs, task.names.folds, task.names.seed)
    made, stages = [], names.folds + 2
    if task.current is None:  # one baseline for all folds
        task = task._replace(current=logged_mean(logs))
    watch(0, stages)
    try:
        for k in range(names.folds):
            made.append(_proposed(logs, len(fold), task, fold != k))
            watch(k + 1, stages)
            if stop():
                break
    except KeyboardInterrupt:
        if not made:
            raise
    interrupted = len(made) < names.folds
    whole = made[0] if interrupted else _proposed(logs, len(fold), task, fold >= 0)
    watch(stages - 1, stages)
    found = _found(whole, logs, task, interrupted=interrupted)
    kept = fold < len(made)
    held = _floats(rows(logs, kept) if interrupted else logs)
    found = _certified(found, made, held, jnp.asarray(fold[kept]), task.at(kept))
    watch(stages, stages)
    return found


def _found(made, logs, task, interrupted) -> LearntWeights:
    return LearntWeights(
        made,
        task.plan,
        task.names,
        logs,
        policy=made.certified,
        guardrails=task.guardrails,
        production=task.current if task.known else None,
        interrupted=interrupted,
    )


def _floats(logs):
    """Rows in JAX's default precision."""
    return jax.tree.map(jnp.asarray, logs)


def _guarded(logs, task) -> Guarded | None:
    """The outcomes of the guardrails on these rows."""
    return Guarded.of(task.guardrails, [*np.asarray(logs.context).T]) if task.guardrails else None


def _proposed(logs, size, task, kept=None) -> Proposal:
    """What to certify on `size` rows, and what to believe in, taught by those `kept`."""
    check_part(logs.action, kept)
    plan, logs = task.plan, _floats(logs)
    current = task.current
    made = propose(
        logs,
        float(size),
        None if current is None else jnp.asarray(current, logs.action.dtype),
        project=plan.project,
        radius=plan.radius,
        alpha=plan.alpha,
        kept=None if kept is None else jnp.asarray(kept, logs.action.dtype),
        guarded=_guarded(logs, task),
        trades=task.trades,
        independent=task.names.space.clipped is not None,
    )
    return jax.block_until_ready(made)


class _Certifying(NamedTuple):
    """Rows that certify by themselves, or fold by fold what the other folds taught.

    `held`, `fold` (n,): the rows and their folds, None for one part
    `surfaces`: of the reward and of the outcomes, as they were taught
    `guarded`: the outcomes of the rows that certify
    """

    plan: Plan
    held: Logs
    fold: jax.Array | None
    surfaces: Any
    guarded: Guarded | None

    def certificate(self, baseline, policies, alpha) -> Certificate:
        """The certificate of the policies that were taught, over the baseline."""
        each = certify_compiled(
            policies[0] if self.fold is None else stacked(policies),
            self.held,
            jnp.asarray(baseline, self.held.action.dtype),
            self.surfaces,
            self.plan.valuation,
            self.plan.certificate,
            alpha,
            self.guarded,
            self.fold,
        )
        return jax.device_get(each)

    def played(self, policies) -> Gaussian | Mixture:
        """The one policy that was taught, or the mixture of those of the folds."""
        if self.fold is None:
            return policies[0]
        shares = np.bincount(self.fold, speaks_for(self.held)) / len(self.fold)
        return Mixture.of(shares, policies)


def _taught_surfaces(made, fold) -> Any:
    """The surfaces of the reward and of the outcomes, of each fold."""
    if fold is None:
        return made[0].surfaces
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), stacked([each.surfaces for each in made]))


def _weighed(held, policies, baselines, task) -> Logs:
    """The rows that certify; of logs that are pooled as much as each knows of the policies and of
    the baselines, played with their scale.
    """
    if task.pooled is None:
        return held
    made = [*policies, *(Gaussian(jnp.asarray(x), policies[0].scale) for x in baselines)]
    return _floats(task.pooled.weighed(held, list(map(task.names.space.served, made))))


def _certified(found: LearntWeights, made, held, fold, task) -> LearntWeights:
    """With its certificates against the logging mean and against production, where guardrails
    bind, and those of the front.
    """
    alpha, mean = task.plan.alpha, found.whitening.mean
    start = mean if task.current is None else task.current
    policies = [proposal.certified for proposal in made]
    plain, held = held, _weighed(held, policies, [mean, start] if task.known else [start], task)
    rows = _Certifying(task.plan, held, fold, _taught_surfaces(made, fold), _guarded(held, task))
    first = rows.certificate(mean if task.known else start, policies, alpha)
    deciding = rows.certificate(start, policies, alpha) if task.known else first
    in_log = None
    if task.by_time:
        alike = dataclasses.replace(plain, sampling_weight=jnp.ones_like(plain.sampling_weight))
        alike = _weighed(alike, policies, [start], task)
        in_log = entries(rows._replace(held=alike).certificate(start, policies, alpha), 0)
    trades = [[entries(each.front, t) for each in made] for t in range(task.trades)]
    return dataclasses.replace(
        found,
        held=held,
        certifying=len(held.reward),
        made=tuple(made),
        policy=rows.played(policies),
        certificate=entries(first, 0),
        against_production=entries(deciding, 0) if task.known else None,
        guards=tuple(entries(deciding, k) for k in range(1, 1 + len(task.guardrails))),
        front=tuple(
            (rows.played(each), rows.certificate(start, each, alpha / task.trades))
            for each in trades
        ),
        in_log=in_log,
    )

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
from mopl_jax.learning.proposal import Proposal, propose
from mopl_jax.logs import Logs, folds_of, logged_mean, rows, speaks_for
from mopl_jax.numerics.memory import give_back
from mopl_jax.numerics.pytree import entries, stacked
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture


class Asked(NamedTuple):
    """What is asked for."""

    plan: Plan
    current: Any
    names: Names
    guardrails: tuple[Guardrail, ...]
    trades: int
    known: bool  # whether `current` is what production plays, or the logging mean
    by_time: bool = False  # whether rows speak for less because they are old


def halved(
    learning: Logs, held: Logs | None, given: Asked, watch: Watch, stop: Stop
) -> LearntWeights:
    """Learn from some rows, certify on others."""
    watch(0, 2)
    found = taught(learning, len(learning.reward) if held is None else len(held.reward), given)
    watch(1, 2)
    found = dataclasses.replace(found, interrupted=stop())
    if held is not None:
        found = _certified(found, [found.proposal], _floats(held), None, given)
    watch(2, 2)
    return found


def taught(logs: Logs, size: int, given: Asked) -> LearntWeights:
    """What rows teach, to be certified on `size` others."""
    give_back()  # what reading the log took
    made = _proposed(logs, size, given)
    give_back()
    return _found(made, logs, given, interrupted=False)


def cross_fitted(logs: Logs, given: Asked, watch: Watch, stop: Stop) -> LearntWeights:
    """Each fold certifies what the others teach; all rows teach the best guess.

    After an interrupt the folds that have been certified are those whose policies are there.
    """
    names, fold = given.names, folds_of(logs, given.names.folds, given.names.seed)
    made, stages = [], names.folds + 2
    if given.current is None:  # one baseline for all folds
        given = given._replace(current=logged_mean(logs))
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
        independent=given.names.space.clipped is not None,
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

    def against(baseline, policies, alpha, held=held) -> Certificate:
        each = certify_compiled(
            policies[0] if fold is None else stacked(policies),
            held,
            jnp.asarray(baseline, held.action.dtype),
            surfaces,
            plan.valuation,
            plan.certificate,
            alpha,
            guarded,
            fold,
        )
        return jax.device_get(each)

    def played(policies) -> Gaussian | Mixture:
        if fold is None:
            return policies[0]
        return Mixture.of(np.bincount(fold, speaks_for(held)) / len(fold), policies)

    policies = [proposal.certified for proposal in made]
    start = given.current if given.current is not None else found.whitening.mean
    mean = found.whitening.mean if given.known else start
    deciding = first = against(mean, policies, plan.alpha)
    if given.known:
        deciding = against(start, policies, plan.alpha)
    in_log = None
    if given.by_time:
        alike = dataclasses.replace(held, sampling_weight=jnp.ones_like(held.sampling_weight))
        in_log = entries(against(start, policies, plan.alpha, alike), 0)
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
        in_log=in_log,
    )

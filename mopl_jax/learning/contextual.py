"""Weights that depend on the user or the request, certified against the learnt global ones.

On the rows that taught the global weights, deviations of the reward by context are shrunk by the
evidence (`deviations`), and means that differ by context are chosen by the gain over the global
means that is predicted to be certified (`personal`); the rows that certified the global policy then
certify the difference.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from mopl_jax.estimators.contrast import difference
from mopl_jax.estimators.ess import kish
from mopl_jax.learning.certification import certificate_of
from mopl_jax.learning.constraints import DRAWS, Bounds, share_moved, unconstrained
from mopl_jax.learning.contextual_weights import ContextualWeights, Segment
from mopl_jax.learning.deviations import (
    Situation,
    bends,
    expected_bends,
    fit_deviations,
)
from mopl_jax.learning.learnt_weights import LearntWeights
from mopl_jax.learning.personal import (
    TABLE,
    Model,
    Points,
    search,
)
from mopl_jax.learning.proposal import Proposal, feasible_means
from mopl_jax.learning.response_surface import BLOCK
from mopl_jax.learning.seen import Seen
from mopl_jax.learning.whitening import (
    normals,
    standard,
    unwhiten,
    unwhiten_policy,
    whiten,
    whiten_action,
)
from mopl_jax.logs import folds_of, held_out, logged_mean, num_units, speaks_for
from mopl_jax.numerics import linalg
from mopl_jax.numerics.quick_jit import quick_jit
from mopl_jax.policies.context_normal import ContextNormal
from mopl_jax.policies.contextual import Segmented
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture

POINTS = 512  # rows at which a mean that is a function of the context is judged
# What each part of the rows teaches.


class Part(NamedTuple):
    """What is taught by some rows.

    `made`: the proposal of global weights
    `model`: in whitened weights
    `scale` (d,): of the contextual policy, whitened
    `policy`: by context, of the weights as they were logged, or their logarithms
    `moved`: whether its means differ by context
    """

    made: Proposal
    model: Model
    scale: Float[Array, " d"]
    policy: Segmented | ContextNormal
    moved: bool


def check_one_split(mean: str, constraints: Any, folds: int | None) -> None:
    """ValueError where a function of the context cannot be learnt as asked."""
    if folds:
        raise ValueError(f"folds: expected one split for a {mean} mean, got folds; give a share")
    boxed = constraints is unconstrained or isinstance(constraints, Bounds)
    if not boxed or getattr(constraints, "total", None) is not None:
        raise ValueError(
            f"constraints: expected bounds of each weight for a {mean} mean, which is clipped to"
            " them, got others; let it be a table"
        )


def personalised(learnt: LearntWeights, seen: Seen, mean: str) -> ContextualWeights:
    """Weights by context beside the learnt global ones, of the same rows of which all is `seen`."""
    teach, judge, fold = _rows_of(learnt, seen)
    parts = [
        _taught(learnt, made, teach, None if fold is None else fold != k, mean)
        for k, made in enumerate(learnt.made)
    ]
    terms = zip(*(_terms_of(learnt, part, judge) for part in parts), strict=True)
    own = np.zeros(len(judge.inputs), int) if fold is None else fold
    rows = np.arange(len(own))
    log_weight, model = (jnp.asarray(np.stack(each)[own, :, rows].T) for each in terms)
    plan, logs = learnt.plan, jax.tree.map(jnp.asarray, learnt.held)
    share = np.bincount(own, speaks_for(logs)) / len(own)
    asked = logs, log_weight, model
    methods = plan.valuation, plan.certificate, plan.alpha
    same = jnp.asarray(not any(part.moved for part in parts))
    (*over, shared), ends = jax.device_get(_bounds(*asked, same, *methods))
    policy = _joined(learnt, parts, share)
    segments, others = (), 0
    if seen.table is not None and not bool(same):
        code = jnp.asarray(judge.situation.place)
        found = jax.device_get(_by_segment(*asked, code, seen.blocks, *methods))
        segments, others = tuple(_segments(learnt, policy, found)), seen.table.others
    ends = (0.0, 0.0) if bool(same) else (float(ends.lower), float(ends.upper))
    outside = _outside(learnt.plan.project, parts, judge, own)
    found = seen.columns, mean, policy, *over, ends, segments, others, outside
    found = *found, None if seen.now is None else shared
    return ContextualWeights(learnt, *found).judged  # pyright: ignore[reportCallIssue]


def _outside(project, parts, judge, own) -> float:
    """The share of draws for rows that certify, each by its `own` part, that constraints forbid."""
    if project is unconstrained:
        return 0.0
    at = np.linspace(0, len(own) - 1, min(len(own), DRAWS)).astype(int)
    means = jnp.stack([_means(part.policy, judge.at(at)) for part in parts])
    scale = jnp.stack([_scale(part.policy) for part in parts])[own[at]]
    aside = jax.vmap(linalg.scale_times)(scale, jnp.asarray(normals(*means.shape[1:])))
    unit = jnp.sqrt(jnp.min(jnp.diagonal(parts[0].made.whitening.covariance)))
    return share_moved(project, means[own[at], np.arange(len(at))] + aside, unit)


def _joined(learnt, parts, share) -> Segmented | ContextNormal:
    """What is served: in each segment the mixture of what the parts teach."""
    policies = [part.policy for part in parts]
    first = policies[0]
    if not isinstance(first, Segmented):
        return first
    each = [[*policy.segments().values(), policy.otherwise] for policy in policies]
    mixed = [x[0] if len(x) == 1 else Mixture.of(share, x) for x in zip(*each, strict=True)]
    mixed = list(map(learnt.names.space.served, mixed))
    return Segmented.of(first.columns, first.levels, mixed[:-1], mixed[-1])


def _segments(learnt, policy, found):
    """The rows of the table."""
    space = learnt.names.space.place
    *each, otherwise = [*policy.segments().values(), policy.otherwise]
    middle = _middle(otherwise, space)
    for values, own, *numbers in zip(policy.levels, each, *found, strict=True):
        share, *rest = map(float, numbers)
        yield Segment(values, share, tuple((_middle(own, space) - middle).tolist()), *rest)


def _middle(policy, space):
    """The mean, of logarithms where these were learnt."""
    if isinstance(policy, Mixture):
        weights = np.exp(np.asarray(policy.log_weight))
        return weights @ np.stack([np.asarray(space(x).mean) for x in policy.components])
    return np.asarray(space(policy).mean)


def _rows_of(learnt, seen) -> tuple[Seen, Seen, np.ndarray | None]:
    """What is seen of the rows that teach, of those that certify, and the fold of each of these."""
    names = learnt.names
    if names.folds:
        return seen, seen, folds_of(learnt.logs, names.folds, names.seed)
    held = held_out(seen.logs, names.share, names.seed)
    return seen.at(~held), seen.at(held), None


def _taught(learnt, made, seen, which, mean) -> Part:
    """What the rows that are kept teach of deviations by context, all of them if None."""
    kept: Any = np.asarray(speaks_for(learnt.logs, which), float)
    rows, surface = _whitened(learnt.logs, made)
    left = dataclasses.replace(rows, reward=_left(surface, rows.action, rows.reward))
    fitted = fit_deviations(left, seen.situation, kept, seen.blocks)
    whitening = made.whitening
    origin = whiten_action(made.certified.mean, whitening)
    model = Model(surface, fitted, origin, _whitened_scale(made))
    size = len(learnt.held.reward)
    points = _points(seen, kept, origin.dtype)
    plan = learnt.plan
    asked = whitening, float(size), plan.radius, plan.project, mean, plan.alpha
    found = jax.block_until_ready(search(model, points, *asked))
    moved = bool(found.promise > 0)
    make = _table_of if mean == TABLE else _function_of
    return Part(made, model, found.scale, make(learnt, made, model, seen, found), moved)


def _whitened(logs, made):
    """Rows in whitened weights, and the surface of them."""
    rows = whiten(jax.tree.map(jnp.asarray, logs), made.whitening)
    return rows, dataclasses.replace(made.surface, reference=standard(made.whitening.mean))


@quick_jit()
def _left(surface, action, reward):
    """What a surface leaves of rewards; compiled once for the parts of all logs of one shape."""
    return reward - surface.of_rows(action)


def _whitened_scale(made) -> Float[Array, " d"]:
    """Of the certified policy, whose scale is a share of each column of the whitening's."""
    own, of = made.certified.scale, made.whitening.scale
    return own / of if own.ndim == 1 else jnp.diagonal(own) / jnp.diagonal(of)


def _points(seen, kept, dtype) -> Points:
    """Segments; or rows that are kept and whose context is known."""
    place, local = seen.situation
    total = kept.sum()
    if seen.table is not None:
        share = np.bincount(place, kept, seen.blocks + 1)[:-1] / total
        codes = np.arange(seen.blocks)
        found = share, Situation(codes, np.ones((seen.blocks, 1))), np.zeros((seen.blocks, 0))
    else:
        known = np.flatnonzero((kept > 0) & (place == 0))
        until = np.cumsum(kept[known])
        at = known[np.searchsorted(until, np.linspace(0, until[-1] - 1, POINTS), side="right")]
        share = np.full(POINTS, until[-1] / total / POINTS)
        found = share, Situation(place[at], local[at]), seen.inputs[at]
    return jax.tree.map(_of_type(dtype), Points(*found))


def _of_type(dtype):
    def cast(x):
        return jnp.asarray(x, dtype if np.issubdtype(x.dtype, np.floating) else None)

    return cast


def _table_of(learnt, made, model, seen, found) -> Segmented:
    """Of segments, by the means of their policies; the last one is the global policy."""
    feasible = feasible_means(learnt.plan.project, made.whitening, learnt.plan.radius)
    at = jax.vmap(feasible)((model.origin - found.centre)[None] + found.parts)
    own = unwhiten_policy(Gaussian(model.origin, found.scale), made.whitening)
    policies = [dataclasses.replace(own, mean=unwhiten(mean, made.whitening)) for mean in at]
    others = dataclasses.replace(own, mean=made.certified.mean)
    if not bool(found.promise > 0):
        policies, others = [made.certified] * len(at), made.certified
    return Segmented.of(seen.columns, seen.table.values, policies, others)


def _function_of(learnt, made, model, seen, found) -> ContextNormal:
    """Of numbers and levels; clipped to bounds and to the trust region along each weight."""
    whitening, plan = made.whitening, learnt.plan
    reach = plan.radius * jnp.sqrt(jnp.diagonal(whitening.covariance))
    matrix, bias = found.parts[-1]
    turn = whitening.scale if whitening.scale.ndim == 2 else jnp.diag(whitening.scale)
    moved = float(found.promise > 0)
    own = unwhiten_policy(Gaussian(model.origin, found.scale), whitening)
    last = turn @ matrix * moved, made.certified.mean + turn @ (bias - found.centre) * moved
    return ContextNormal(
        seen.features,
        (*found.parts[:-1], last),
        plan.project(whitening.mean - reach),
        plan.project(whitening.mean + reach),
        own.scale if moved else made.certified.scale,
        made.certified.mean,
        learnt.names.logarithms,
    )


# Certificates.


def _terms_of(learnt, part, seen) -> tuple[np.ndarray, np.ndarray]:
    """Of every row that certifies, under the contextual policy, the global means with its scale and
    as they are played, and the current ones: log weights (5, n), and what the surface has of the
    action less what it expects (5, n); the last ones are the current ones as the global policy is
    played.
    """
    made = part.made
    rows, _ = _whitened(learnt.held, made)
    stated = rows.log_propensity - jnp.log(speaks_for(rows))
    rows = dataclasses.replace(rows, log_propensity=stated)
    inner = lambda mean: whiten_action(mean, made.whitening)  # noqa: E731
    means = jax.vmap(inner)(_means(part.policy, seen))
    current = jnp.asarray(_current(learnt, made, seen), means.dtype)
    current = jax.vmap(inner)(jnp.broadcast_to(current, means.shape))
    place, local = jax.tree.map(_of_type(means.dtype), seen.situation)
    return jax.device_get(
        _terms(part.model, rows, Situation(place, local), means, current, part.scale)
    )


def _means(policy, seen) -> Float[Array, "n d"]:
    """The mean of each row's policy, of the weights or their logarithms."""
    if isinstance(policy, Segmented):
        return policy.table.mean[jnp.asarray(seen.situation.place)]
    codes = np.concatenate([seen.inputs, 1.0 - seen.situation.place[:, None]], axis=1)
    plain = dataclasses.replace(policy, logarithms=False)
    return jax.vmap(lambda code: plain.given(code).mean)(jnp.asarray(codes))


def _scale(policy):
    return policy.table.scale[0] if isinstance(policy, Segmented) else policy.scale


def _current(learnt, made, seen):
    """The current weights: production, of each row where it depends on the context, or the logging
    mean.
    """
    if seen.now is not None:
        return seen.now
    if learnt.production is not None:
        return learnt.production
    if learnt.names.folds:
        return logged_mean(learnt.logs)
    return made.whitening.mean


@quick_jit()
def _terms(model, rows, situation, means, current, scale):
    def expected(policy, row):
        bent = model.deviations.of(*row, expected_bends(policy.mean, policy.scale))
        return model.surface.expectation(policy) + bent

    def of(each):
        action, log_propensity, row, mean, now = each
        found = model.surface(action) + model.deviations.of(*row, bends(action))
        pairs = (mean, scale), (model.origin, scale), (model.origin, model.scale)
        policies = [Gaussian(*x) for x in (*pairs, (now, scale), (now, model.scale))]
        log_weight = [x.log_density(action) - log_propensity for x in policies]
        return jnp.stack(log_weight), jnp.stack([found - expected(x, row) for x in policies])

    each = rows.action, rows.log_propensity, tuple(situation), means, current
    return jax.tree.map(jnp.transpose, lax.map(of, each, batch_size=BLOCK))


@quick_jit("make", "interval", "alpha")
def _bounds(logs, log_weight, model, same, make, interval, alpha):
    """Certificates over the global means with the same scale and as they are played, and over the
    current ones; that of the global policy over the current ones; and both ends of the first gain.
    """
    own, *others, last = (_estimate(logs, log_weight[k], model[k], make) for k in range(5))
    alike = same, same, jnp.zeros_like(same)
    over = [
        certificate_of(own, other, each, logs, interval, alpha)
        for other, each in zip(others, alike, strict=True)
    ]
    over += [certificate_of(others[1], last, jnp.zeros_like(same), logs, interval, alpha)]
    return over, interval(_gain(logs, own, others[0]), alpha)


def _gain(logs, own, other):
    """What one gains over another, of users where the log has them."""
    return difference(own, other, logs.cluster, num_units(logs))


def _estimate(logs, log_weight, model, make):
    """Of rows, doubly robust where it has a model."""
    left = logs.reward - model if make.of_rest else logs.reward
    return dataclasses.replace(make.estimator(log_weight, left), reward=logs.reward)


@quick_jit("size", "make", "interval", "alpha")
def _by_segment(logs, log_weight, model, code, size, make, interval, alpha):
    """Share, gain, both ends and effective size of each of so many segments."""

    def one(k):
        inside = code == k
        own, shared = (
            _estimate(logs, jnp.where(inside, log_weight[i], -jnp.inf), model[i], make)
            for i in (0, 1)
        )
        gain = _gain(logs, own, shared)
        ends = interval(gain, alpha / size)
        share = jnp.mean(jnp.where(inside, speaks_for(logs), 0))
        return share, gain.value, ends.lower, ends.upper, kish(gain.log_weight)

    return lax.map(one, jnp.arange(size))

"""Which space a log is learnt in: by the policy that was logging, or by what its rows look like."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mopl_jax.io.policy_keys import describe
from mopl_jax.learning.space import LOG_RATIOS, LOGARITHMS, WEIGHTS, Space, Weights
from mopl_jax.logs import Logs
from mopl_jax.numerics.quadratic import left_over, told_by
from mopl_jax.policies.bounded import ClippedNormal, TruncatedNormal
from mopl_jax.policies.discrete import Discrete
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.product import Product
from mopl_jax.policies.soft_clip import SoftClip
from mopl_jax.policies.support import on_simplex
from mopl_jax.policies.transformed import EXP, ON_SIMPLEX, Transformed

SHARE, FEWER = 1e-3, 0.05  # of the densities' variance, and of what the other kind leaves


def space_of(logging: Any, logs: Logs, place: str) -> Space:
    """Where to learn from rows that `logging` played; by what they look like where that is None.

    ValueError, which begins with the `place` of the log, for a policy beside which what is learnt
    has no density.
    """
    if logging is None:
        return looks_like(logs)
    made = told_by_policy(logging)
    for policy in _members(logging) if made is None else ():
        _check_density(policy, place)
    return made or WEIGHTS


def told_by_policy(logging: Any) -> Space | None:
    """The space of what a logging policy plays; None of weights as they are, and of kinds that
    have none.
    """
    if is_log_normal(logging):
        return LOGARITHMS
    policies = _members(logging)
    return LOG_RATIOS if all(map(on_simplex, policies)) else _between(policies)


def _members(logging):
    return logging.components if isinstance(logging, Mixture) else (logging,)


def is_log_normal(logging: Any) -> bool:
    """Whether a logging policy, or each of a mixture, plays exponentials of normals."""
    return all(isinstance(x, Transformed) and x.map is EXP for x in _members(logging))


def looks_like(logs: Logs) -> Space:
    """The space of rows of which only the densities are known."""
    action = np.asarray(logs.action, float)[told_by(len(logs.reward))]
    shares = (action > 0).all() and np.abs(action.sum(axis=1) - 1).max() <= ON_SIMPLEX
    if shares and action.shape[1] > 1:
        return LOG_RATIOS
    return LOGARITHMS if has_log_normal_densities(logs) else WEIGHTS


def has_log_normal_densities(logs: Logs) -> bool:
    """Whether the log densities of the rows are those of exponentials of a normal: all but for
    rounding quadratic in the weights' logarithms, and not in the weights.
    """
    action = np.asarray(logs.action, float)[told_by(len(logs.reward))]
    density = np.asarray(logs.log_propensity, float)[told_by(len(logs.reward))]
    if not (action > 0).all() or np.ptp(density) == 0:
        return False
    logarithm = np.log(action)
    log_normal = left_over(logarithm, density + logarithm.sum(axis=1))
    return log_normal < SHARE and log_normal < FEWER * left_over(action, density)


class _Bounded(NamedTuple):
    """Independent normal weights between bounds: of what `kinds`, and their numbers (d,)."""

    kinds: frozenset[type]
    mean: Weights
    scale: Weights
    low: Weights
    high: Weights


def _bounded(policy) -> _Bounded | None:
    """A policy whose weights are independent, each normal, truncated or clipped; None of others."""
    if isinstance(policy, Product):
        parts = [x for x in map(_bounded, policy.parts) if x is not None]
        if len(parts) < len(policy.parts):
            return None
        kinds, *numbers = zip(*parts, strict=True)
        return _Bounded(frozenset().union(*kinds), *map(np.concatenate, numbers))
    normal = getattr(policy, "normal", policy)
    if not isinstance(normal, Gaussian) or normal.scale.ndim == 2:
        return None
    mean, scale = np.asarray(normal.mean, float), np.asarray(normal.scale, float)
    if policy is normal:
        return _Bounded(frozenset(), mean, scale, np.full_like(mean, -np.inf), 0 * mean + np.inf)
    ends = np.asarray(policy.low, float), np.asarray(policy.high, float)
    return _Bounded(frozenset([type(policy)]), mean, scale, *ends)


def _between(policies) -> Space | None:
    """Of independent weights of which some are truncated, by all policies at the same bounds, or
    clipped by one: of several it is not known which drew beyond a bound.
    """
    found = [x for x in map(_bounded, policies) if x is not None]
    if len(found) < len(policies) or len({x.kinds for x in found}) > 1:
        return None
    kinds, mean, scale, low, high = found[0]
    if kinds == {ClippedNormal} and len(found) == 1:
        ends = Gaussian.diagonal(mean, scale), jnp.asarray(low), jnp.asarray(high)
        where = "between the bounds of the log's policy"
        return Space(
            "unclipped", "{} unclipped", "clipped normal", where, None, ClippedNormal(*ends)
        )
    same = all(np.array_equal(x[3:], found[0][3:]) for x in found)
    if kinds != {TruncatedNormal} or not same:
        return None
    softness = np.min([x.scale for x in found], axis=0)
    made = SoftClip(*(tuple(x.tolist()) for x in (low, high, softness)))
    where = "inside of the bounds of the log's policy"
    return Space("soft bounds", "{} unbounded", "soft-clipped normal", where, made)


def _check_density(policy, place):
    """ValueError for a policy that plays shares or atoms, in some coordinates."""
    parts = policy.parts if isinstance(policy, Product) else (policy,)
    for part in parts:
        if on_simplex(part) or isinstance(part, ClippedNormal | Discrete):
            raise ValueError(
                f"{place}: expected a log of normal, log-normal, truncated or clipped weights, of"
                f" shares, or of a few arms, got one of a policy of kind {describe(policy)['kind']}"
                f" with {describe(part)['kind']} parts, beside which what is learnt has no density;"
                " write candidates of that kind, and compare them (mopl compare), or learn the"
                " other weights from the rows of one arm, a log of their own"
            )

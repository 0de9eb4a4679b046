"""Certificates: bounds for a learnt policy on rows that it was not learnt from.

The bound that learning maximised is optimistic for the policy it selected (the winner's curse).
On disjoint rows the policy is a fixed one, and the interval means what it says. Rows of one user
are all on one side (`logs.split`), and users, not rows, are the independent units of a log that
has them.

A certificate is for the Gaussian policy, and compares it with a *smoothed* baseline: the logging
mean or production weights, played with the same scale, so that the difference is that of the means.
"""

import dataclasses
import math
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Int

from mopl_jax.diagnostics.appearance import Appearance, findings_of
from mopl_jax.diagnostics.verdicts import REFUSE, VERDICTS, reasons, verdict_of
from mopl_jax.diagnostics.weight_diagnostics import UNBOUNDED, Diagnosis, diagnose
from mopl_jax.estimators import ess
from mopl_jax.estimators.cluster import clustered
from mopl_jax.estimators.contrast import difference
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.intervals.ess_corrected import ess_skew
from mopl_jax.intervals.interval import IntervalFunction, lower
from mopl_jax.intervals.reward_range import Range, between, gains
from mopl_jax.learning.guardrails import Guarded, room
from mopl_jax.learning.objective import (
    Valuation,
    ValueEstimator,
    cross_fitted,
    importance_weighted,
)
from mopl_jax.learning.response_surface import Surface
from mopl_jax.logs import Logs, check, num_units
from mopl_jax.numerics.check import check_alpha
from mopl_jax.numerics.pytree import entries, pytree_dataclass
from mopl_jax.numerics.quick_jit import quick_jit
from mopl_jax.numerics.shapes import Count, Scalar, Truth, Vector
from mopl_jax.policies.contextual import is_contextual, no_weights
from mopl_jax.policies.gaussian import Gaussian


@pytree_dataclass()
class Certificate:
    """One-sided bounds on rows that were not learnt from; each holds at the level by itself.

    `bound`, `value`: of the policy
    `ess`: of its weights, in rows or in users
    `gain`: the value less that of the baseline
    `gain_bound`: the lower bound of the gain
    `keep`: whether that is not positive, or the log is refused: keep the current weights
    `diagnosis`: of the policy's importance weights on these rows, as `evaluate` judges them
    `units`: rows, or users
    `room`: what the outcome of a guardrail may lose; 0 of the reward
    `raised`: by how much the bound of the gain was cut to what is possible
    """

    bound: Scalar
    value: Scalar
    ess: Scalar
    gain: Scalar
    gain_bound: Scalar
    keep: Truth
    diagnosis: Diagnosis
    units: Count
    room: Scalar | float = 0.0
    raised: Scalar | float = 0.0

    @property
    def short(self) -> float:
        """How far the bound of the gain lies below its estimate, before it is cut to what is
        possible.
        """
        return float(self.gain - self.gain_bound + self.raised)

    @property
    def verdict(self) -> str:
        """Trust, caution or refuse: whether these rows can answer for the policy."""
        return VERDICTS[int(self.diagnosis.verdict)]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not trust."""
        return tuple(reasons(self.diagnosis, int(self.units)))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, by the names that the artifact of `mopl learn` has for them."""
        return {
            "value": float(self.value),
            "certified_lower_bound": float(self.bound),
            "ess": float(self.ess),
            "certified_gain": float(self.gain_bound),
            "gain": float(self.gain),
            "keep": bool(self.keep),
            "verdict": self.verdict,
            "reasons": list(self.reasons),
        }

    def __repr__(self) -> str:
        if isinstance(self.value, Tracer):
            return "Certificate(traced)"
        names = ("value", "bound", "ess", "gain", "gain_bound")
        numbers = ", ".join(f"{name}={float(getattr(self, name)):.4g}" for name in names)
        return f"Certificate({numbers}, keep={bool(self.keep)})"


def certify(
    learnt: Any,
    logs: Logs,
    baseline: Any = None,
    *,
    value_estimator: ValueEstimator | None = None,
    interval: IntervalFunction | None = None,
    alpha: float | None = None,
) -> Certificate:
    """The certificate of what was `learnt`, on `logs` that it was not learnt from, by user where
    they have users.

    `learnt` is a Gaussian policy, or the record of `pipeline.learn`, whose reward model, interval,
    level and logging mean then serve unless others are given. `baseline`: weights (d,), or a policy
    whose mean is taken; it is played with the scale of the learnt policy. `value_estimator` may
    hold a surface fitted on the learning rows, never on these. `alpha` is 0.05 by default.
    Of learnt weights that save a cost, value and bound are those of its negative.
    `verdict` and `reasons` are those of `evaluate`; where they refuse there is no bound, and
    current weights are kept.
    ValueError for a log of arms, clipped weights or a simplex, which no normal policy can be
    weighed against.

    The default interval allows for skewness: few effective rows with what a wrong surface leaves of
    the rewards are skewed, and there `ess_exact` covers as little as 0.87 of the lower bounds that
    `ess_skew` holds at 0.95 or more (retention bit, d = 5, ESS 30; no remedy is complete: 0.92
    for a saturating metric at ESS 29, where `ess_exact` covers 0.81).
    """
    if not isinstance(logs.reward, Tracer):
        check(logs)
    if not isinstance(learnt, Gaussian) and learnt.names.minimise:
        logs = dataclasses.replace(logs, reward=0.0 - logs.reward)
    if not isinstance(learnt, Gaussian):
        logs = learnt.names.space.rows(logs)
        baseline = None if baseline is None else learnt.names.space.place(baseline)
    if not isinstance(logs.reward, Tracer):
        _check_density(logs)
    made = certified(learnt, logs, baseline, value_estimator, interval, alpha)
    reward_range = UNBOUNDED if isinstance(learnt, Gaussian) else learnt.reward_range
    return withdrawn(possible(made, reward_range))


def possible(made: Certificate, reward_range: Range) -> Certificate:
    """With bounds cut to what rewards in a range leave possible: of values to its ends, of gains to
    its width; and judged as of rewards that cannot be larger. Of certificates of several outcomes,
    (1 + g,), that of the reward, the first, is cut alone, and the verdict is as it was.
    """
    rewarded = jnp.arange(jnp.size(made.bound)).reshape(jnp.shape(made.bound)) == 0

    def least(bound, limits):
        inside = between(bound, jnp.full_like(bound, jnp.inf), limits).lower
        return jnp.where(rewarded, inside.astype(bound.dtype), bound)

    bound, gain_bound = (jnp.asarray(x) for x in (made.bound, made.gain_bound))
    gain = least(gain_bound, gains(reward_range))
    raised = jnp.where(gain == gain_bound, made.raised, gain - gain_bound)
    value = least(bound, reward_range)
    made = dataclasses.replace(made, bound=value, gain_bound=gain, raised=raised)
    if rewarded.ndim or not any(map(math.isfinite, reward_range)):
        return made
    varies = jnp.asarray(made.diagnosis.num_not_modal != 0)  # a range bounds no gain of equal ones
    known = dataclasses.replace(made.diagnosis, bounded=varies)
    known = dataclasses.replace(known, verdict=verdict_of(known, cast(int, made.units)))
    keep = ~(gain > 0) | (known.verdict == REFUSE)
    return dataclasses.replace(made, diagnosis=known, keep=keep)


def withdrawn(made: Certificate, refused: Truth | bool = False) -> Certificate:
    """Without bounds where rows cannot answer for the policy, or the log is `refused`: what is
    refused promises nothing.
    """
    gone = (made.diagnosis.verdict == REFUSE) | refused
    bound, gain_bound = (jnp.where(gone, -jnp.inf, x) for x in (made.bound, made.gain_bound))
    return dataclasses.replace(
        made, bound=bound, gain_bound=gain_bound, keep=jnp.where(gone, True, made.keep)
    )


def _check_density(logs: Logs) -> None:
    """ValueError for actions that no policy with a density plays."""
    seen = Appearance.of(logs.reward, logs.action)
    for finding in findings_of(seen, clustered=logs.cluster is not None, continuous=True):
        if finding.level == VERDICTS[REFUSE]:
            raise ValueError(f"{finding.check}: {finding.found}")


def certified(
    learnt: Any,
    logs: Logs,
    baseline: Any = None,
    value_estimator: ValueEstimator | None = None,
    interval: IntervalFunction | None = None,
    alpha: float | None = None,
) -> Certificate:
    """`certify` on rows of a log that has been looked at as a whole."""
    if alpha is not None:
        check_alpha(alpha)
    policy = learnt if isinstance(learnt, Gaussian) else learnt.policy
    if not isinstance(policy, Gaussian):
        raise ValueError(
            "expected a normal policy, got a mixture, which its own folds have certified; evaluate"
            " it on other rows"
        )
    if policy.dim != logs.action.shape[1]:
        raise ValueError(
            f"expected a policy of {logs.action.shape[1]} weights, as many as the log has, got"
            f" {policy.dim}"
        )
    if isinstance(learnt, Gaussian):
        if baseline is None:
            raise ValueError(
                "expected a baseline to compare the policy with, got none; give weights"
            )
        mean = _weights(baseline, learnt)
        level = 0.05 if alpha is None else alpha
        return _certificate(learnt, logs, mean, value_estimator, interval or ess_skew, level)
    if learnt.logs is not None and learnt.logs.cluster is not None and logs.cluster is None:
        raise ValueError(
            "expected users: the log that was learnt from has them and this one does not; give it"
            " its cluster, so that the bound is of users"
        )
    plan = learnt.plan
    mean = _weights(learnt.whitening.mean if baseline is None else baseline, policy)
    options = interval or plan.certificate, plan.alpha if alpha is None else alpha
    if value_estimator is not None:
        return _certificate(policy, logs, mean, value_estimator, *options)
    own = entries(learnt.proposal.surfaces, slice(1))
    return entries(certify_compiled(policy, logs, mean, own, plan.valuation, *options), 0)


def weights_of(given: Any) -> ArrayLike:
    """The weights of a policy, its mean or its one action; numbers (d,) are themselves."""
    if not hasattr(given, "log_density"):
        return given
    if is_contextual(given):
        raise no_weights(given)
    return given.mean if hasattr(given, "mean") else given.action


def _weights(baseline: Any, policy: Gaussian) -> Vector:
    """The weights of a baseline, (d,)."""
    mean = jnp.asarray(weights_of(baseline), policy.mean.dtype)
    if mean.shape != policy.mean.shape:
        raise ValueError(
            f"expected a baseline of {policy.mean.shape[0]} weights, as many as the policy has, got"
            f" shape {mean.shape}"
        )
    if not isinstance(mean, Tracer) and not bool(jnp.all(jnp.isfinite(mean))):
        raise ValueError(f"expected a baseline of finite weights, got {mean.tolist()}")
    return mean


def _certificate(
    policy, logs, baseline, value_estimator, interval, alpha, allowed=0.0, relative=0.0
) -> Certificate:
    """Policy and baseline are estimated, and both bounds found, by code that is compiled once.

    The bound is of what is gained beside what may be lost, whose error counts where it is a share
    of what the baseline earns.
    """
    value = (value_estimator or importance_weighted())(logs)
    means = jnp.stack([policy.mean, jnp.broadcast_to(baseline, policy.mean.shape)])
    both = lax.map(lambda mean: value(Gaussian(mean, policy.scale)), means)
    made, reference = (jax.tree.map(lambda x, i=i: x[i], both) for i in (0, 1))
    same = jnp.all(means[0] == means[1])
    return certificate_of(made, reference, same, logs, interval, alpha, allowed, relative)


def certificate_of(
    made: Estimate,
    reference: Estimate,
    same: Truth,
    logs: Logs,
    interval: IntervalFunction,
    alpha: float,
    allowed: Scalar | float = 0.0,
    relative: Scalar | float = 0.0,
) -> Certificate:
    """The certificate of a policy by its estimate and that of a baseline on the rows of `logs`, of
    which it may be known that they are the `same`; by users where the log has them.
    """
    bound, units = lower(interval), num_units(logs)
    gain = difference(made, reference, logs.cluster, units)
    if logs.cluster is not None:
        made, reference = (clustered(x, logs.cluster, units) for x in (made, reference))
    spare = room(allowed, relative, reference.value)
    moved = allowed * relative * jnp.sign(reference.value) * reference.influence
    contrast = dataclasses.replace(gain, value=gain.value + spare, influence=gain.influence + moved)
    judged = jax.tree.map(lambda *x: jnp.stack(x), made, contrast)
    bounds = lax.map(lambda estimate: bound(estimate, alpha).lower, judged)
    gain_bound = jnp.where(same, 0, bounds[1] - spare)
    diagnosis = diagnose(made)
    return Certificate(
        bound=bounds[0],
        value=made.value,
        ess=ess.kish(made.log_weight),
        gain=gain.value,
        gain_bound=gain_bound,
        keep=~(gain_bound > 0) | (diagnosis.verdict == REFUSE),
        diagnosis=diagnosis,
        units=jnp.asarray(units),
        room=spare,
    )


@quick_jit("valuation", "interval", "alpha")
def certify_compiled(
    policy: Gaussian,
    logs: Logs,
    baseline: Vector,
    surfaces: Surface,
    valuation: Valuation,
    interval: IntervalFunction,
    alpha: float,
    guarded: Guarded | None = None,
    fold: Int[Array, " n"] | None = None,
) -> Certificate:
    """Certificates of the reward and of each guarded outcome, (1 + g,), which hold at once; each
    with its own of the `surfaces` (1 + g,). Compiled once a shape.

    With `fold` the policy is the mixture of K, stacked, each on its own fold; surfaces (1 + g, K).
    """
    outcomes, of = logs.reward[None], jnp.zeros((2, 1), logs.reward.dtype)
    if guarded is not None:
        outcomes = jnp.concatenate([outcomes, guarded.outcome])
        limits = jnp.stack([guarded.allowed, guarded.relative]).astype(of.dtype)
        of = jnp.concatenate([of, limits], axis=1)

    def certificate(each):
        reward, surface, *limit = each
        make = valuation(surface)
        if fold is not None:
            make = cross_fitted(valuation, surface, fold)
        rows = dataclasses.replace(logs, reward=reward)
        return _certificate(policy, rows, baseline, make, interval, alpha / len(outcomes), *limit)

    return lax.map(certificate, (outcomes, surfaces, *of))

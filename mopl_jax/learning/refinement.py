"""From a log to a policy: the analyst's answer first, a finer one only where rows that did not
propose it confirm it.

Importance weighting sees any reward, at a price that rises with every weight and with fineness,
d₂ = (h²(2−h²))^(−d/2) for a target of h times the logging scale; a quadratic response surface is
cheap and wrong elsewhere. So: the cautious maximum of the surface is the incumbent. For scales
from coarse to fine, each half of the rows proposes the policy that maximises its doubly robust
lower bound, and the other half judges it against the one ahead. The two judgements are added
(Lepski's principle, with the comparison held out: a maximum over many places is no winner on
rows that did not choose it).

Two rules say who takes over. While the surface is credible, a proposal must be significantly
better, and a finer scale is tried only after a coarser one was. Where rewards are shown not to
be quadratic towards the incumbent (`lack_of_fit`), the surface promises nothing where no rows
are, and the proposal with the higher held-out lower bound leads. The accepted scale is fitted
again on all rows.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float

from mopl_jax import intervals
from mopl_jax.estimators.contrast import difference
from mopl_jax.intervals.interval import IntervalFunction
from mopl_jax.learning.constraints import Projection, ball, intersection, unconstrained
from mopl_jax.learning.objective import ValueEstimator, doubly_robust
from mopl_jax.learning.optimise import FLOOR, STEPS, Learnt, fit, fit_many
from mopl_jax.learning.response_surface import (
    Surface,
    cautious,
    fit_surface,
    highest,
    lack_of_fit,
    moments_of,
)
from mopl_jax.logs import Logs
from mopl_jax.numerics import linalg
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.policies.gaussian import Gaussian

SCALES = (
    0.85,
    0.7,
    0.55,
    0.4,
)  # of the logging scale: d₂ of a centred target is 1.04, 1.16, 1.39, 1.84 a weight
# of the mean about the logging mean, in logging standard deviations: KL ≤ 2 at the logging scale
RADIUS = 2.0
SEARCH = 2**17  # rows that choose the scale: the last fit, from where they led, sees all
CREDIBLE = 0.05  # least p-value of a credible surface
# at which a finer scale must be better on held-out rows: 0.05 keeps a wrong surface too long, 0.2
# leaves a right one
LEVEL = 0.1


@pytree_dataclass()
class Refined:
    """What was learnt, the `surface` it started from and its cautious maximum, `incumbent` (d,),
    and how scales fared.

    `accepted` (m,) and `score` (m,): the held-out gain of each scale over the one ahead, in
    standard errors. `surface_p`: the p-value of rewards being quadratic towards the incumbent;
    NaN where the incumbent is the logging mean.
    """

    learnt: Learnt
    surface: Surface
    incumbent: Float[Array, " d"]
    surface_p: Float[Array, ""]
    accepted: Bool[Array, " m"]
    score: Float[Array, " m"]


class Plan(NamedTuple):
    """How to learn; every field has its default in `learn`."""

    interval: IntervalFunction = intervals.ess_exact
    alpha: float = 0.05
    value_estimator: Callable[[Surface], ValueEstimator] = doubly_robust
    project: Projection = unconstrained
    radius: float = RADIUS
    floor: float = FLOOR
    steps: int = STEPS
    optimiser: optax.GradientTransformation | None = None
    starts: int = 0  # random ones, beside the incumbent and the centre
    certificate: IntervalFunction = intervals.ess_skew  # for the rows that were not learnt from
    seed: int = 0  # of the random starts


def check_plan(plan: Plan, scales: Sequence[float]) -> None:
    """ValueError, before anything is compiled, for numbers that leave nothing to search."""
    for name, got, fine, expected, remedy in (
        ("steps", plan.steps, plan.steps >= 1, "at least 1", "30 are enough for most logs"),
        (
            "starts",
            plan.starts,
            plan.starts >= 0,
            "0 or more",
            "0 searches from the surface's maximum and the centre",
        ),
        (
            "radius",
            plan.radius,
            0 < plan.radius < math.inf,
            "a finite number > 0",
            "2 logged standard deviations is the default",
        ),
        (
            "floor",
            plan.floor,
            0 <= plan.floor < 1,
            "0 ≤ floor < 1",
            "0.002 asks for an effective row in 500",
        ),
        ("seed", plan.seed, plan.seed >= 0, "0 or more", "0 is the default"),
        *(
            (
                "scale",
                s,
                0 < s < math.inf,
                "finite numbers > 0",
                "0.85,0.7 play narrower than the log",
            )
            for s in scales
        ),
        (
            "scale",
            "none",
            len(scales) > 0,
            "one number at least",
            "0.85 plays a little narrower than the log",
        ),
    ):
        if not fine:
            raise ValueError(f"{name}: expected {expected}, got {got}; {remedy}")


@pytree_dataclass()
class State:
    """Between two scales: rows and surfaces, whole and by half, the means that are ahead, and the
    scale they have.
    """

    whitening: Gaussian
    logs: Logs
    surface: Surface
    incumbent: Float[Array, " d"]
    halves: Logs
    surfaces: Surface
    starts: Float[Array, "2 d"]
    ahead: Float[Array, "2 d"]
    mean: Float[Array, " d"]
    scale: Float[Array, ""]
    refined: Bool[Array, ""]
    surface_p: Float[Array, ""]


def learn(logs: Logs, *, scales: tuple[float, ...] = SCALES, **plan) -> Refined:
    """A Gaussian policy of high guaranteed value, its scale one of `scales` (coarse to fine)
    times that of the log.

    Its mean is feasible for `project` and within `radius` of the logging mean, in standard
    deviations of the logged actions: a KL of radius²/2 at the logging scale. Rows are taken to
    be in random order: halves are the even and the odd of the first `SEARCH`; surface and last
    fit see all. Other options are those of `fit`, in `Plan`. `jit`, and `vmap` over logs.
    """
    options = Plan(**plan)
    check_plan(options, scales)
    factor = jnp.asarray(scales, jnp.asarray(logs.reward).dtype)
    state, (accepted, score) = lax.scan(
        functools.partial(refine, options), begin(logs, factor[0], options), factor
    )
    learnt, incumbent = finish(state, options), unwhiten(state.incumbent, state.whitening)
    return Refined(learnt, surface_of(state), incumbent, state.surface_p, accepted, score)


def begin(logs: Logs, scale: Float[Array, ""], plan: Plan) -> State:
    """The analyst's answer: whitened rows, a response surface of them and of each half, their
    cautious maxima.
    """
    whitening = moments_of(logs.action)
    inner = whiten(logs, whitening)
    even = 2 * (min(logs.reward.shape[0], SEARCH) // 2)
    halves = jax.tree.map(lambda x: jnp.stack([x[0:even:2], x[1:even:2]]), inner)
    surface, incumbent = _incumbent(inner, whitening, plan)
    surfaces, starts = lax.map(lambda half: _incumbent(half, whitening, plan), halves)
    misfit = lax.map(
        lambda task: lack_of_fit(*task), (surfaces, halves.action, halves.reward, starts[::-1])
    )
    half = jnp.sum(misfit) / 2
    surface_p = jnp.exp(-half) * (1 + half)  # χ² with four degrees of freedom
    no = jnp.asarray(False)
    return State(
        whitening,
        inner,
        surface,
        incumbent,
        halves,
        surfaces,
        starts,
        starts,
        incumbent,
        scale,
        no,
        surface_p,
    )


def refine(plan: Plan, state: State, scale: Float[Array, ""]) -> tuple[State, tuple[Array, Array]]:
    """Try one scale: the state after it, whether it was accepted, and its score."""
    scale_of = jnp.stack([scale, scale])
    tasks = (state.halves, state.surfaces, state.starts, scale_of)
    proposed = lax.map(functools.partial(_propose, plan, state.whitening), tasks)
    swapped = jax.tree.map(lambda x: x[::-1], state.halves)
    tasks = (swapped, state.surfaces, proposed, state.ahead, scale_of)
    gain, variance, safer = jax.tree.map(jnp.sum, lax.map(functools.partial(_gain, plan), tasks))
    score = gain / jnp.sqrt(jnp.maximum(variance, jnp.finfo(gain.dtype).tiny))
    due = state.refined | (scale >= state.scale)
    shown = due & (score > NormalDist().inv_cdf(1 - LEVEL))
    better = jnp.where(state.surface_p < CREDIBLE, safer > 0, shown)
    state = dataclasses.replace(
        state,
        ahead=jnp.where(better, proposed, state.ahead),
        mean=jnp.where(better, jnp.mean(proposed, axis=0), state.mean),
        scale=jnp.where(better, scale, state.scale),
        refined=state.refined | better,
    )
    return state, (better, score)


def finish(state: State, plan: Plan) -> Learnt:
    """Fit the accepted scale again on all rows, from where the halves met; the incumbent where none
    was accepted.
    """
    start = Gaussian(state.mean, jnp.broadcast_to(state.scale, state.mean.shape))
    found = fit(
        state.logs,
        start,
        value_estimator=plan.value_estimator(state.surface),
        limit=jnp.where(state.refined, plan.steps, 1),
        **_options(plan, state.whitening),
    )
    inner = found.policy
    scale = rescaled(state.whitening, inner.scale)
    return dataclasses.replace(found, policy=Gaussian(unwhiten(inner.mean, state.whitening), scale))


def surface_of(state: State) -> Surface:
    """The surface, for actions as they were logged."""
    return dataclasses.replace(state.surface, reference=state.whitening)


def rescaled(whitening: Gaussian, scale: Float[Array, " d"]) -> Float[Array, "d *d"]:
    """The scale of a policy that is `scale` (d,) wide in the whitened space of `whitening`, in the
    whitening's own form.
    """
    return (
        whitening.scale * scale[None, :] if whitening.scale.ndim == 2 else whitening.scale * scale
    )


def whiten(logs: Logs, whitening: Gaussian) -> Logs:
    """Actions as z = L⁻¹(a − mean) of the `whitening`, with their log propensities per unit of
    z.
    """
    action = jax.vmap(lambda a: linalg.scale_solve(whitening.scale, a - whitening.mean))(
        jnp.asarray(logs.action)
    )
    log_propensity = logs.log_propensity + linalg.log_determinant(whitening.scale)
    return Logs(action, log_propensity, jnp.asarray(logs.reward))


def unwhiten(z: Float[Array, " d"], whitening: Gaussian) -> Float[Array, " d"]:
    """The action (d,) of z."""
    return whitening.mean + linalg.scale_times(whitening.scale, z)


def _standard(whitening):
    """In whitened actions everything is a diagonal Gaussian, and the whitening is the standard
    one.
    """
    return Gaussian(jnp.zeros_like(whitening.mean), jnp.ones_like(whitening.mean))


def _feasible(plan, whitening):
    region = ball(_standard(whitening), plan.radius)
    if plan.project is unconstrained:
        return region
    inner = lambda z: linalg.scale_solve(  # noqa: E731
        whitening.scale, plan.project(unwhiten(z, whitening)) - whitening.mean
    )
    return intersection(region, inner)


def _options(plan, whitening):
    return {
        "interval": plan.interval,
        "alpha": plan.alpha,
        "project": _feasible(plan, whitening),
        "floor": plan.floor,
        "steps": plan.steps,
        "optimiser": plan.optimiser,
    }


def _incumbent(logs, whitening, plan):
    standard = _standard(whitening)
    surface = fit_surface(logs.action, logs.reward, standard)
    starts = jnp.stack([highest(surface, plan.radius), jnp.zeros_like(standard.mean)])
    return surface, cautious(surface, starts, _feasible(plan, whitening))


def starts_of(plan: Plan, incumbent: Float[Array, " d"]) -> Float[Array, "s d"]:
    """Where searches start in the whitened space: the incumbent, the centre of the log, random
    ones by `plan.seed`.

    The random ones are the same for both halves, so that the halves can meet.
    """
    random = jax.random.normal(
        jax.random.key(plan.seed), (plan.starts, incumbent.shape[0]), incumbent.dtype
    )
    return jnp.concatenate([jnp.stack([incumbent, jnp.zeros_like(incumbent)]), random])


def _propose(plan, whitening, task):
    """The mean (d,) that maximises the bound on one half."""
    half, surface, start, scale = task
    spread = jnp.broadcast_to(scale, start.shape)
    found = fit_many(
        half,
        starts_of(plan, start),
        spread,
        value_estimator=plan.value_estimator(surface),
        **_options(plan, whitening),
    )
    return found.policy.mean


def _gain(plan, task):
    """On the rows that did not propose a mean: its gain over the one ahead, the variance of that,
    the gain in lower bound.
    """
    logs, surface, mean, ahead, scale = task
    value = plan.value_estimator(surface)(logs)
    spread = jnp.broadcast_to(scale, mean.shape)
    new, old = value(Gaussian(mean, spread)), value(Gaussian(ahead, spread))
    contrast = difference(new, old)
    lower = intervals.lower(plan.interval)
    safer = lower(new, plan.alpha).lower - lower(old, plan.alpha).lower
    return (
        contrast.value,
        jnp.sum(jnp.square(contrast.influence / contrast.influence.shape[0])),
        safer,
    )

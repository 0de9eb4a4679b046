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
from statistics import NormalDist
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float

from mopl_jax.estimators.contrast import difference
from mopl_jax.intervals.interval import lower
from mopl_jax.learning.constraints import ball, intersection, unconstrained
from mopl_jax.learning.objective import estimates
from mopl_jax.learning.optimise import Learnt, fit, fit_many
from mopl_jax.learning.plan import Plan, check_plan
from mopl_jax.learning.response_surface import (
    CREDIBLE,
    Surface,
    cautious,
    fit_surface,
    highest,
    lack_of_fit,
    moments_of,
)
from mopl_jax.logs import Logs, halves
from mopl_jax.numerics import linalg
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import PerBlockRow, Scalar, Truth, Vector
from mopl_jax.policies.gaussian import Gaussian

SCALES = (
    0.85,
    0.7,
    0.55,
    0.4,
)  # of the logging scale: d₂ of a centred target is 1.04, 1.16, 1.39, 1.84 a weight
SEARCH = 2**17  # rows that choose the scale: the last fit, from where they led, sees all
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
    incumbent: Vector
    surface_p: Scalar
    accepted: Bool[Array, " m"]
    score: PerBlockRow


class Prepared(NamedTuple):
    """The analyst's answer, before any scale is tried; actions are whitened.

    `whitening`: mean and covariance of the logged actions
    `logs`, `surface`, `incumbent` (d,): all rows, their response surface and its cautious maximum
    `halves`, `surfaces`, `starts`: the same of each half
    `surface_p`: the p-value of rewards being quadratic towards the incumbent
    """

    whitening: Gaussian
    logs: Logs
    surface: Surface
    incumbent: Vector
    halves: tuple[Logs, Logs]
    surfaces: tuple[Surface, Surface]
    starts: tuple[Vector, Vector]
    surface_p: Scalar


class Ahead(NamedTuple):
    """The proposal that is ahead, between two scales.

    `means`: what each half proposed
    `mean` (d,): the mean of both, and of all rows before a scale is accepted
    `scale`: as a share of the logged one
    `refined`: whether any scale was accepted
    """

    means: tuple[Vector, Vector]
    mean: Vector
    scale: Scalar
    refined: Truth


def learn(logs: Logs, *, scales: tuple[float, ...] = SCALES, **plan) -> Refined:
    """A Gaussian policy of high guaranteed value, its scale one of `scales` (coarse to fine)
    times that of the log.

    Its mean is feasible for `project` and within `radius` of the logging mean, in standard
    deviations of the logged actions: a KL of radius²/2 at the logging scale. Rows (or users) are
    taken to be in random order: halves are the even and the odd ones of the first `SEARCH` rows;
    surface and last fit see all. Other options are those of `fit`, in `Plan`. Logs without
    users may be traced, by `jit` and `vmap`; users are halved before anything is compiled.
    """
    options = Plan(**plan)
    check_plan(options, scales)
    factor = jnp.asarray(scales, jnp.asarray(logs.reward).dtype)
    prepared = begin(logs, options)
    ahead, (accepted, score) = lax.scan(
        functools.partial(refine, options, prepared), unrefined(prepared, factor[0]), factor
    )
    learnt = finish(prepared, ahead, options, jnp.where(ahead.refined, options.steps, 1))
    incumbent = unwhiten(prepared.incumbent, prepared.whitening)
    surface = surface_of(prepared)
    return Refined(learnt, surface, incumbent, prepared.surface_p, accepted, score)


def begin(logs: Logs, plan: Plan) -> Prepared:
    """The analyst's answer: whitened rows, a response surface of them and of each half, their
    cautious maxima.
    """
    whitening, whole = _whitened(logs)
    parts = halves(whole, SEARCH)
    surface, *surfaces = (_surface(part) for part in (whole, *parts))
    incumbent, *starts = (_highest(each, whitening, plan) for each in (surface, *surfaces))
    misfits = [_misfit(*task) for task in zip(surfaces, parts, starts[::-1], strict=True)]
    return Prepared(
        whitening,
        whole,
        surface,
        incumbent,
        parts,
        tuple(surfaces),
        tuple(starts),
        _p_value(*misfits),
    )


def unrefined(prepared: Prepared, scale: Scalar) -> Ahead:
    """The incumbents, with the first `scale`."""
    return Ahead(prepared.starts, prepared.incumbent, scale, jnp.asarray(False))


def refine(
    plan: Plan, prepared: Prepared, ahead: Ahead, scale: Scalar
) -> tuple[Ahead, tuple[Array, Array]]:
    """Try one scale: what is ahead after it, whether it was accepted, and its score."""
    tasks = zip(prepared.halves, prepared.surfaces, prepared.starts, strict=True)
    proposed = [_propose(plan, prepared.whitening, *task, scale) for task in tasks]
    others = zip(prepared.halves[::-1], prepared.surfaces, proposed, ahead.means, strict=True)
    gains = [_gain(plan, *task, scale) for task in others]
    return _decide(prepared.surface_p, ahead, tuple(proposed), gains, scale)


@jax.jit
def _decide(surface_p, ahead, proposed, gains, scale):
    """Whether the proposals take over, by the rule that the surface's credibility asks for."""
    gain, variance, safer = (x + y for x, y in zip(*gains, strict=True))
    score = gain / jnp.sqrt(jnp.maximum(variance, jnp.finfo(gain.dtype).tiny))
    due = ahead.refined | (scale >= ahead.scale)
    shown = due & (score > NormalDist().inv_cdf(1 - LEVEL))
    better = jnp.where(surface_p < CREDIBLE, safer > 0, shown)
    new = Ahead(proposed, 0.5 * (proposed[0] + proposed[1]), scale, better)
    taken = jax.tree.map(lambda x, y: jnp.where(better, x, y), new, ahead)
    return taken._replace(refined=ahead.refined | better), (better, score)


def finish(prepared: Prepared, ahead: Ahead, plan: Plan, limit: ArrayLike) -> Learnt:
    """Fit what is ahead again on all rows, from where the halves met, by at most `limit` steps.

    A limit of 1, which only judges, is for an incumbent that no scale replaced.
    """
    fitted = _refitted if isinstance(limit, int) else _refit
    return fitted(prepared.logs, prepared.surface, prepared.whitening, ahead, plan, limit)


def _refit(logs, surface, whitening, ahead, plan, limit):
    found = fit(
        logs,
        Gaussian(ahead.mean, jnp.broadcast_to(ahead.scale, ahead.mean.shape)),
        value_estimator=plan.value_estimator(surface),
        limit=limit,
        **_options(plan, whitening),
    )
    return dataclasses.replace(found, policy=unwhiten_policy(found.policy, whitening))


_refitted = jax.jit(_refit, static_argnames=("plan", "limit"))


@jax.jit
def ahead_policy(ahead: Ahead, whitening: Gaussian) -> Gaussian:
    """The policy that is ahead, of actions as they were logged."""
    whitened = Gaussian(ahead.mean, jnp.broadcast_to(ahead.scale, ahead.mean.shape))
    return unwhiten_policy(whitened, whitening)


def surface_of(prepared: Prepared) -> Surface:
    """The surface, for actions as they were logged."""
    return dataclasses.replace(prepared.surface, reference=prepared.whitening)


@jax.jit
def unwhiten_policy(policy: Gaussian, whitening: Gaussian) -> Gaussian:
    """The `policy` of whitened actions, scale (d,), as a policy of actions as they were logged.

    Its new scale has the form of the whitening's: standard deviations, or a Cholesky factor.
    """
    scale = whitening.scale * (policy.scale[None] if whitening.scale.ndim == 2 else policy.scale)
    return Gaussian(unwhiten(policy.mean, whitening), scale)


@jax.jit
def _whitened(logs):
    """The moments of the logged actions, and the rows whitened by them."""
    whitening = moments_of(logs.action)
    return whitening, whiten(logs, whitening)


def whiten(logs: Logs, whitening: Gaussian) -> Logs:
    """Actions as z = L⁻¹(a − mean) of the `whitening`, with their log propensities per unit of z.

    Users stay; context and time are dropped.
    """
    action = jax.vmap(lambda a: linalg.scale_solve(whitening.scale, a - whitening.mean))(
        jnp.asarray(logs.action)
    )
    return dataclasses.replace(
        logs,
        action=action,
        log_propensity=logs.log_propensity + linalg.log_determinant(whitening.scale),
        reward=jnp.asarray(logs.reward),
        context=None,
        time=None,
    )


@jax.jit
def unwhiten(z: Vector, whitening: Gaussian) -> Vector:
    """The action (d,) of z."""
    return whitening.mean + linalg.scale_times(whitening.scale, z)


def _standard(mean):
    """The distribution of whitened actions, N(0, I), with the shape of `mean` (d,)."""
    return Gaussian(jnp.zeros_like(mean), jnp.ones_like(mean))


def _feasible(plan, whitening):
    region = ball(_standard(whitening.mean), plan.radius)
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


@jax.jit
def _surface(logs):
    """The response surface of whitened rows."""
    return fit_surface(logs.action, logs.reward, _standard(logs.action[0]))


@functools.partial(jax.jit, static_argnames="plan")
def _highest(surface, whitening, plan):
    """The cautious maximum (d,) of a surface."""
    starts = jnp.stack([highest(surface, plan.radius), jnp.zeros_like(surface.slope)])
    return cautious(surface, starts, _feasible(plan, whitening))


@jax.jit
def _misfit(surface, logs, direction):
    return lack_of_fit(
        surface, logs.action, logs.reward, direction, logs.cluster, logs.num_clusters
    )


@jax.jit
def _p_value(*misfits):
    """The p-value of two independent χ² with two degrees of freedom each, added up."""
    half = sum(misfits) / 2
    return jnp.exp(-half) * (1 + half)


def starts_of(plan: Plan, incumbent: Vector) -> Float[Array, "s d"]:
    """Where searches start in the whitened space: the incumbent, the centre of the log, random
    ones by `plan.seed`.

    The random ones are the same for both halves, so that the halves can meet.
    """
    random = jax.random.normal(
        jax.random.key(plan.seed), (plan.starts, incumbent.shape[0]), incumbent.dtype
    )
    return jnp.concatenate([jnp.stack([incumbent, jnp.zeros_like(incumbent)]), random])


@functools.partial(jax.jit, static_argnames="plan")
def _propose(plan, whitening, half, surface, start, scale):
    """The mean (d,) that maximises the bound on one half."""
    found = fit_many(
        half,
        starts_of(plan, start),
        jnp.broadcast_to(scale, start.shape),
        value_estimator=plan.value_estimator(surface),
        **_options(plan, whitening),
    )
    return found.policy.mean


@functools.partial(jax.jit, static_argnames="plan")
def _gain(plan, half, surface, mean, ahead, scale):
    """On the half that did not propose `mean`: its gain over the one ahead, the variance of that,
    the gain in lower bound.
    """
    value = estimates(half, plan.value_estimator(surface))
    spread = jnp.broadcast_to(scale, mean.shape)

    def judge(mean):
        made = value(Gaussian(mean, spread))
        return made, lower(plan.interval)(made, plan.alpha).lower

    both, bounds = lax.map(judge, jnp.stack([mean, ahead]))
    contrast = difference(*(jax.tree.map(lambda x, i=i: x[i], both) for i in (0, 1)))
    variance = jnp.sum(jnp.square(contrast.influence / contrast.influence.shape[0]))
    return contrast.value, variance, bounds[0] - bounds[1]

"""Which means to play where: deviations from the learnt global policy, by the gain over it that a
certificate is predicted to promise.

Deviations are means of segments, or outputs of a function of the context, less their average: the
contextual policy moves no weight for everybody, which would be a gain of the global kind. On m rows
that were not learnt from the bound of what personalising gains will be about E (q_s − q̄) − error
− z √(v E_π₀(w − w₀)²/m), over all segments at once: one with few rows or a small deviation is moved
little, and none is where nothing is promised in all.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.estimators.divergence import product
from mopl_jax.learning.deviations import Deviations, Situation, expected_bends
from mopl_jax.learning.proposal import ENOUGH, FEW, LIMITS, SCALES, climb, feasible_means
from mopl_jax.learning.response_surface import Surface
from mopl_jax.learning.whitening import standard
from mopl_jax.numerics.pytree import entries, pytree_dataclass, stacked
from mopl_jax.numerics.quick_jit import quick_jit
from mopl_jax.numerics.shapes import Scalar, Vector
from mopl_jax.policies.context_normal import network
from mopl_jax.policies.gaussian import Gaussian

SHARES = np.linspace(0.1, 1.2, 12)  # of the deviations that gain most, where the search starts
HIDDEN = 16  # units of the layer of a small network
TABLE, LINEAR, NETWORK = MEANS = "table", "linear", "network"


@pytree_dataclass()
class Model:
    """What learning rows say, in whitened weights.

    `surface`: of all rows
    `deviations`: of rows from it, by context
    `origin`, `scale` (d,): of the learnt global policy
    """

    surface: Surface
    deviations: Deviations
    origin: Vector
    scale: Vector


class Points(NamedTuple):
    """Where the reward is looked at: segments, or rows that stand for all.

    `share` (p,): of the log's rows
    `situation`: what is known there
    `inputs` (p, q): features of the context that a mean is a function of; (p, 0) for a table
    """

    share: Float[Array | np.ndarray, " p"]
    situation: Situation
    inputs: Float[Array | np.ndarray, "p q"]


class Found(NamedTuple):
    """The deviations of means.

    `parts`: those of the segments (p, d), or the layers of a network
    `centre` (d,): their average, which is taken off
    `scale` (d,): of the contextual policy, whitened
    `gain`, `promise`: what the surface predicts of the gain, and of its certified bound
    """

    parts: Any
    centre: Vector
    scale: Vector
    gain: Scalar
    promise: Scalar


@quick_jit("project", "mean", "alpha")
def search(
    model: Model,
    points: Points,
    whitening: Gaussian,
    rows: ArrayLike,
    radius: ArrayLike,
    project: Callable,
    mean: str,
    alpha: float,
) -> Found:
    """The deviations, and the scale, to certify on `rows` more rows; none where nothing is
    promised over the global policy, as it is played and as it would be with that scale.
    """
    own = jnp.log(model.scale[0])
    start, unravel = ravel_pytree((_start(mean, points, model.origin), own))
    feasible = feasible_means(project, whitening, radius)
    z, few = -NormalDist().inv_cdf(alpha), jnp.minimum(ENOUGH, rows / FEW)
    unit = jnp.sqrt(model.deviations.noise / rows)

    def height(less):
        def of(flat):
            made = _promises(model, points, feasible, rows, mean, unravel(flat))
            each = made.gain - less * (made.error + z * made.noise)
            return jnp.where(made.ess >= few, jnp.min(each) / unit, -jnp.inf)

        return of

    def scaled(flat, share, log_scale):
        parts, _ = unravel(flat)
        return ravel_pytree((_scaled(mean, parts, share), log_scale))[0]

    greedy, _ = climb(height(0.0), start)
    shares, scales = jnp.asarray(SHARES, own.dtype), jnp.asarray(np.log(SCALES), own.dtype)
    scales = jnp.concatenate([own[None], scales])
    pairs = [x.ravel() for x in jnp.meshgrid(shares, scales)]
    places = jax.vmap(lambda *at: scaled(greedy, *at))(*pairs)
    heights = lax.map(height(1.0), places)
    best, top = climb(height(1.0), places[jnp.argmax(jnp.nan_to_num(heights, nan=-jnp.inf))])
    found = jnp.where(top > 0, best, scaled(best, 0.0, own))
    made = _promises(model, points, feasible, rows, mean, unravel(found))
    parts, log_scale = unravel(found)
    centre = _centre(points, deviations_of(mean, parts, points.inputs))
    promise = jnp.min(made.gain - made.error - z * made.noise)
    return Found(parts, centre, _scale(model, log_scale), made.gain[0], promise)


def _scale(model, log_scale):
    return jnp.broadcast_to(jnp.exp(jnp.clip(log_scale, *np.log(LIMITS))), model.scale.shape)


def _start(mean, points, origin):
    """Deviations of zero; a network's first layer is random, or all units would stay alike."""
    p, q, d = len(points.share), points.inputs.shape[1], len(origin)
    zeros = lambda *shape: jnp.zeros(shape, origin.dtype)  # noqa: E731
    if mean == TABLE:
        return zeros(p, d)
    if mean == LINEAR:
        return ((zeros(d, q), zeros(d)),)
    return first_layer(q, origin.dtype), (zeros(d, HIDDEN), zeros(d))


def first_layer(q: int, dtype: Any) -> tuple[Float[Array, "h q"], Float[Array, " h"]]:
    """The random units that a network starts from, and that deviations of rewards are linear in."""
    drawn = np.random.default_rng(0).normal(size=(HIDDEN, q + 1))
    return jnp.asarray(1.5 * drawn[:, :q], dtype), jnp.asarray(drawn[:, q], dtype)


def _scaled(mean, parts, share):
    """The parts of a mean by context with so large a `share` of their deviations."""
    if mean == TABLE:
        return parts * share
    *layers, last = parts
    return (*layers, jax.tree.map(lambda x: x * share, last))


def deviations_of(mean: str, parts: Any, inputs: Any) -> Float[Array, "p d"]:
    """Before their average is taken off."""
    return parts if mean == TABLE else jax.vmap(lambda x: network(parts, x))(inputs)


def _centre(points, moved) -> Vector:
    return jnp.asarray(points.share) @ moved / jnp.sum(points.share)


class _Promises(NamedTuple):
    """Of a contextual policy over the global one, as it is played and with the same scale (2,):
    the predicted gain, its posterior standard deviation, and the standard error of its
    certificate; and the effective rows of the contextual policy.
    """

    gain: Float[Array, " 2"]
    error: Float[Array, " 2"]
    noise: Float[Array, " 2"]
    ess: Scalar


def _promises(model, points, feasible, rows, mean, found) -> _Promises:
    parts, log_scale = found
    moved, scale = deviations_of(mean, parts, points.inputs), _scale(model, log_scale)
    away = model.origin - _centre(points, moved)
    means = jax.vmap(feasible)(away[None] + moved)
    bases = stacked([Gaussian(model.origin, x) for x in (model.scale, scale)])
    logging, tiny = standard(model.origin), jnp.finfo(means.dtype).tiny
    surface, share = model.surface, points.share

    def features(policy):
        bent = expected_bends(policy.mean, policy.scale)
        return surface.expected_features(policy), bent, product(logging, policy, policy).size

    def shared(place, base):
        return product(logging, Gaussian(place, scale), base).size

    at = jax.vmap(lambda place: features(Gaussian(place, scale)))(means)

    def over(base):
        shapes, bent, sizes = jax.tree.map(lambda x, y: x - y[None], at, features(base))
        every = share @ shapes
        each = points.situation.local[:, :, None] * bent[:, None, :]
        blocks, place = len(model.deviations.coefficients) - 1, points.situation.place
        own = jax.ops.segment_sum(share[:, None, None] * each, place, blocks)
        gain = every @ surface.coefficients + jnp.sum(own * model.deviations.coefficients[:-1])
        known = jnp.sum(jnp.square(model.deviations.root.T @ own.reshape(-1)))
        error = jnp.maximum(every @ surface.covariance @ every + known, tiny)
        both = jax.vmap(shared, (0, None))(means, base)
        spread = share @ (sizes + 2 * (product(logging, base, base).size - both))
        variance = jnp.maximum(model.deviations.noise * spread / rows, tiny)
        return gain, jnp.sqrt(error), jnp.sqrt(variance)

    rest = 1 - jnp.sum(share)
    size = share @ at[2] + rest * product(logging, *[entries(bases, 1)] * 2).size
    return _Promises(*jax.vmap(over)(bases), rows / size)

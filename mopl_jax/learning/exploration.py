"""What to explore with next: the normal policy whose rows are expected to certify the largest gain.

Before a round is played its worth is known in expectation: how far its rows will move the surface
(the posterior of normal noise knows, before it sees them), and the noise that a certificate by them
will meet, in closed form. The best of many policies is then certified. This is the knowledge
gradient (Frazier, Powell & Dayanik, SIAM J. Control Optim. 2008) of a certificate. Wide policies
tell more of the surface and weigh each policy worse; far ones know little of what they are compared
with.
"""

import dataclasses
from statistics import NormalDist
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.estimators.divergence import product
from mopl_jax.learning.constraints import Projection, unconstrained
from mopl_jax.learning.proposal import ENOUGH, FEW, SCALES, Proposal, whitened_projection
from mopl_jax.learning.response_surface import Surface
from mopl_jax.learning.whitening import normals, standard, unwhiten, whiten_action, whitened
from mopl_jax.numerics import linalg
from mopl_jax.numerics.quick_jit import quick_jit
from mopl_jax.numerics.shapes import Matrix, Scalar, Vector
from mopl_jax.policies.gaussian import Gaussian

WAY = 0.0, 0.25, 0.5, 0.75, 1.0  # of the way from the baseline to the best guess
WIDER = 1.0, 0.7, 1.4  # times the scale of the last exploration; of ties the first
ROWS, DRAWS = 256, 64  # that stand for a round's; of what it may find
TRIED = 256  # means of policies that it may certify, each with every one of `SCALES`
AROUND = 0.0, 0.25, 0.5, 0.75  # logged standard deviations by which they leave the way
NEAR = 1e-3  # logged standard deviations that are rounding


class Exploration(NamedTuple):
    """What to explore with next.

    `policy`: the candidate of largest worth
    `worth`: the gain that its rows are expected to certify
    `repeated`: the same of the last exploration, played again
    """

    policy: Gaussian
    worth: Scalar
    repeated: Scalar


class Round(NamedTuple):
    """What half of a round's rows do, beside what is known; all is whitened.

    `surface`, `noise`: what is known of the rewards, and the variance of a row
    `rows`: that teach, and as many that certify
    `origin` (d,): the weights over which a gain is certified
    `tried`: policies (p,) that may be certified, each with one scale for all weights
    `change` (p, f): the features that each expects, less those of the origin with its scale
    """

    surface: Surface
    noise: Scalar
    rows: Scalar
    origin: Vector
    tried: Gaussian
    change: Float[Array, "p f"]


@quick_jit("alpha", "project")
def next_exploration(
    made: Proposal,
    last: Gaussian,
    rows: ArrayLike,
    baseline: Vector,
    alpha: float = 0.05,
    project: Projection = unconstrained,
) -> Exploration:
    """What to play to `rows` more rows after an exploration by `last`, as half of them teach, with
    all that is known, and the others certify a gain over the `baseline` (d,), one-sided at `alpha`.

    Candidates are on the way from the baseline to the best guess of what was `made`, with the
    scale of the last exploration, a narrower and a wider one; their means, and those of what may
    then be certified, are feasible for `project`. The last exploration is none of them where its
    mean is not.
    """
    whitening, known = made.whitening, whitened(last, made.whitening)
    place = lambda x: whiten_action(x, whitening)  # noqa: E731
    origin, guess = place(baseline), place(made.guess.mean)
    surface = dataclasses.replace(made.surface, reference=standard(origin))
    feasible = whitened_projection(project, whitening)
    tried = _tried(origin, guess, place(made.certified.mean), feasible)
    change = jax.vmap(lambda policy: _change(surface, policy, origin))(tried)
    half = 0.5 * jnp.asarray(rows, origin.dtype)
    ahead = Round(surface, jnp.asarray(made.noise), half, origin, tried, change)
    variances, turn = linalg.eigh(known.covariance)
    z = -NormalDist().inv_cdf(alpha)
    way = jnp.asarray(np.repeat(WAY, len(WIDER)), origin.dtype)
    moved = jax.vmap(feasible)(_along(origin, guess, way))
    means = jnp.concatenate([known.mean[None], moved])
    factors = jnp.asarray([1.0, *WIDER * len(WAY)], origin.dtype)
    spread = factors[:, None] * jnp.sqrt(variances)[None]
    worths = lax.map(lambda at: worth(ahead, at[0], at[1], turn, z), (means, spread))
    again = jnp.max(jnp.abs(feasible(known.mean) - known.mean)) <= NEAR
    best = jnp.argmax(jnp.where(again, worths, worths.at[0].set(-jnp.inf)))
    policy = Gaussian(unwhiten(means[best], whitening), factors[best] * last.scale)
    return Exploration(policy, worths[best], worths[0])


def worth(ahead: Round, mean: Vector, spread: Vector, turn: Matrix, z: float) -> Scalar:
    """The gain that is expected to be certified at z, 0 where none is, after a round played by the
    `mean` (d,) with standard deviations `spread` (d,) along the columns of `turn` (d, d).
    """
    noise = jax.vmap(lambda policy: _noise(ahead, mean, spread, turn, policy))(ahead.tried)
    drawn = jnp.asarray(normals(ROWS, len(mean)), mean.dtype)
    after = _after(ahead, mean[None] + (drawn * spread[None]) @ turn.T)
    bounds = ahead.change @ after - z * noise[:, None]
    return jnp.mean(jnp.maximum(jnp.max(bounds, axis=0), 0))


def _noise(ahead, mean, spread, turn, policy) -> Scalar:
    """The standard error of a policy's gain on the rows that certify; ∞ where they are too few."""
    logging = Gaussian(turn.T @ mean, spread)
    own, base = (Gaussian(turn.T @ x, policy.scale) for x in (policy.mean, ahead.origin))
    of_own, of_base, both = (
        product(logging, *x).size for x in ((own, own), (base, base), (own, base))
    )
    error = jnp.sqrt(ahead.noise * jnp.maximum(of_own + of_base - 2 * both, 0) / ahead.rows)
    enough = ahead.rows / of_own >= jnp.minimum(ENOUGH, ahead.rows / FEW)
    return jnp.where(enough & jnp.isfinite(error), error, jnp.inf)


def _after(ahead, actions) -> Float[Array, "f s"]:
    """Coefficients that may be believed when rows of these actions have taught: draws of
    β + Σφᵀ(φΣφᵀ + s²)⁻¹(r − φβ), whose last factor has the covariance φΣφᵀ + s².
    """
    surface = ahead.surface
    features = jax.vmap(surface.features)(actions)
    across = jnp.matmul(surface.covariance, features.T, precision="highest")
    seen = jnp.matmul(features, across, precision="highest")
    of_row = ahead.noise * len(actions) / ahead.rows  # each action stands for several rows
    factor = jnp.linalg.cholesky(seen + of_row * jnp.eye(len(actions), dtype=seen.dtype))
    drawn = jnp.asarray(normals(len(actions), DRAWS), seen.dtype)
    return surface.coefficients[:, None] + across @ solve_triangular(factor.T, drawn)


def _tried(origin, guess, certified, feasible=unconstrained) -> Gaussian:
    """Along the way from the origin to the best guess, beyond it and about it, with all scales."""
    d = len(origin)
    way = jnp.linspace(0, 1.5, TRIED, dtype=origin.dtype)
    about = jnp.asarray(normals(TRIED, d) * np.resize(AROUND, TRIED)[:, None], origin.dtype)
    near = _along(origin, guess, way) + about
    means = jax.vmap(feasible)(jnp.concatenate([near, guess[None], certified[None]]))
    scale = jnp.repeat(jnp.asarray(SCALES, origin.dtype), len(means))
    each = jnp.broadcast_to(scale[:, None], (len(scale), d))
    return Gaussian(jnp.tile(means, (len(SCALES), 1)), each)


def _along(origin, guess, way) -> Float[Array, "k d"]:
    return origin[None] + way[:, None] * (guess - origin)[None]


def _change(surface, policy, origin) -> Float[Array, " f"]:
    base = Gaussian(origin, policy.scale)
    return surface.expected_features(policy) - surface.expected_features(base)

"""Which policy to certify, and which to believe in: mean *and scale* by the gain that a certificate
is predicted to promise.

On m rows that were not learnt from, the bound of a gain will be about E q − z √(v E_π₀(w − w₀)²/m):
the surface's gain less z standard errors of the doubly robust difference, in closed form for
normal policies. The surface's own error, one posterior standard deviation of the gain, is taken
off as well, or the search would follow what it does not know. A finer policy plays its mean more
exactly and costs effective rows; a wide one costs little and gains little.
"""

import dataclasses
import functools
from statistics import NormalDist
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.estimators.divergence import product
from mopl_jax.learning.constraints import Projection, ball, intersection, unconstrained
from mopl_jax.learning.response_surface import Surface, moments_of
from mopl_jax.learning.waves import Fitted, fit_waves
from mopl_jax.learning.whitening import standard, unwhiten, unwhiten_policy, whiten
from mopl_jax.logs import Logs
from mopl_jax.numerics import linalg, safe
from mopl_jax.numerics.pytree import entries, pytree_dataclass
from mopl_jax.numerics.shapes import Scalar, Vector
from mopl_jax.policies.gaussian import Gaussian

# Standard errors that a best guess gives away, as a certificate gives 1.64: of 0.2, 0.4, 0.8 and
# 1.64 the one of least mean regret (five logs each of thirteen cells of the learning study's
# worlds that a learner may be chosen by, d = 5, 2,000 rows that teach).
GUESS = 0.8
SCALES = 0.35, 0.5, 0.7, 0.85  # of the logging scale, where searches start
# Effective rows that a certified policy is to have, as far as a quarter of the rows allow: the
# verdict on fewer than 100 is caution, and on many policies of 30 refuse.
ENOUGH, FEW = 100.0, 4.0
LIMITS = 0.2, 1.0  # of the scale: below, no log certifies; above, nothing is gained
PLACES, BEST, STEPS = 256, 6, 60  # looked at first for each scale; climbed from; steps of a climb


class Promise(NamedTuple):
    """What the surface predicts of a policy's gain over the baseline played with its scale.

    `gain`: of the surface
    `error`: its posterior standard deviation
    `noise`: the standard error of the doubly robust difference on the rows that certify
    `ess`: the effective rows (users) that certify
    """

    gain: Scalar
    error: Scalar
    noise: Scalar
    ess: Scalar

    def less(self, z: ArrayLike) -> Scalar:
        """The gain less one error and z times the noise: the bound to expect for z = 1.64."""
        return self.gain - self.error - z * self.noise


@pytree_dataclass()
class Proposal:
    """Two policies for two questions, and what is predicted of them.

    `certified`: the policy with the largest gain that m more rows are predicted to certify
    `guess`: the policy to play, or to explore around, by the surface; its mean is the best guess
    `promised`, `guessed`: what the surface predicts of each
    `surface`: the reward model
    `whitening`: mean and covariance of the logged actions
    """

    certified: Gaussian
    guess: Gaussian
    promised: Promise
    guessed: Promise
    surface: Surface
    whitening: Gaussian


@functools.partial(jax.jit, static_argnames=("project", "alpha"))
def propose(
    logs: Logs,
    rows: ArrayLike,
    baseline: Vector | None = None,
    *,
    project: Projection = unconstrained,
    radius: float = 2.0,
    alpha: float = 0.05,
) -> Proposal:
    """What to certify on `rows` more rows, and what to believe in, against the `baseline` (d,),
    the logging mean unless given.

    Means are feasible for `project` and within `radius` of the logging mean, in standard
    deviations of the logged actions. Traced by `jit` and `vmap`; users must be counted.
    """
    whitening = moments_of(jnp.asarray(logs.action))
    fitted = fit_waves(whiten(logs, whitening))
    if baseline is None:
        baseline = whitening.mean
    origin = linalg.scale_solve(whitening.scale, baseline - whitening.mean)
    promise = functools.partial(_promise, fitted, rows, origin)
    feasible = _feasible(project, whitening, radius)
    zs = jnp.stack([jnp.asarray(-NormalDist().inv_cdf(alpha)), jnp.asarray(GUESS)])
    unit = safe.positive(jnp.sqrt(fitted.noise))
    few = jnp.minimum(ENOUGH, rows / (FEW * fitted.inflation))
    least = jnp.stack([few, jnp.zeros_like(few)])  # a guess needs no rows to confirm it
    found = lax.map(
        lambda ask: _search(promise, unit, feasible, origin, radius, *ask),
        (zs.astype(origin.dtype), least.astype(origin.dtype)),
    )
    promised = lax.map(promise, found)
    certified, guess = (_unwhitened(entries(found, k), whitening, origin, baseline) for k in (0, 1))
    return Proposal(
        certified,
        guess,
        entries(promised, 0),
        entries(promised, 1),
        dataclasses.replace(fitted.surface, reference=whitening),
        whitening,
    )


def _unwhitened(policy, whitening, origin, baseline) -> Gaussian:
    """Of actions as they were logged; the baseline to the last bit where it is that."""
    made = unwhiten_policy(policy, whitening)
    same = jnp.all(policy.mean == origin)
    return dataclasses.replace(made, mean=jnp.where(same, baseline, made.mean))


def _promise(fitted: Fitted, rows, origin, policy: Gaussian) -> Promise:
    """Of a whitened policy."""
    surface, base = fitted.surface, Gaussian(origin, policy.scale)
    change = surface.expected_features(policy) - surface.expected_features(base)
    logging, tiny = standard(origin), jnp.finfo(origin.dtype).tiny
    pairs = (policy, policy), (base, base), (policy, base)
    own, of_base, both = (product(logging, a, b).size for a, b in pairs)
    spread = jnp.maximum(own + of_base - 2 * both, tiny)
    error = jnp.sqrt(jnp.maximum(change @ surface.covariance @ change, tiny))
    noise = jnp.sqrt(fitted.noise * spread / rows)
    return Promise(change @ surface.coefficients, error, noise, rows / (own * fitted.inflation))


def _feasible(project, whitening, radius) -> Projection:
    """The projection of whitened means."""
    region = ball(standard(whitening.mean), radius)
    if project is unconstrained:
        return region
    inner = lambda z: linalg.scale_solve(  # noqa: E731
        whitening.scale, project(unwhiten(z, whitening)) - whitening.mean
    )
    return intersection(region, inner)


def _search(promise, unit, feasible, origin, radius, z, least) -> Gaussian:
    """The whitened policy of the largest promise at z with an effective size of at `least` so
    many, by projected ascent from the best places; the baseline where nothing is promised.
    Heights are in units of a row's noise.
    """

    def policy(at):
        mean, scale = feasible(at[:-1]), jnp.exp(jnp.clip(at[-1], *np.log(LIMITS)))
        return Gaussian(mean, jnp.broadcast_to(scale, mean.shape))

    def height(at):
        made = promise(policy(at))
        high = made.less(z) / unit
        return jnp.where(jnp.isfinite(high) & (made.ess >= least), high, -jnp.inf)

    places = _places(origin, radius)
    heights = lax.map(height, places, batch_size=PLACES)
    ends, reached = jax.vmap(functools.partial(_climb, height))(places[lax.top_k(heights, BEST)[1]])
    found = policy(ends[jnp.argmax(reached)])
    return dataclasses.replace(found, mean=jnp.where(jnp.max(reached) > 0, found.mean, origin))


def _places(origin, radius) -> Float[Array, "s d+1"]:
    """Means of all lengths in all directions, the baseline first, each with every log scale."""
    key = jax.random.key(0)
    way = jax.random.normal(key, (PLACES, origin.shape[0]), origin.dtype)
    length = radius * jnp.linspace(0, 1, PLACES, dtype=origin.dtype)
    means = way * (length / jnp.linalg.norm(way, axis=1))[:, None]
    means = means.at[0].set(origin)
    each = [jnp.full((PLACES, 1), np.log(scale), origin.dtype) for scale in SCALES]
    return jnp.concatenate([jnp.concatenate([means, scale], axis=1) for scale in each])


def _climb(height, start):
    """The highest place on the way of Adam (Kingma & Ba 2015), and its height.

    Its shrinking steps need no line search, and so compile the objective once.
    """
    optimiser = optax.adam(optax.linear_schedule(0.1, 0.005, STEPS), b1=0.8, b2=0.95)
    slope = jax.value_and_grad(height)

    def step(_, now):
        at, state, best, top = now
        high, uphill = slope(at)
        best, top = jnp.where(high > top, at, best), jnp.maximum(high, top)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integer widths under x64
            moves, state = optimiser.update(-jnp.nan_to_num(uphill), state)
        return at + jnp.asarray(moves, at.dtype), state, best, top

    lowest = jnp.full((), -jnp.inf, start.dtype)
    _, _, best, top = lax.fori_loop(0, STEPS, step, (start, optimiser.init(start), start, lowest))
    return best, top

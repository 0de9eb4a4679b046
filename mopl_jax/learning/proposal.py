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
import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.estimators.divergence import product
from mopl_jax.learning.constraints import Projection, ball, intersection, unconstrained
from mopl_jax.learning.guardrails import Guarded, room
from mopl_jax.learning.response_surface import Surface, moments_of
from mopl_jax.learning.waves import GRADIENTS, Fitted, fit_waves
from mopl_jax.learning.whitening import (
    normals,
    standard,
    unwhiten,
    unwhiten_policy,
    whiten,
    whiten_action,
    whitened,
)
from mopl_jax.logs import Logs, speaks_for
from mopl_jax.numerics import safe
from mopl_jax.numerics.pytree import entries, pytree_dataclass, stacked
from mopl_jax.numerics.quick_jit import quick_jit
from mopl_jax.numerics.shapes import PerRow, Scalar, Vector
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
PENALTY = 10.0  # beyond any price that a guardrail had in the tests
PLACES, BEST, STEPS = 256, 6, 60  # looked at first for each scale; climbed from; steps of a climb


class Promise(NamedTuple):
    """What the surface predicts of a policy's gain over the baseline played with its scale.

    `gain`: of the surface
    `error`: its posterior standard deviation
    `noise`: the standard error of the doubly robust difference on the rows that certify
    `ess`: the effective rows (users) that certify
    `room`: what may be lost of an outcome that has a guardrail; 0 of the North Star
    """

    gain: Scalar
    error: Scalar
    noise: Scalar
    ess: Scalar
    room: ArrayLike = 0.0

    def less(self, z: ArrayLike) -> Scalar:
        """The gain less one error and z times the noise, beside the room: the bound to expect for
        z = 1.64.
        """
        return self.gain - self.error - z * self.noise + self.room


class Ask(NamedTuple):
    """What is searched for: the policy of the largest weighted promise at `z`.

    `least`: the effective rows that it must have at least
    `weight` (1 + g,): of the North Star and of each guardrail's outcome, in units of a row's noise
    `heeded` (g,): 1 where a guardrail is heeded
    """

    z: Scalar
    least: Scalar
    weight: Float[Array, " 1+g"]
    heeded: Float[Array, " g"]


@pytree_dataclass()
class Proposal:
    """Two policies for two questions, and what is predicted of them.

    `certified`: the policy with the largest gain that m more rows are predicted to certify
    `guess`: the policy to play, or to explore around, by the surface; its mean is the best guess
    `promised`, `guessed`: what the surface predicts of each
    `surface`: the reward model
    `whitening`: mean and covariance of the logged actions
    `surfaces` (1 + g,): the reward model, and those of the guardrails' outcomes
    `guarded`: what is predicted of the guardrails' outcomes (g,) under the certified policy
    `without` (1 + g,): the gain that is predicted to be certified, and that without each guardrail
    `front`: the policies (t,) of all trade-offs; None unless they were asked for
    `noise`: the variance of a row's reward as a certificate meets it
    """

    certified: Gaussian
    guess: Gaussian
    promised: Promise
    guessed: Promise
    surface: Surface
    whitening: Gaussian
    surfaces: Surface
    guarded: Promise
    without: Float[Array, " 1+g"]
    front: Gaussian | None = None
    noise: Scalar | float = math.nan


@quick_jit("project", "alpha", "trades")
def propose(
    logs: Logs,
    rows: ArrayLike,
    baseline: Vector | None = None,
    *,
    project: Projection = unconstrained,
    radius: float = 2.0,
    alpha: float = 0.05,
    kept: PerRow | None = None,
    guarded: Guarded | None = None,
    trades: int = 0,
    logging: Gaussian | None = None,
    independent: ArrayLike = False,
) -> Proposal:
    """What to certify on `rows` more rows, and what to believe in, against the `baseline` (d,),
    the logging mean unless given.

    Means are feasible for `project` and within `radius` of the logging mean, in standard
    deviations of the logged actions. Taught by the rows where `kept` is 1 and not 0, all unless
    given. Bounds hold at once at `alpha`: that of the gain, and that of what each of the `guarded`
    outcomes loses, which is not more than allowed wherever that is predicted to be confirmed.
    `trades` policies trade the first of them for the gain. `logging` plays the rows that certify,
    where that is not what the rows that teach were played by, as of several rounds. Policies play
    `independent` weights where that is said. Traced by `jit` and `vmap`; users must be counted.
    """
    kept = speaks_for(logs, kept)
    whitening = moments_of(jnp.asarray(logs.action), kept)
    own = jnp.diag(jnp.sqrt(jnp.diagonal(whitening.covariance)))
    factor = jnp.where(independent, own, whitening.scale)
    whitening = Gaussian(whitening.mean, factor)
    if baseline is None:
        baseline = whitening.mean
    origin = whiten_action(baseline, whitening)
    fitted = _fits(whiten(logs, whitening), kept, guarded)
    of = standard(origin) if logging is None else whitened(logging, whitening)
    promise = functools.partial(_promises, fitted, guarded, rows, origin, of)
    asks = _asks(fitted, rows, alpha, trades)
    unit = safe.positive(jnp.sqrt(fitted.noise))
    feasible = feasible_means(project, whitening, radius)
    found = lax.map(functools.partial(_search, promise, unit, feasible, origin, radius), asks)
    promised = lax.map(promise, found)
    less = jax.vmap(lambda made, z: entries(made, 0).less(z))(promised, asks.z)
    made = jax.vmap(lambda policy: _unwhitened(policy, whitening, origin, baseline))(found)
    several = lambda x: jnp.broadcast_to(x, fitted.noise.shape + x.shape)  # noqa: E731
    surfaces = dataclasses.replace(fitted.surface, reference=jax.tree.map(several, whitening))
    first, g = entries(promised, 0), len(fitted.noise) - 1
    return Proposal(
        certified=entries(made, 0),
        guess=entries(made, 1),
        promised=entries(first, 0),
        guessed=entries(entries(promised, 1), 0),
        surface=entries(surfaces, 0),
        whitening=whitening,
        surfaces=surfaces,
        guarded=entries(first, slice(1, None)),
        without=jnp.concatenate([less[:1], less[2 : 2 + g]]),
        front=entries(made, slice(2 + g, None)) if trades else None,
        noise=fitted.noise[0],
    )


def _fits(logs, kept, guarded) -> Fitted:
    """What whitened rows say of the reward and of each guarded outcome, (1 + g,)."""
    outcomes = logs.reward[None]
    if guarded is not None:
        outcomes = jnp.concatenate([outcomes, guarded.outcome.astype(outcomes.dtype)])
    if logs.sampling_weight is not None and len(kept) > GRADIENTS:
        order = jnp.argsort(-kept)  # the first rows point to directions: of a log in time, old ones
        (logs, kept), outcomes = jax.tree.map(lambda x: x[order], (logs, kept)), outcomes[:, order]
    return lax.map(lambda x: fit_waves(dataclasses.replace(logs, reward=x), kept), outcomes)


def _asks(fitted, rows, alpha, trades) -> Ask:
    """What is searched for: the certified policy, the guess, the certified one without each
    guardrail, and the front.
    """
    size, dtype = len(fitted.noise), fitted.noise.dtype
    few = jnp.minimum(ENOUGH, rows / (FEW * fitted.inflation[0]))
    weight, heeded = np.eye(size)[0], np.ones(size - 1)
    z, of_front = (-NormalDist().inv_cdf(alpha / size / k) for k in (1, max(trades, 1)))

    def ask(*fields):
        return Ask(*(jnp.asarray(field, dtype) for field in fields))

    asks = [ask(z, few, weight, heeded), ask(GUESS, 0.0, weight, heeded)]
    asks += [ask(z, few, weight, heeded - each) for each in np.eye(size - 1)]
    for share in np.linspace(0, 1, trades):
        trade = (1 - share) * weight + share * np.eye(size)[1]
        asks += [ask(of_front, few, trade, heeded - np.eye(size - 1)[0])]
    return stacked(asks)


def _unwhitened(policy, whitening, origin, baseline) -> Gaussian:
    """Of actions as they were logged; the baseline to the last bit where it is that."""
    made = unwhiten_policy(policy, whitening)
    same = jnp.all(policy.mean == origin)
    return dataclasses.replace(made, mean=jnp.where(same, baseline, made.mean))


def _promises(fitted: Fitted, guarded: Guarded | None, rows, origin, logging, policy) -> Promise:
    """Of a whitened policy, for the reward and each guarded outcome, (1 + g,)."""
    made, level = jax.vmap(lambda each: _promise(each, rows, origin, policy, logging))(fitted)
    if guarded is None:
        return made
    allowed = room(guarded.allowed, guarded.relative, level[1:])
    return made._replace(room=jnp.concatenate([jnp.zeros_like(allowed[:1]), allowed]))


def _promise(
    fitted: Fitted, rows, origin, policy: Gaussian, logging: Gaussian | None = None
) -> tuple[Promise, Scalar]:
    """Of a whitened policy, and what the baseline earns, on rows of `logging`, N(0, I) unless
    given.
    """
    surface, base = fitted.surface, Gaussian(origin, policy.scale)
    at_base = surface.expected_features(base)
    change = surface.expected_features(policy) - at_base
    logging, tiny = logging or standard(origin), jnp.finfo(origin.dtype).tiny
    pairs = entries(stacked([policy, base]), np.array([[0, 1, 0], [0, 1, 1]]))
    sizes = jax.vmap(functools.partial(product, logging))(*(entries(pairs, k) for k in (0, 1)))
    own, of_base, both = sizes.size
    error = _root(change @ surface.covariance @ change, tiny)
    noise = _root(fitted.noise * (own + of_base - 2 * both) / rows, tiny)
    size, gain = rows / (own * fitted.inflation), change @ surface.coefficients
    made = Promise(gain, error, noise, size, jnp.zeros_like(gain))
    return made, at_base @ surface.coefficients


def _root(square, tiny):
    """√square, 0 where it is rounding."""
    return jnp.where(square > tiny, jnp.sqrt(jnp.maximum(square, tiny)), 0)


def feasible_means(project: Projection, whitening: Gaussian, radius: Any) -> Projection:
    """The projection of whitened means, `radius` about the logging mean."""
    region = ball(standard(whitening.mean), radius)
    if project is unconstrained:
        return region
    return intersection(region, whitened_projection(project, whitening))


def whitened_projection(project: Projection, whitening: Gaussian) -> Projection:
    """The same projection, of whitened actions."""
    if project is unconstrained:
        return project
    return lambda z: whiten_action(project(unwhiten(z, whitening)), whitening)


def _search(promise, unit, feasible, origin, radius, ask: Ask) -> Gaussian:
    """The whitened policy of the largest promise that is asked for, by projected ascent from the
    best places; the baseline where nothing is promised, with one scale whatever the rows. Heights
    are in units of a row's noise; what a guardrail is short of counts `PENALTY` times.
    """

    def policy(at):
        mean, scale = feasible(at[:-1]), jnp.exp(jnp.clip(at[-1], *np.log(LIMITS)))
        return Gaussian(mean, jnp.broadcast_to(scale, mean.shape))

    def height(at):
        made = promise(policy(at))
        less = made.less(ask.z) / unit
        short = ask.heeded @ jnp.maximum(-less[1:], 0)
        high = ask.weight @ (less - made.room / unit) - PENALTY * short
        return jnp.where(jnp.isfinite(high) & (made.ess[0] >= ask.least), high, -jnp.inf)

    places = _places(origin, radius)
    heights = lax.map(height, places, batch_size=PLACES)
    ends, reached = jax.vmap(functools.partial(climb, height))(places[lax.top_k(heights, BEST)[1]])
    found = policy(ends[jnp.argmax(reached)])
    usual = Gaussian(origin, jnp.full_like(origin, SCALES[-1]))
    return jax.tree.map(functools.partial(jnp.where, jnp.max(reached) > 0), found, usual)


def _places(origin, radius) -> Float[Array, "s d+1"]:
    """Means of all lengths in all directions, the baseline first, each with every log scale."""
    way = jnp.asarray(normals(PLACES, origin.shape[0]), origin.dtype)
    length = radius * jnp.linspace(0, 1, PLACES, dtype=origin.dtype)
    means = way * (length / jnp.linalg.norm(way, axis=1))[:, None]
    means = means.at[0].set(origin)
    each = [jnp.full((PLACES, 1), np.log(scale), origin.dtype) for scale in SCALES]
    return jnp.concatenate([jnp.concatenate([means, scale], axis=1) for scale in each])


def climb(height: Callable[[Vector], Scalar], start: Vector) -> tuple[Vector, Scalar]:
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

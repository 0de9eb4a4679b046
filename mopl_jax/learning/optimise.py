"""Pessimistic learning: maximise the one-sided lower bound of a Gaussian policy's value, with
the code that evaluates it.

`value_estimator(logs)(policy) -> Estimate` is an estimator of a policy's value on a log:
`importance_weighted(snips)`, `importance_weighted(beta_ips)` or `doubly_robust(surface)`; what
does not depend on the policy is computed once. The learnt policy is *Gaussian*: bounds are for
it, not for its mean played exactly. The maximised bound is optimistic for the policy that it
selected: `certification` has bounds on rows that were not used.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from mopl_jax import intervals
from mopl_jax.estimators import ess
from mopl_jax.intervals.interval import IntervalFunction
from mopl_jax.learning.constraints import Projection, unconstrained
from mopl_jax.learning.objective import ValueEstimator, importance_weighted
from mopl_jax.logs import Logs
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.policies.gaussian import Gaussian

FLOOR = 0.002  # least ESS/n
STEPS = 30
TOLERANCE = 1e-5  # of the reward's standard deviation: a step that gains less ends the search


@pytree_dataclass()
class Learnt:
    """A policy, its lower `bound` and `value` on the rows it was learnt from, its Kish `ess`,
    and how the search went.

    `trace` (steps,) is the bound of each iterate, NaN after the last; `feasible` whether any
    iterate had the ESS that was asked for and a finite bound, `diverged` whether the search met
    a number that is not finite: the policy is then the best feasible iterate before, `converged`
    whether it ended because a step gained nothing.
    """

    policy: Gaussian
    bound: Float[Array, ""]
    value: Float[Array, ""]
    ess: Float[Array, ""]
    trace: Float[Array, " steps"]
    steps: Int[Array, ""]
    feasible: Bool[Array, ""]
    diverged: Bool[Array, ""]
    converged: Bool[Array, ""]


# Estimators as functions of the policy.


# The search.


class _Point(NamedTuple):
    """What the search knows of one iterate."""

    at: Array
    bound: Array
    value: Array
    ess: Array


class _Search(NamedTuple):
    """Where the search is, the best feasible point it has seen (bound −inf if none), and how it
    went.
    """

    at: Array
    state: optax.OptState
    best: _Point
    last: Array
    trace: Array
    steps: Array
    diverged: Array
    converged: Array


def fit(
    logs: Logs,
    start: Gaussian,
    *,
    value_estimator: ValueEstimator | None = None,
    interval: IntervalFunction = intervals.ess_exact,
    alpha: float = 0.05,
    project: Projection = unconstrained,
    floor: float = FLOOR,
    optimiser: optax.GradientTransformation | None = None,
    steps: int = STEPS,
    limit: ArrayLike | None = None,
    size: Callable[[Array], Array] = ess.kish,
) -> Learnt:
    """Maximise the lower bound over the mean of a Gaussian, from `start`; `refinement` tries
    scales.

    Trust region: `size`(log weights) ≥ `floor` n. For n → ∞ Kish's size over n is
    exp(−D₂(π‖π₀)), D₂ the Rényi divergence log d₂, and `ess.perplexity` over n is
    exp(−KL(π‖π₀)): a floor on either is a ceiling on a divergence that needs no logging policy,
    only propensities. It enters as the smooth penalty s·max(0, log(floor n / size))², s the
    reward's standard deviation, in the search; only iterates that keep the floor are returned.
    `project` maps means to feasible ones: the search climbs bound∘project and goes on from the
    projected point. At most `steps` steps, or `limit` ≤ `steps` of them, which may be traced (1
    only judges the start). `jit`, and `vmap` over starts and logs.
    """
    judge = functools.partial(
        _judge,
        (value_estimator or importance_weighted())(logs),
        intervals.lower(interval),
        alpha,
        size,
    )
    unit = jnp.maximum(jnp.std(logs.reward), jnp.finfo(logs.reward.dtype).tiny)
    worst, least = jnp.min(logs.reward) - 10 * unit, max(floor * logs.reward.shape[0], 1e-9)

    def loss(at):
        point = judge(Gaussian(project(at), start.scale), at)
        short = jnp.maximum(math.log(least) - jnp.log(jnp.maximum(point.ess, 1)), 0)
        return unit * jnp.square(short) - jnp.where(
            jnp.isfinite(point.bound), point.bound, worst
        ), point

    begin = (jax.jit(loss), project, start.mean, least, optimiser or lbfgs())
    search = _climb(*begin, steps, steps if limit is None else limit, TOLERANCE * unit)
    best = search.best
    return Learnt(
        Gaussian(project(best.at), start.scale),
        best.bound,
        best.value,
        best.ess,
        search.trace,
        search.steps,
        jnp.isfinite(best.bound),
        search.diverged,
        search.converged,
    )


def lbfgs() -> optax.GradientTransformation:
    """Full-batch L-BFGS with optax's zoom line search, at most six evaluations a step."""
    return optax.lbfgs(linesearch=optax.scale_by_zoom_linesearch(6))


def _judge(value, lower, alpha, size, policy, at):
    made = value(policy)
    return _Point(at, lower(made, alpha).lower, made.value, size(made.log_weight))


def _climb(loss, project, mean, least, optimiser, steps, limit, tolerance):
    optimiser = optax.with_extra_args_support(optimiser)
    gradient = jax.value_and_grad(loss, has_aux=True)
    value_of = lambda at: loss(at)[0]  # noqa: E731

    def step(search):
        (now, point), slope = gradient(search.at)
        best = _better(search.best, point, least)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integer widths under x64
            moves, state = optimiser.update(
                slope, search.state, search.at, value=now, grad=slope, value_fn=value_of
            )  # pyright: ignore
        moved: Any = optax.apply_updates(search.at, moves)
        at = project(moved)
        trace = search.trace.at[search.steps].set(point.bound)
        lost = ~(jnp.isfinite(now) & _finite(slope) & _finite(at))
        return _Search(
            at,
            state,
            best,
            now,
            trace,
            search.steps + 1,
            lost,
            jnp.abs(now - search.last) <= tolerance,
        )

    def going(search):
        return (search.steps < limit) & ~search.diverged & ~search.converged

    first = project(mean)
    nothing = jnp.full((), -jnp.inf, mean.dtype)
    return lax.while_loop(
        going,
        step,
        _Search(
            at=first,
            state=optimiser.init(first),
            best=_Point(first, nothing, nothing, jnp.zeros((), mean.dtype)),
            last=-nothing,
            trace=jnp.full(steps, jnp.nan, mean.dtype),
            steps=jnp.zeros((), jnp.int32),
            diverged=jnp.asarray(False),
            converged=jnp.asarray(False),
        ),
    )


def _better(best, point, least):
    """The better of two points; one without the least ESS, or a finite bound, does not count."""
    better = (point.ess >= least) & (point.bound > best.bound) & _finite(point.at)
    return jax.tree.map(lambda new, old: jnp.where(better, new, old), point, best)


def _finite(tree):
    return functools.reduce(
        jnp.logical_and, [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
    )


def fit_many(
    logs: Logs, starts: Float[Array, "s d"], scale: Float[Array, "d *d"], **options
) -> Learnt:
    """`fit` from several means (s, d) at once; the one of the highest bound."""
    return best_of(jax.vmap(lambda mean: fit(logs, Gaussian(mean, scale), **options))(starts))


def best_of(found: Learnt) -> Learnt:
    """The one with the highest bound of several, (s, …)."""
    best = jnp.argmax(found.bound)
    return jax.tree.map(lambda x: x[best], found)

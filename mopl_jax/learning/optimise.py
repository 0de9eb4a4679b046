"""Pessimistic learning: maximise the one-sided lower bound of a Gaussian policy's value, with
the code that evaluates it.

The learnt policy is *Gaussian*: bounds are for it, not for its mean played exactly. The maximised
bound is optimistic for the policy that it selected: `certification` has bounds on rows that were
not used.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.estimators import ess
from mopl_jax.intervals.ess_corrected import ess_exact
from mopl_jax.intervals.interval import IntervalFunction, lower
from mopl_jax.learning import line_search
from mopl_jax.learning.constraints import FLOOR, Projection, unconstrained
from mopl_jax.learning.line_search import STEPS, LineSearch
from mopl_jax.learning.objective import ValueEstimator, estimates
from mopl_jax.logs import Logs, num_units
from mopl_jax.numerics.pytree import pytree_dataclass, where
from mopl_jax.numerics.shapes import Count, Scalar, Truth
from mopl_jax.policies.gaussian import Gaussian

TOLERANCE = 1e-5  # of the reward's standard deviation: a step that gains less ends the search


@pytree_dataclass()
class Learnt:
    """A policy, what it is worth on the rows it was learnt from, and how the search went.

    `bound`, `value`: its lower bound and its value
    `ess`: its Kish effective sample size, of rows or of users
    `trace` (steps,): the bound of each iterate, NaN after the last
    `steps`: how many iterates there were
    `feasible`: whether any iterate had the least ESS and a finite bound
    `diverged`: whether the search met a number that is not finite; the policy is then the best
        feasible iterate before
    `converged`: whether the search ended because a step gained nothing
    """

    policy: Gaussian
    bound: Scalar
    value: Scalar
    ess: Scalar
    trace: Float[Array, " steps"]
    steps: Count
    feasible: Truth
    diverged: Truth
    converged: Truth


def fit(
    logs: Logs,
    start: Gaussian,
    *,
    value_estimator: ValueEstimator | None = None,
    interval: IntervalFunction = ess_exact,
    alpha: float = 0.05,
    project: Projection = unconstrained,
    floor: float = FLOOR,
    optimiser: optax.GradientTransformation | None = None,
    steps: int = STEPS,
    limit: ArrayLike | None = None,
    size: Callable[[Array], Array] = ess.kish,
) -> Learnt:
    """Maximise the lower bound over the mean of a Gaussian, from `start`, which has the
    scale.

    Trust region: `size`(log weights) ≥ `floor` n, n rows, or users where the log has users. For
    n → ∞ Kish's size over n is exp(−D₂(π‖π₀)), D₂ the Rényi divergence log d₂, and
    `ess.perplexity` over n is exp(−KL(π‖π₀)): a floor on either is a ceiling on a divergence that
    needs no logging policy, only propensities. It enters as the smooth penalty
    s·max(0, log(floor n / size))², s the reward's standard deviation, in the search; only iterates
    that keep the floor are returned.
    `project` maps means to feasible ones: the search climbs bound∘project and goes on from the
    projected point. At most `steps` steps, or `limit` ≤ `steps` of them, which may be traced (1
    only judges the start). `optimiser` is `lbfgs` unless given. `jit`, and `vmap` over starts and
    logs.
    """
    value, bound = estimates(logs, value_estimator), lower(interval)
    unit = jnp.maximum(jnp.std(logs.reward), jnp.finfo(logs.reward.dtype).tiny)
    worst, least = jnp.min(logs.reward) - 10 * unit, max(floor * num_units(logs), 1e-9)

    def judge(at):
        made = value(Gaussian(project(at), start.scale))
        return _Point(at, bound(made, alpha).lower, made.value, size(made.log_weight))

    def loss(at):
        point = judge(at)
        short = jnp.maximum(math.log(least) - jnp.log(jnp.maximum(point.ess, 1)), 0)
        climbed = jnp.where(jnp.isfinite(point.bound), point.bound, worst)
        return unit * jnp.square(short) - climbed, point

    first = project(start.mean)
    if isinstance(limit, int) and limit == 1:
        search = _judged(judge(first), least, steps)
    else:
        method = _lbfgs(loss) if optimiser is None else _by_optax(optimiser, loss)
        limit = steps if limit is None else limit
        search = _climb(loss, method, project, first, least, steps, limit, TOLERANCE * unit)
    best = search.best
    return Learnt(
        policy=Gaussian(project(best.at), start.scale),
        bound=best.bound,
        value=best.value,
        ess=best.ess,
        trace=search.trace,
        steps=search.steps,
        feasible=jnp.isfinite(best.bound),
        diverged=search.diverged,
        converged=search.converged,
    )


# Methods: where to evaluate the objective next.


class _Method(NamedTuple):
    """How a search moves.

    `init`: place -> state
    `move`: (state, place, value, slope) -> next place, state, whether that place is an iterate and
        not a trial on the way to one
    """

    init: Callable[[Array], Any]
    move: Callable[..., tuple[Array, Any, Any]]


class _OnLine(NamedTuple):
    """L-BFGS between two evaluations: the `line` search from `origin` along `direction`.

    `searching`: whether the place that is evaluated is a trial of it
    """

    memory: optax.OptState
    origin: Array
    direction: Array
    line: LineSearch
    searching: Array


def _lbfgs(loss) -> _Method:
    """Full-batch L-BFGS (`optax.scale_by_lbfgs`) with a zoom line search, see `line_search`."""
    directions = optax.scale_by_lbfgs()

    def init(at):
        zero, one = jnp.zeros((), at.dtype), jnp.ones((), at.dtype)
        line = line_search.begin(zero, zero, one)
        return _OnLine(directions.init(at), at, at, line, jnp.asarray(False))

    def turn(state, at, value, slope):
        """At an iterate: the direction, and the first trial along it."""
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integer widths under x64
            uphill, memory = directions.update(slope, state.memory, at)
        downhill = -jnp.asarray(uphill, at.dtype)
        line = line_search.begin(value, jnp.dot(downhill, slope), state.line.trial)
        return _OnLine(memory, at, downhill, line, jnp.asarray(True))

    def move(state, at, value, slope):
        line, ended = line_search.tell(state.line, value, jnp.dot(state.direction, slope))
        told = state._replace(line=line, searching=~ended)
        state, arrived = where(
            state.searching,
            (told, ended),
            (turn(state, at, value, slope), jnp.asarray(False)),
        )
        return state.origin + state.line.trial * state.direction, state, arrived

    return _Method(init, move)


def _by_optax(optimiser, loss) -> _Method:
    """Any optimiser of optax: every place is an iterate; a line search of its own sees `loss`."""
    optimiser = optax.with_extra_args_support(optimiser)
    value_fn = jax.jit(lambda at: loss(at)[0])

    def move(state: Any, at, value, slope):
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integer widths under x64
            moves, state = optimiser.update(  # pyright: ignore[reportCallIssue]
                slope, state, at, value=value, grad=slope, value_fn=value_fn
            )
        moved: Any = optax.apply_updates(at, moves)
        return moved, state, jnp.asarray(True)

    return _Method(optimiser.init, move)


# The search.


class _Point(NamedTuple):
    """What the search knows of one place."""

    at: Array
    bound: Array
    value: Array
    ess: Array


class _Search(NamedTuple):
    """Where the search is, the best feasible point it has seen, and how it went.

    `at`: the place to evaluate next, an `iterate` or a trial on the way to one
    `best`: its bound is −inf if there was none
    `last`: the objective of the iterate before
    """

    at: Array
    iterate: Array
    state: Any
    best: _Point
    last: Array
    trace: Array
    steps: Array
    diverged: Array
    converged: Array


def _climb(loss, method, project, first, least, steps, limit, tolerance) -> _Search:
    """Evaluate place after place; the objective and its slope are compiled once."""
    gradient = jax.value_and_grad(loss, has_aux=True)

    def step(search):
        (now, point), slope = gradient(search.at)
        moved, state, arrives = method.move(search.state, search.at, now, slope)
        at = jnp.where(arrives, project(moved), moved)
        lost = search.iterate & ~(jnp.isfinite(now) & _finite(slope))
        return _Search(
            at=at,
            iterate=arrives,
            state=state,
            best=where(search.iterate, _better(search.best, point, least), search.best),
            last=jnp.where(search.iterate, now, search.last),
            trace=_set(search.trace, search.steps, search.iterate, point.bound),
            steps=search.steps + search.iterate.astype(jnp.int32),
            diverged=lost | (arrives & ~_finite(at)),
            converged=search.iterate & (jnp.abs(now - search.last) <= tolerance),
        )

    def going(search):
        return (search.steps < limit) & ~search.diverged & ~search.converged

    return lax.while_loop(going, step, _before(first, method.init(first), steps))


def _before(first, state, steps) -> _Search:
    """Before anything is evaluated."""
    nothing, no = jnp.full((), -jnp.inf, first.dtype), jnp.asarray(False)
    return _Search(
        at=first,
        iterate=~no,
        state=state,
        best=_Point(first, nothing, nothing, jnp.zeros((), first.dtype)),
        last=-nothing,
        trace=jnp.full(steps, jnp.nan, first.dtype),
        steps=jnp.zeros((), jnp.int32),
        diverged=no,
        converged=no,
    )


def _judged(point, least, steps) -> _Search:
    """A search that ends with its start, without a slope."""
    search = _before(point.at, None, steps)
    return search._replace(
        best=_better(search.best, point, least),
        trace=search.trace.at[0].set(point.bound),
        steps=search.steps + 1,
    )


def _set(trace, number, known, bound):
    """The trace with the bound of iterate `number`, if it is known."""
    return trace.at[number].set(jnp.where(known, bound, trace[number]))


def _better(best, point, least):
    """The better of two points; one without the least ESS, or a finite bound, does not count."""
    better = (point.ess >= least) & (point.bound > best.bound) & _finite(point.at)
    return where(better, point, best)


def _finite(tree):
    return functools.reduce(
        jnp.logical_and, [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
    )


def lower_bound(
    policy: Gaussian,
    logs: Logs,
    *,
    value_estimator: ValueEstimator | None = None,
    interval: IntervalFunction = ess_exact,
    alpha: float = 0.05,
) -> Scalar:
    """The one-sided lower bound of a policy's value at level `alpha`: the lower end of the interval
    at 2 alpha.
    """
    return lower(interval)(estimates(logs, value_estimator)(policy), alpha).lower

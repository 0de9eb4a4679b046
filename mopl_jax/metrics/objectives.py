"""Learnt metrics: the linear combination of K metrics that would have told past experiments'
winners most clearly.

**Experiments table** (Parquet, or JSON: a list of rows). One row for each experiment and arm:

| column | holds |
|---|---|
| `experiment` | name of the experiment |
| `arm` | name of the arm, unique in its experiment |
| `label` | `control`, one in each; else `winner`, `loser`, `aa` (as control), `unknown` |
| `n` | users in the arm, at least 2 |
| `mean_NAME` | mean over those users of metric NAME: K columns, in the order of the metrics |
| `covariance` | K × K covariance of the metrics over users: K lists, or K² numbers by row |
| `second_moment` | instead of `covariance`: the mean over users of x xᵀ, in the same shape |

`experiments.read` makes it a `History`; here are the objectives and the fit. Contracts: loss `z
(e,) -> (e,)` · objective `(History, include (e,), allowed (k,)) -> weights (k,)`, all scale-free
in the weights; `include` weighs each difference, so that leaving experiments out is a `vmap`.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float, Int

from mopl_jax.numerics import safe
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import Floats, PerRow, Scalar

START = 0.05  # added to u² and v²: both sides of a weight are tried
RATE = 0.05  # of Adam, on roots of weights that are of order one
# With an L1 penalty, weights below this share of the largest (in standard units) are zero.
SHARPEST = 1e-3


Weights = Float[Array, " k"]
Allowed = Bool[Array, " k"]
PerDifference = Float[Array, " e"]
Square = Float[Array, "k k"]


@pytree_dataclass(static=("names", "north_star"))
class History:
    """Differences treatment − control of past experiments, e of them in k metrics.

    `effect`: the difference Δ.
    `covariance`: S, the covariance of that difference.
    `size`: its users, 1/(1/n_t + 1/n_c).
    `sign`: +1 for a known winner, −1 for a known loser, else 0.
    `null`: whether it is an A/A test.
    `experiment`: index of its experiment; arms of one experiment share their control.
    `user_covariance`: covariance of the metrics over users.
    `names`: names of the metrics.
    `north_star`: index of the North Star in `names`.
    `halves`: Δ among two sets of users that do not overlap, where it is known; elsewhere NaN.
    """

    effect: Float[Array, "e k"]
    covariance: Float[Array, "e k k"]
    size: PerDifference
    sign: PerDifference
    null: Bool[Array, " e"]
    experiment: Int[Array, " e"]
    user_covariance: Square
    names: tuple[str, ...]
    north_star: int
    halves: Float[Array, "e 2 k"] | None = None


Objective = Callable[[History, PerDifference, Allowed], Weights]


def z_scores(weights: Weights, history: History) -> PerDifference:
    """z = ωᵀΔ / √(ωᵀSω) of every difference; 0 where ω is zero: no metric, no evidence."""
    flat = history.covariance.reshape(history.effect.shape[0], -1)
    variance = flat @ jnp.outer(weights, weights).ravel()
    return safe.divide(history.effect @ weights, safe.sqrt(variance))


def metric_reward(weights: Weights, signals: Float[Array, "n k"]) -> PerRow:
    """The learnt metric of each user, signals · ω: a reward like any other."""
    return signals @ weights


def signals_only(history: History) -> Allowed:
    """Every metric but the North Star, which is delayed: what may enter a learnt metric by
    default.
    """
    return jnp.arange(len(history.names)) != history.north_star


# Losses of z towards the known winner, p = Φ(−z) the one-sided p-value.


def mean_z(z: Floats) -> Floats:
    """−z: average sensitivity (Kharitonov et al., WSDM 2017); a few large experiments can buy
    it.
    """
    return -z


def mean_p(z: Floats) -> Floats:
    """p = Φ(−z): smooth type-II and type-III errors, bounded, not convex (Jeunen & Ustimenko, KDD
    2024, arXiv 2402.03915).
    """
    return norm.cdf(-z)


def log_p(z: Floats) -> Floats:
    """−log(1 − p) = −log Φ(z) ≥ p, convex in z; over its value at c it bounds the error 1[z < c]
    for every c.

    c = 0 is the wrong sign (type III), c = 1.64 a miss (type II). For covariances proportional
    to one another the mean over differences is convex on ωᵀSω ≤ 1. `descent` searches the rim,
    ωᵀSω = 1: the same minimum but where it lies inside, that is where labels contradict every
    metric.
    """
    return -norm.logcdf(z)


def p_log_p(z: Floats) -> Floats:
    """−p log(1 − p), between p² and −log(1 − p), convex in z: another reading of the bound;
    forgives small p sooner.
    """
    return -norm.cdf(-z) * norm.logcdf(z)


# Objectives in closed form.


def gls(history: History, include: PerDifference, allowed: Allowed) -> Weights:
    """ω ∝ (Σ S)⁻¹ Σ sΔ over known winners: the largest z of their pooled difference. One
    experiment: S⁻¹Δ.

    Differences count as independent. Those that share a control are not; with covariances
    proportional to one another that changes the length of ω alone.
    """
    known = include * jnp.abs(history.sign)
    pooled = jnp.einsum("e,eij->ij", known, history.covariance)
    return _solve(pooled, (known * history.sign) @ history.effect, allowed)


def proxy(history: History, include: PerDifference, allowed: Allowed) -> Weights:
    """ω ∝ (Λ + S̄)⁻¹ Λ e_N: the metric whose estimated effect correlates best with the true
    effect on the North Star.

    Λ is the covariance of true effects, `effect_covariance`, S̄ the mean noise of a difference
    (Tripuraneni et al., KDD 2024, arXiv 2309.07893). Needs no winner, only variation of the
    North Star's effects beyond their noise.
    """
    include = jnp.where(history.null, 0, include)
    true = effect_covariance(history, include)
    noise = jnp.einsum("e,eij->ij", _shares(include), history.covariance)
    return _solve(true + noise, true[:, history.north_star], allowed)


def effect_covariance(history: History, include: PerDifference) -> Square:
    """Λ: mean of ΔΔᵀ − S, shrunk towards its diagonal, negative eigenvalues set to 0.

    The covariance of *estimated* effects carries each experiment's noise; it is subtracted
    (Bibaut et al., KDD 2024, arXiv 2402.17637). Shrinkage intensity: that of Schäfer & Strimmer
    (2005), from the spread of the terms.
    """
    share = _shares(include)
    terms = _terms(history)
    mean = jnp.einsum("e,eij->ij", share, terms)
    error = jnp.einsum("e,eij->ij", jnp.square(share), jnp.square(terms - mean[None]))
    values, vectors = jnp.linalg.eigh(towards_diagonal(mean, error))
    return (vectors * jnp.maximum(values, 0)[None]) @ vectors.T


def _terms(history):
    """ΔΔᵀ − S (e, k, k), whose mean is the covariance of true effects."""
    return jnp.einsum("ei,ej->eij", history.effect, history.effect) - history.covariance


def proxy_quality(weights: Weights, history: History) -> PerDifference:
    """Correlation of the true effect on the North Star with the metric's estimated effect, at
    each difference's own noise.

    ωᵀΛe_N / √(ωᵀ(Λ+S)ω Λ_NN): below one by what the metric misses and by its noise (Tripuraneni
    et al., KDD 2024, arXiv 2309.07893). NaN where the North Star's effects do not vary beyond
    their noise.
    """
    true = _true_effects(history)
    noise = jnp.einsum("i,eij,j->e", weights, history.covariance, weights)
    variance = true[history.north_star, history.north_star] * (weights @ true @ weights + noise)
    return safe.divide(weights @ true[:, history.north_star], safe.sqrt(variance), jnp.nan)


def exchange_rate(weights: Weights, history: History) -> Scalar:
    """North Star units for one unit of the metric's effect, ωᵀΛe_N / ωᵀΛω: the regression of true
    effects through 0.
    """
    true = _true_effects(history)
    return safe.divide(weights @ true[:, history.north_star], weights @ true @ weights, jnp.nan)


def _true_effects(history):
    """Λ without the A/A tests, in the metrics' own units but estimated in standard ones: shrinkage
    knows no units.
    """
    standard, scale = scaled(history)
    return effect_covariance(standard, 1.0 - history.null.astype(history.effect.dtype)) * jnp.outer(
        scale, scale
    )


def towards_diagonal(matrix: Square, error: Square) -> Square:
    """(1−ρ) M + ρ diag M, ρ = Σ error / Σ M² over i ≠ j, at most 1; `error` are the entries'
    sampling variances.

    The intensity of least expected squared error (Ledoit & Wolf 2003; Schäfer & Strimmer 2005,
    their target D).
    """
    off = ~jnp.eye(matrix.shape[0], dtype=bool)
    square = jnp.sum(jnp.where(off, jnp.square(matrix), 0))
    share = safe.divide(jnp.sum(jnp.where(off, error, 0)), square)
    return jnp.where(off, matrix * (1 - jnp.clip(share, 0, 1)), matrix)


def _shares(include):
    return safe.divide(include, jnp.sum(include))


def _solve(matrix, vector, allowed):
    """matrix⁻¹ vector among the allowed metrics, 0 elsewhere; 0 where nothing is included."""
    both = allowed[:, None] & allowed[None, :]
    one = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    kept = jnp.where(both, matrix, one)
    solved = jnp.linalg.solve(
        jnp.where(jnp.trace(matrix) > 0, kept, one), jnp.where(allowed, vector, 0)
    )
    return jnp.where(allowed, solved, 0)


# Objectives by descent.


def descent(
    loss: Callable[[PerDifference], PerDifference],
    *,
    l1: float = 0.0,
    signs: tuple[int, ...] | None = None,
    steps: int = 400,
) -> Objective:
    """The objective mean loss(s z) + l1 · ‖ω‖₁ / √(ωᵀS̄ω) over known winners, minimised from the
    GLS weights.

    `signs`: +1, −1 or 0 (free) for each metric. ω = u² − v² (Hoff 2017): u² + v² is then the L1
    penalty and a sign is a fixed zero, so that plain gradients serve; the size of ω, which the
    loss ignores, is held near the unit sphere.
    """

    def objective(history, include, allowed):
        known = include * jnp.abs(history.sign)
        share, noise = _shares(known), jnp.einsum("e,eij->ij", _shares(known), history.covariance)
        sides = _sides(allowed, signs)

        def total(roots):
            up, down = jnp.where(sides, jnp.square(roots), 0)
            weights = up - down
            square = weights @ noise @ weights
            length = jnp.sqrt(jnp.maximum(square, jnp.finfo(weights.dtype).tiny))
            value = jnp.sum(share * loss(history.sign * z_scores(weights, history)))
            return value + l1 * jnp.sum(up + down) / length + jnp.square(square - 1)

        start = _roots(gls(history, include, allowed), noise)
        up, down = jnp.where(sides, jnp.square(_minimise(total, start, steps)), 0)
        weights = up - down
        floor = SHARPEST * jnp.max(jnp.abs(weights)) if l1 > 0 else 0.0
        return jnp.where((jnp.abs(weights) >= floor) & (jnp.sum(known) > 0), weights, 0)

    return objective


def _sides(allowed, signs):
    """Which metrics may be positive and which negative, (2, k)."""
    wanted = jnp.asarray(signs if signs is not None else (0,) * allowed.shape[0])
    return jnp.stack([allowed & (wanted >= 0), allowed & (wanted <= 0)])


def _roots(weights, noise):
    """u and v, (2, k), of the weights on the unit sphere; none starts at 0, where its gradient
    would vanish.
    """
    length = jnp.sqrt(jnp.maximum(weights @ noise @ weights, jnp.finfo(weights.dtype).tiny))
    return jnp.sqrt(jnp.maximum(jnp.stack([weights, -weights]) / length, 0) + START)


def _minimise(function, start, steps):
    """Adam with a cosine schedule: a fixed number of cheap steps, so that many fits are one
    `vmap`.
    """
    optimiser = optax.adam(optax.cosine_decay_schedule(RATE, steps))

    def step(carry, _):
        params, state = carry
        # optax mixes its integer step count with floats
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimiser.update(jax.grad(function)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    (found, _), _ = jax.lax.scan(step, (start, optimiser.init(start)), None, length=steps)
    return jnp.asarray(found)


LOSSES = {"mean_z": mean_z, "mean_p": mean_p, "log_p": log_p, "p_log_p": p_log_p}
CLOSED = {"gls": gls, "proxy": proxy}
NAMED: dict[str, Objective] = {**{name: descent(loss) for name, loss in LOSSES.items()}, **CLOSED}


# The fit.


def learn(
    history: History,
    objective: Objective = gls,
    include: PerDifference | None = None,
    allowed: Allowed | None = None,
) -> Weights:
    """Weights ω (k,) of unit variance over users, ωᵀ `user_covariance` ω = 1; all zero where
    there is nothing to learn from.

    Fitted in standard units (each metric over the root mean noise of its differences), each S
    shrunk towards its diagonal as far as its number of users calls for. `include` defaults to
    all differences, `allowed` to all metrics but the North Star.
    """
    include = jnp.ones_like(history.sign) if include is None else include
    standard, scale = _standardise(history)
    allowed = signals_only(history) if allowed is None else allowed
    weights = objective(standard, include, allowed) / scale
    return safe.divide(weights, jnp.sqrt(weights @ history.user_covariance @ weights))


def _standardise(history):
    standard, scale = scaled(history)
    covariance = jax.vmap(_shrunk)(standard.covariance, history.size)
    return dataclasses.replace(standard, covariance=covariance), scale


def scaled(history: History) -> tuple[History, Floats]:
    """The history with mean noise variance 1 in every metric, and the scale (k,) that was divided
    by.
    """
    scale = jnp.sqrt(jnp.mean(jnp.diagonal(history.covariance, axis1=1, axis2=2), axis=0))
    fields = {
        "effect": history.effect / scale[None],
        "covariance": history.covariance / jnp.outer(scale, scale)[None],
        "halves": None if history.halves is None else history.halves / scale[None, None],
    }
    return dataclasses.replace(history, **fields), scale


def _shrunk(covariance, size):
    """S towards its diagonal, by the sampling variance of a covariance of n normal rows, (S_ii
    S_jj + S_ij²) / n.

    `size` is that n where the control is much the larger arm; with equal arms S is four times as
    precise, and shrunk too far.
    """
    variance = jnp.diagonal(covariance)
    return towards_diagonal(
        covariance, (jnp.outer(variance, variance) + jnp.square(covariance)) / size
    )


@functools.partial(jax.jit, static_argnames="objective")
def leave_one_out(
    history: History, objective: Objective = gls, allowed: Allowed | None = None
) -> Float[Array, "e k"]:
    """For each difference the weights learnt without its experiment (all arms of it)."""

    def without(held):
        return learn(
            history,
            objective,
            jnp.where(history.experiment == held, 0, jnp.ones_like(history.sign)),
            allowed,
        )

    return jax.vmap(without)(history.experiment)

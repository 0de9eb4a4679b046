"""Whether a log can answer for a policy: what to look at before an interval is believed."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import erfc
from jaxtyping import Array, ArrayLike, Float

from mopl_jax.diagnostics.verdicts import verdict_of
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.estimator import Member, given
from mopl_jax.estimators.weight_totals import WeightTotals
from mopl_jax.numerics import safe
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.reduce import ADD, Block, Monoid, Stage, Whole, run_passes, whole_block
from mopl_jax.numerics.shapes import Count, PerBlockRow, PerRow, Scalar, Truth
from mopl_jax.policies.policy import Policy

Range = tuple[float, float]
UNBOUNDED = (-math.inf, math.inf)


@pytree_dataclass()
class Diagnosis:
    """What the importance weights and rewards of a log say of its answer for one policy.

    `kish`, `max_weight`, `perplexity`, `reward_aware`: effective sample sizes
    `largest_share`: the largest normalised weight
    `mean_weight`: mean(w)
    `mean_weight_error`: its standard error; 0 for one unit
    `mean_weight_p_value`: two-sided, of E w = 1
    `pareto_k`: the tail index; −inf for equal weights, inf where too few rows
    `out_of_range`: how many rewards violate the given range
    `num_not_modal`: how many rewards of rows with weight are not the modal one; NaN if not asked
    `num_interior`: how many rewards are not at an end of the range
    `unseen`: see `unseen`; NaN where the policies are not known
    `bounded`: whether a reward range is known
    `verdict`: 0, 1, 2 for trust, caution, refuse (`verdicts.VERDICTS`)
    """

    kish: Scalar
    max_weight: Scalar
    perplexity: Scalar
    reward_aware: Scalar
    largest_share: Scalar
    mean_weight: Scalar
    mean_weight_error: Scalar
    mean_weight_p_value: Scalar
    pareto_k: Scalar
    out_of_range: Count
    num_not_modal: Scalar
    num_interior: Scalar
    unseen: Scalar
    bounded: Truth
    verdict: Count


def diagnose(
    estimate: Estimate,
    reward_range: Range = UNBOUNDED,
    unseen: ArrayLike = math.nan,
    modal_reward: ArrayLike = math.nan,
) -> Diagnosis:
    """The diagnosis of an estimate in memory.

    Its `log_weight` are taken as log importance weights, so it is not for differences. `unseen` is
    that of the policies, if they are known; `modal_reward` what rewards are compared to.
    """
    rows, n = given(lambda columns: columns), estimate.influence.shape[0]
    stage = diagnosis_stage(rows, n, reward_range, lambda totals: unseen, modal_reward)
    return run_passes(Whole(whole_block(estimate)), (*rows.stages, stage))


class WeightSums(NamedTuple):
    """Sums over rows of normalised weight p, weight w, residual e, and the largest log weights.

    `residual`: Σpe²
    `heavy`: Σp²e²
    `entropy`: Σ p log p
    `square`: Σ (w − mean w)²
    `outside`, `not_modal`, `interior`: numbers of rewards
    `tail` (k,): the largest log weights, falling
    """

    residual: Scalar
    heavy: Scalar
    entropy: Scalar
    square: Scalar
    outside: Scalar
    not_modal: Scalar
    interior: Scalar
    tail: Float[Array, " k"]


def _merge(parts: WeightSums) -> WeightSums:
    tail = lax.top_k(parts.tail.reshape(-1), parts.tail.shape[1])[0]
    return ADD.merge(parts)._replace(tail=tail)


def _empty(part: WeightSums) -> WeightSums:
    return ADD.empty(part)._replace(tail=jnp.full_like(part.tail, -jnp.inf))


def diagnosis_stage(
    member: Member,
    n: int,
    reward_range: Range = UNBOUNDED,
    unseen: Callable[[WeightTotals], ArrayLike] = lambda totals: math.nan,
    modal_reward: ArrayLike = math.nan,
) -> Stage:
    """The pass after which the state is the diagnosis of `member`, whose log has `n` rows."""

    def summarise(state, block):
        return _sums(state.totals, member.rows(state, block), block, n, reward_range, modal_reward)

    def finish(state, sums):
        bounded = any(map(math.isfinite, reward_range))
        return _diagnosis(state.totals, sums, n, unseen(state.totals), bounded)

    return Stage(summarise, Monoid(_merge, _empty), finish)


def _sums(
    totals: WeightTotals, rows: Estimate, block: Block, n: int, reward_range, modal_reward
) -> WeightSums:
    log_weight, reward = rows.log_weight, rows.reward
    p, one = totals.share(log_weight), block.mask(jnp.ones_like(log_weight))
    low, high = (jnp.asarray(end, reward.dtype) for end in reward_range)
    modal = jnp.asarray(modal_reward, reward.dtype)
    residual = jnp.nan_to_num(rows.residual)

    def count(hits):
        return jnp.sum(jnp.where(hits, one, 0))

    kept = tail_size(n) + 1
    filled = jnp.pad(log_weight, (0, max(kept - log_weight.shape[0], 0)), constant_values=-jnp.inf)
    return WeightSums(
        residual=jnp.sum(p * jnp.square(residual)),
        heavy=jnp.sum(jnp.square(p * residual)),
        entropy=jnp.sum(jnp.where(p > 0, p * jnp.log(safe.positive(p)), 0)),
        square=jnp.sum(one * jnp.square(jnp.exp(log_weight) - totals.mean_weight)),
        outside=count((reward < low) | (reward > high)),
        not_modal=count((log_weight > -jnp.inf) & (reward != modal)),
        interior=count((reward != low) & (reward != high)),
        tail=lax.top_k(filled, kept)[0],
    )


def _diagnosis(totals: WeightTotals, sums: WeightSums, n: int, unseen, bounded) -> Diagnosis:
    mean, error = totals.mean_weight, jnp.sqrt(sums.square / (max(n - 1, 1) * n))
    found = Diagnosis(
        kish=safe.reciprocal(totals.sum_p2),
        max_weight=safe.reciprocal(totals.max_p),
        perplexity=jnp.where(totals.some, jnp.exp(-sums.entropy), 0),
        reward_aware=safe.divide(sums.residual, sums.heavy),
        largest_share=totals.max_p,
        mean_weight=mean,
        mean_weight_error=error,
        mean_weight_p_value=mean_weight_p_value(mean, error),
        pareto_k=tail_shape(jnp.flip(sums.tail)),
        out_of_range=sums.outside.astype(jnp.int32),
        num_not_modal=sums.not_modal,
        num_interior=sums.interior,
        unseen=jnp.asarray(unseen, mean.dtype),
        bounded=jnp.asarray(bounded),
        verdict=jnp.zeros((), jnp.int32),
    )
    return dataclasses.replace(found, verdict=verdict_of(found, n))


def unseen(
    target: Policy, logging: Policy, log_weight: PerRow, draws: int = 4096, seed: int = 0
) -> Scalar:
    """P(w(a) > the largest logged weight) for a ~ target: the share of the target that the log
    has not seen.

    By `draws` draws of the target; a weight larger by less than 1 % is not counted. Since E_π
    1{w > c} = E_π₀ w 1{w > c}, it is as well the share of the weights' mean that has yet to be
    drawn; it contains what lies outside of the logging policy's support, where w = ∞.
    """
    action = jax.vmap(target.sample)(jax.random.split(jax.random.key(seed), draws))
    played, logged = (jax.vmap(policy.log_density)(action) for policy in (target, logging))
    return jnp.mean((played - logged > jnp.max(log_weight) + 0.01).astype(log_weight.dtype))


def mean_weight_p_value(mean: Scalar, error: Scalar) -> Scalar:
    """Two-sided p-value of E w = 1 from mean(w) and its standard error."""
    eps = jnp.finfo(mean.dtype).eps
    varies = error > 64 * eps * mean
    z = jnp.abs(mean - 1) / jnp.where(varies, error, 1)
    exact = jnp.abs(mean - 1) < 64 * eps
    return jnp.nan_to_num(jnp.where(varies, erfc(z * math.sqrt(0.5)), jnp.where(exact, 1, 0)))


def pareto_k(log_weight: PerRow) -> Scalar:
    """Shape k of a generalised Pareto tail of the weights: moments of order 1/k and above are
    infinite.

    Fitted to the min(n/5, 3√n) largest weights above the next one (PSIS: Vehtari, Simpson,
    Gelman, Yao & Gabry, JMLR 2024, arXiv 1507.02646). inf where that is fewer than five rows,
    −inf where the tail weights are equal.
    """
    n = log_weight.shape[0]
    return tail_shape(jnp.sort(log_weight)[n - tail_size(n) - 1 :])


def tail_size(n: int) -> int:
    """How many of n weights are the tail."""
    return math.ceil(min(0.2 * n, 3 * math.sqrt(n)))


def tail_shape(log_weight: PerBlockRow) -> Scalar:
    """`pareto_k` from the sorted log weights of the tail and the next one."""
    if log_weight.shape[0] < 6:
        return jnp.where(_equal(log_weight), -jnp.inf, jnp.asarray(jnp.inf, log_weight.dtype))
    tail = jnp.exp(log_weight - _finite_max(log_weight))
    return jnp.where(_equal(tail), -jnp.inf, generalised_pareto_shape(tail[1:] - tail[0]))


def generalised_pareto_shape(exceedances: PerBlockRow) -> Scalar:
    """Zhang & Stephens' (2009) estimate of k from sorted exceedances ≥ 0, shrunk towards ½ by
    ten rows as in PSIS.

    θ averages a grid with weights proportional to the profile likelihood; k = mean log(1 − θx).
    """
    x, m = exceedances, exceedances.shape[0]
    points = 30 + math.isqrt(m)
    top = jnp.where(x[-1] > 0, x[-1], 1)
    quartile = x[max(math.floor(m / 4 + 0.5) - 1, 0)]
    quartile = jnp.where(
        quartile > 0, quartile, jnp.min(jnp.where(x > 0, x, top))
    )  # ties with the row below the tail
    grid = 1 - jnp.sqrt(points / (jnp.arange(1, points + 1, dtype=x.dtype) - 0.5))
    theta = 1 / top + grid / (3 * quartile)
    shape = _profile_shape(theta[:, None], x[None, :])
    log_likelihood = m * (jnp.log(-theta / shape) - shape - 1)
    likelihood = jnp.exp(log_likelihood - jnp.max(log_likelihood))
    mean_theta = jnp.sum(theta * likelihood) / jnp.sum(likelihood)
    return (_profile_shape(mean_theta, x) * m + 5) / (m + 10)


def _profile_shape(theta, x):
    return jnp.mean(jnp.log1p(-theta * x), axis=-1)


def _finite_max(x):
    top = jnp.max(x)
    return jnp.where(jnp.isfinite(top), top, 0)


def _equal(x) -> Truth:
    return jnp.max(x) == jnp.min(x)

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
    `mean_weight_p_value`: two-sided, of E w = 1 up to `rounding`, see `mean_weight_p_value`
    `rounding`: how far rounded densities may move the mean weight
    `pareto_k`: the tail index; −inf for equal weights, inf where too few rows
    `influence_k`: that of the sizes of the influence terms; −inf where rewards have two values
    `effective_terms`: (Σψ²)²/Σψ⁴ of the influence terms ψ, as many as make their variance
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
    rounding: Scalar
    pareto_k: Scalar
    influence_k: Scalar
    effective_terms: Scalar
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
    facts = DiagnosisFacts(reward_range, lambda totals: unseen, modal_reward)
    stage = diagnosis_stage(rows, n, facts)
    return run_passes(Whole(whole_block(estimate)), (*rows.stages, stage))


class WeightSums(NamedTuple):
    """Sums over rows of normalised weight p, weight w, residual e, and the largest log weights.

    `residual`: Σpe²
    `heavy`: Σp²e²
    `entropy`: Σ p log p
    `square`: Σ (x − mean x)² with x = w − size
    `rounding`: Σ p of the errors of log densities
    `betting` (k,): Σ log(1 + λx) at each λ of `bets`
    `second`, `fourth`: Σy² and Σy⁴ of y = ψ / (n max p), ψ the influence
    `outside`, `not_modal`, `interior`, `graded`: numbers of rewards; graded are not 0, 1, an end
    `tail` (k,): the largest log weights a row, falling
    `influence` (k,): the largest log |influence|, falling
    """

    residual: Scalar
    heavy: Scalar
    entropy: Scalar
    square: Scalar
    rounding: Scalar
    betting: Float[Array, " bets"]
    second: Scalar
    fourth: Scalar
    outside: Scalar
    not_modal: Scalar
    interior: Scalar
    graded: Scalar
    tail: Float[Array, " k"]
    influence: Float[Array, " k"]


def _merge(parts: WeightSums) -> WeightSums:
    return ADD.merge(parts)._replace(tail=_top(parts.tail), influence=_top(parts.influence))


def _top(tails):
    return lax.top_k(tails.reshape(-1), tails.shape[-1])[0]


def _empty(part: WeightSums) -> WeightSums:
    none = jnp.full_like(part.tail, -jnp.inf)
    return ADD.empty(part)._replace(tail=none, influence=none)


class DiagnosisFacts(NamedTuple):
    """What else a diagnosis looks at.

    `reward_range`: ends between which all rewards are said to be
    `unseen`: of the totals, see `unseen`
    `modal_reward`: what rewards are compared to
    `size`: of a block's units, rows of each over the mean of all; 1 where rows are the units
    `sizes`: the smallest and the largest of these
    `rounding`: of a block, the largest errors of its log weights, (m,) or one for all
    """

    reward_range: Range = UNBOUNDED
    unseen: Callable[[WeightTotals], ArrayLike] = lambda totals: math.nan
    modal_reward: ArrayLike = math.nan
    size: Callable[[Block], ArrayLike] = lambda block: 1.0
    sizes: tuple[ArrayLike, ArrayLike] = (1.0, 1.0)
    rounding: Callable[[Block], ArrayLike] = lambda block: 0.0


def diagnosis_stage(member: Member, n: int, facts: DiagnosisFacts = DiagnosisFacts()) -> Stage:  # noqa: B008
    """The pass after which the state is the diagnosis of `member`, whose log has `n` units."""

    def summarise(state, block):
        return _sums(state.totals, member.rows(state, block), block, n, facts)

    def finish(state, sums):
        return _diagnosis(state.totals, sums, n, facts)

    return Stage(summarise, Monoid(_merge, _empty), finish)


def _sums(
    totals: WeightTotals, rows: Estimate, block: Block, n: int, facts: DiagnosisFacts
) -> WeightSums:
    log_weight, reward = rows.log_weight, rows.reward
    p, one = totals.share(log_weight), block.mask(jnp.ones_like(log_weight))
    low, high = (jnp.asarray(end, reward.dtype) for end in facts.reward_range)
    modal = jnp.asarray(facts.modal_reward, reward.dtype)
    residual = jnp.nan_to_num(rows.residual)
    influence = block.mask(jnp.nan_to_num(rows.influence))
    unit = safe.reciprocal(totals.num_rows * totals.max_p)
    size = jnp.broadcast_to(jnp.asarray(facts.size(block), p.dtype), p.shape)
    error = jnp.broadcast_to(jnp.asarray(facts.rounding(block), p.dtype), p.shape)
    excess = block.mask(jnp.exp(log_weight) - size)

    def count(hits):
        return jnp.sum(jnp.where(hits, one, 0))

    def largest(values):
        kept = tail_size(n) + 1
        rest = max(kept - values.shape[0], 0)
        return lax.top_k(jnp.pad(values, (0, rest), constant_values=-jnp.inf), kept)[0]

    bets = signed_bets(totals, facts.sizes)
    return WeightSums(
        residual=jnp.sum(p * jnp.square(residual)),
        heavy=jnp.sum(jnp.square(p * residual)),
        entropy=jnp.sum(jnp.where(p > 0, p * jnp.log(safe.positive(p)), 0)),
        square=jnp.sum(one * jnp.square(excess - (totals.mean_weight - 1))),
        rounding=jnp.sum(jnp.where(p > 0, p * error, 0)),
        betting=jnp.sum(jnp.log1p(bets[:, None] * excess[None, :]), axis=1),
        second=jnp.sum(jnp.square(influence * unit)),
        fourth=jnp.sum((influence * unit) ** 4),
        outside=count((reward < low) | (reward > high)),
        not_modal=count((log_weight > -jnp.inf) & (reward != modal)),
        interior=count((reward != low) & (reward != high)),
        graded=count((reward != low) & (reward != high) & (reward != 0) & (reward != 1)),
        tail=largest(log_weight - jnp.log(size)),
        influence=largest(safe.log(jnp.abs(influence))),
    )


def _diagnosis(totals: WeightTotals, sums: WeightSums, n: int, facts: DiagnosisFacts) -> Diagnosis:
    mean, error = totals.mean_weight, jnp.sqrt(sums.square / max(n - 1, 1) / n)
    rounding = sums.rounding + 64 * jnp.finfo(mean.dtype).eps
    found = Diagnosis(
        kish=safe.reciprocal(totals.sum_p2),
        max_weight=safe.reciprocal(totals.max_p),
        perplexity=jnp.where(totals.some, jnp.exp(-sums.entropy), 0),
        reward_aware=safe.divide(sums.residual, sums.heavy),
        largest_share=totals.max_p,
        mean_weight=mean,
        mean_weight_error=error,
        mean_weight_p_value=mean_weight_p_value(totals, sums.betting, rounding, facts.sizes),
        rounding=rounding,
        pareto_k=tail_shape(jnp.flip(sums.tail)),
        influence_k=jnp.where(sums.graded > 0, tail_shape(jnp.flip(sums.influence)), -jnp.inf),
        effective_terms=safe.divide(jnp.square(sums.second), sums.fourth),
        out_of_range=sums.outside.astype(jnp.int32),
        num_not_modal=sums.not_modal,
        num_interior=sums.interior,
        unseen=jnp.asarray(facts.unseen(totals), mean.dtype),
        bounded=jnp.asarray(any(map(math.isfinite, facts.reward_range))),
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


BETS = 24


def signed_bets(totals: WeightTotals, sizes: tuple[ArrayLike, ArrayLike]) -> Float[Array, " bets"]:
    """Values λ against E x = 0 for x = w − size, of the sign of mean(x), falling in |λ|.

    From the largest that leaves 1 + λx positive for every row, by equal ratios to a quarter of
    mean(x) / mean(w − 1)², below which no sup is.
    """
    dtype = totals.mean_weight.dtype
    gap, heaviest = totals.mean_weight - 1, jnp.exp(totals.log_max)
    smallest, largest = (jnp.asarray(size, dtype) for size in sizes)
    reach = jnp.where(gap > 0, largest, jnp.maximum(heaviest - smallest, 0))
    most = (1 - 1e3 * jnp.finfo(dtype).eps) / jnp.maximum(reach, 1e-6)
    square = jnp.square(heaviest) * (1 + totals.rest2) / totals.num_rows
    spread = jnp.maximum(square - 2 * totals.mean_weight + 1, jnp.finfo(dtype).tiny)
    least = 0.25 * jnp.minimum(most, jnp.abs(gap) / spread)
    share = jnp.arange(BETS, dtype=dtype) / (BETS - 1)
    least = jnp.maximum(least, 1e-9 * most)
    return jnp.sign(gap) * most * (least / most) ** share


def mean_weight_p_value(
    totals: WeightTotals,
    betting: Float[Array, " bets"],
    rounding: Scalar,
    sizes: tuple[ArrayLike, ArrayLike],
) -> Scalar:
    """Two-sided p-value of E x = 0, x = w − size, by the empirical likelihood ratio.

    The log ratio is sup_λ Σ log(1 + λx) (Owen, Empirical Likelihood, 2001), 2 of it χ² with one
    degree of freedom: for an arm that is played with probability p it is n KL(p̂ ‖ p), the
    binomial's. `betting` has the sums at `signed_bets`; a parabola through the best three gives the
    sup. Densities that are right up to rounding have |E x| ≤ `rounding`, which takes n λ rounding
    away. Where mean(w) < 1 one row as heavy as the heaviest is added (after Chen, Variyath &
    Abraham, JCGS 2008): a row less than expected is no evidence, and a studentised mean, whose
    error is small exactly where heavy rows are missing, refuses 1 % of right logs of an arm of 1 %
    at level 1e-4 (benchmarks/mean_weight.py). 0 where no row has weight.
    """
    bets, n = signed_bets(totals, sizes), totals.num_rows
    heaviest = jnp.exp(totals.log_max) - 1
    added = jnp.log1p(jnp.minimum(bets, 0) * jnp.maximum(heaviest, 0))
    ratio = betting + added - n * jnp.abs(bets) * rounding
    sup = jnp.maximum(_vertex(bets, ratio), 0)
    p_value = jnp.where(totals.some, erfc(jnp.sqrt(sup)), 0)
    return jnp.where(jnp.abs(totals.mean_weight - 1) <= rounding, 1, jnp.nan_to_num(p_value))


def _vertex(x, y):
    """The largest value of the parabola through the best of the points (x, y) and those beside."""
    best = jnp.clip(jnp.argmax(y), 1, y.shape[0] - 2)
    (a, b, c), (u, v, w) = (lax.dynamic_slice(z, (best - 1,), (3,)) for z in (x, y))
    left, right = (v - u) / (b - a), (w - v) / (c - b)
    bend = (right - left) / (c - a)
    slope = left + bend * (b - a)
    top = jnp.where(bend < 0, v - jnp.square(slope) / (4 * jnp.minimum(bend, -1e-300)), v)
    inside = jnp.abs(-slope / (2 * bend)) <= jnp.maximum(jnp.abs(c - b), jnp.abs(b - a))
    return jnp.where((bend < 0) & inside, jnp.maximum(top, jnp.max(y)), jnp.max(y))


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
    Exceedances of 0, ties with the row below the tail, are not counted: values on a lattice would
    have the mass at 0 of a heavy tail.
    """
    x, counted = exceedances, exceedances > 0
    m = jnp.maximum(jnp.sum(counted), 1)
    points = 30 + math.isqrt(x.shape[0])
    quartile = x[x.shape[0] - m + jnp.maximum((m + 2) // 4 - 1, 0)]
    top, quartile = (jnp.where(end > 0, end, 1) for end in (x[-1], quartile))
    grid = 1 - jnp.sqrt(points / (jnp.arange(1, points + 1, dtype=x.dtype) - 0.5))
    theta = 1 / top + grid / (3 * quartile)
    size = m.astype(x.dtype)

    def profile(theta):
        return jnp.sum(jnp.where(counted, jnp.log1p(-theta * x), 0)) / size

    shape = jax.vmap(profile)(theta)
    log_likelihood = size * (jnp.log(-theta / shape) - shape - 1)
    likelihood = jnp.exp(log_likelihood - jnp.max(log_likelihood))
    mean_theta = jnp.sum(theta * likelihood) / jnp.sum(likelihood)
    return (profile(mean_theta) * size + 5) / (size + 10)


def _finite_max(x):
    top = jnp.max(x)
    return jnp.where(jnp.isfinite(top), top, 0)


def _equal(x) -> Truth:
    return jnp.max(x) == jnp.min(x)

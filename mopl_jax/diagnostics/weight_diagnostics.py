"""Whether a log can answer for a policy: what to look at before an interval is believed."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.scipy.special import erfc
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from mopl_jax.estimators import ess
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.policies.policy import Policy

VERDICTS = ("trust", "caution", "refuse")

# What they are worth is measured by benchmarks/verdict.py: unseen heavy weights are refused, and
# what is trusted covers. Few effective rows are refused for their width, `recommended` covers there
# as well (docs/intervals.md).
REFUSE_ESS = 10.0  # below, the Student quantile is above 2.2 and one row decides
CAUTION_ESS = 100.0
CAUTION_LARGEST = 0.1  # one row with a tenth of the weight
REFUSE_PARETO_K = 1.0  # the mean weight of such a tail is infinite
CAUTION_PARETO_K = 0.7  # or 1 − 1/log₁₀ n if less (Vehtari et al., JMLR 2024)
REFUSE_P_VALUE = (
    1e-4  # the weights do not have mean one: wrong propensities, or a heavy tail not yet seen
)
CAUTION_P_VALUE = 0.01
REFUSE_UNSEEN = 0.2  # of the target's probability: as much of its value is a guess
CAUTION_UNSEEN = 0.05


@pytree_dataclass()
class Diagnosis:
    """Effective sample sizes, the weights' tail and mean, and a verdict: 0, 1, 2 for trust,
    caution, refuse (`VERDICTS`).

    `largest_share` is the largest normalised weight, `mean_weight` mean(w) with the two-sided
    `mean_weight_p_value` of E w = 1, `pareto_k` the tail index (−inf for equal weights, inf
    where too few rows), `out_of_range` how many rewards violate the given range, `unseen` see
    `unseen` (NaN where the policies are not known).
    """

    kish: Float[Array, ""]
    max_weight: Float[Array, ""]
    perplexity: Float[Array, ""]
    reward_aware: Float[Array, ""]
    largest_share: Float[Array, ""]
    mean_weight: Float[Array, ""]
    mean_weight_p_value: Float[Array, ""]
    pareto_k: Float[Array, ""]
    out_of_range: Int[Array, ""]
    unseen: Float[Array, ""]
    verdict: Int[Array, ""]


def diagnose(
    estimate: Estimate,
    reward_range: tuple[float, float] = (-math.inf, math.inf),
    unseen: ArrayLike = math.nan,
) -> Diagnosis:
    """All diagnostics of one estimate; `log_weight` are log importance weights, so not for
    differences.

    `unseen` is that of the policies, if they are known.
    """
    log_weight = estimate.log_weight
    p_value, mean = mean_weight_test(log_weight)
    low, high = (jnp.asarray(end, estimate.reward.dtype) for end in reward_range)
    facts = {
        "kish": ess.kish(log_weight),
        "max_weight": ess.max_weight(log_weight),
        "perplexity": ess.perplexity(log_weight),
        "reward_aware": ess.reward_aware(log_weight, jnp.nan_to_num(estimate.residual)),
        "largest_share": jnp.max(ess.normalise(log_weight)),
        "mean_weight": mean,
        "mean_weight_p_value": p_value,
        "pareto_k": pareto_k(log_weight),
        "out_of_range": jnp.sum((estimate.reward < low) | (estimate.reward > high)),
        "unseen": jnp.asarray(unseen, log_weight.dtype),
    }
    return judged(facts, log_weight.shape[0])


def judged(facts: Mapping[str, Array], n: int) -> Diagnosis:
    """A diagnosis from its quantities, by field, and the number of rows."""
    return Diagnosis(**facts, verdict=_verdict(facts, n))


def _verdict(facts, n):
    k = facts["pareto_k"]
    known = k < jnp.inf
    refuse = (
        (facts["kish"] < REFUSE_ESS)
        | (known & (k >= REFUSE_PARETO_K))
        | (facts["mean_weight_p_value"] < REFUSE_P_VALUE)
        | (facts["out_of_range"] > 0)
        | (facts["unseen"] > REFUSE_UNSEEN)
    )
    caution = (
        (facts["kish"] < CAUTION_ESS)
        | (facts["largest_share"] > CAUTION_LARGEST)
        | (k >= min(CAUTION_PARETO_K, 1 - 1 / math.log10(max(n, 11))))
        | (facts["mean_weight_p_value"] < CAUTION_P_VALUE)
        | (facts["unseen"] > CAUTION_UNSEEN)
    )
    return jnp.where(refuse, 2, jnp.where(caution, 1, 0)).astype(jnp.int32)


def unseen(
    target: Policy,
    logging: Policy,
    log_weight: Float[Array, " n"],
    draws: int = 4096,
    seed: int = 0,
) -> Float[Array, ""]:
    """P(w(a) > the largest logged weight) for a ~ target: the share of the target that the log
    has not seen.

    By `draws` draws of the target; a weight larger by less than 1 % is not counted. Since E_π
    1{w > c} = E_π₀ w 1{w > c}, it is as well the share of the weights' mean that has yet to be
    drawn; it contains what lies outside of the logging policy's support, where w = ∞.
    """
    action = jax.vmap(target.sample)(jax.random.split(jax.random.key(seed), draws))
    played, logged = (jax.vmap(policy.log_density)(action) for policy in (target, logging))
    return jnp.mean((played - logged > jnp.max(log_weight) + 0.01).astype(log_weight.dtype))


def mean_weight_test(log_weight: Float[Array, " n"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Two-sided p-value of E w = 1 by the normal test, and mean(w). Where weights do not vary: 1 if
    they are one, else 0.
    """
    n, w = log_weight.shape[0], jnp.exp(log_weight)
    mean = jnp.mean(w)
    error = jnp.sqrt(jnp.sum(jnp.square(w - mean)) / (max(n - 1, 1) * n))
    return mean_weight_p_value(mean, error), mean


def mean_weight_p_value(mean: Float[Array, ""], error: Float[Array, ""]) -> Float[Array, ""]:
    """Two-sided p-value of E w = 1 from mean(w) and its standard error."""
    eps = jnp.finfo(mean.dtype).eps
    varies = error > 64 * eps * mean
    z = jnp.abs(mean - 1) / jnp.where(varies, error, 1)
    exact = jnp.abs(mean - 1) < 64 * eps
    return jnp.nan_to_num(jnp.where(varies, erfc(z * math.sqrt(0.5)), jnp.where(exact, 1, 0)))


def pareto_k(log_weight: Float[Array, " n"]) -> Float[Array, ""]:
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


def tail_shape(log_weight: Float[Array, " m"]) -> Float[Array, ""]:
    """`pareto_k` from the sorted log weights of the tail and the next one."""
    if log_weight.shape[0] < 6:
        return jnp.where(_equal(log_weight), -jnp.inf, jnp.asarray(jnp.inf, log_weight.dtype))
    tail = jnp.exp(log_weight - _finite_max(log_weight))
    return jnp.where(_equal(tail), -jnp.inf, generalised_pareto_shape(tail[1:] - tail[0]))


def generalised_pareto_shape(exceedances: Float[Array, " m"]) -> Float[Array, ""]:
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


def _equal(x) -> Bool[Array, ""]:
    return jnp.max(x) == jnp.min(x)


def reasons(diagnosis: Diagnosis, n: int) -> list[str]:
    """Why the verdict is not trust, one sentence each, the grave ones first; concrete values
    only.
    """
    d = diagnosis
    limit = min(CAUTION_PARETO_K, 1 - 1 / math.log10(max(n, 11)))
    size, k, share = float(d.kish), float(d.pareto_k), float(d.largest_share)
    p_value, mean, outside = float(d.mean_weight_p_value), float(d.mean_weight), int(d.out_of_range)
    missed = f"{float(d.unseen):.0%} of the target's actions would weigh more than any logged row"
    grave = {
        f"{outside:,} rewards are outside the declared range: no bound that uses it holds": (
            outside > 0
        ),
        f"mean weight {mean:.4g} is not 1 (p = {p_value:.1g}): wrong densities, or a tail not yet "
        "seen": (p_value < REFUSE_P_VALUE and n > 1),
        f"ESS {size:,.1f} < {REFUSE_ESS:g}: a row or two decide": size < REFUSE_ESS,
        f"tail index k = {k:.2f} ≥ {REFUSE_PARETO_K:g}: the mean of such weights is infinite": (
            REFUSE_PARETO_K <= k < math.inf
        ),
        f"{missed}: its value is a guess": float(d.unseen) > REFUSE_UNSEEN,
    }
    mild = {
        f"mean weight {mean:.4g} is doubtful (p = {p_value:.1g})": (
            REFUSE_P_VALUE <= p_value < CAUTION_P_VALUE
        ),
        f"ESS {size:,.1f} < {CAUTION_ESS:g}": REFUSE_ESS <= size < CAUTION_ESS,
        f"one row has {share:.0%} of the weight": share > CAUTION_LARGEST,
        f"tail index k = {k:.2f} ≥ {limit:.2f}: the variance of such weights is hardly finite": (
            limit <= k < REFUSE_PARETO_K
        ),
        "too few rows to judge the tail of the weights": k == math.inf,
        f"{missed}: the log has hardly seen them": (
            CAUTION_UNSEEN < float(d.unseen) <= REFUSE_UNSEEN
        ),
    }
    return [text for text, applies in (grave | mild).items() if applies]

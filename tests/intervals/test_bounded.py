"""Intervals for bounded rewards: independent implementations, exact coverage, equivariance,
honesty.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimators.bandits import clopper_pearson, cressieread, gaussian
from scipy import stats
from scipy.optimize import brentq
from worlds import sample_rows, standard
from yardsticks import DTYPES, KEY, cast, eps

from mopl_jax.estimators import divergence, ess, ips, snips
from mopl_jax.intervals import concentration, ess_exact, likelihood, normal
from mopl_jax.intervals import confidence_sequences as sequential
from mopl_jax.intervals import proportions as bounded
from mopl_jax.policies import Gaussian

ALPHA = 0.05
LOGGING = standard(2)
TARGET = Gaussian.diagonal(np.full(2, 0.3), np.sqrt(0.5))
W_MAX = float(divergence.population_max_weight(LOGGING, TARGET))
D2 = float(divergence.population_d2(LOGGING, TARGET))
with_w_max = {
    "hoeffding": concentration.hoeffding,
    "empirical_bernstein": concentration.empirical_bernstein,
    "cressie_read": likelihood.cressie_read,
    "empirical_bernstein_cs": sequential.empirical_bernstein_cs,
    "betting": sequential.betting,
}
BOUNDED = {
    name: functools.partial(interval, w_max=W_MAX) for name, interval in with_w_max.items()
} | {
    "ess_wilson": bounded.ess_wilson,
    "ess_wilson_skew": bounded.ess_wilson_skew,
    "ess_score": bounded.ess_score,
    "clopper_pearson": bounded.clopper_pearson,
    "cressie_read_unbounded": likelihood.cressie_read,
    "empirical_likelihood": functools.partial(
        likelihood.empirical_likelihood, reward_range=(0.0, 1.0)
    ),
    "cantelli": functools.partial(concentration.cantelli, d2=D2),
    "log_smoothing": functools.partial(concentration.log_smoothing, reward_range=(0.0, 1.0)),
}
EXACT = (
    "hoeffding",
    "empirical_bernstein",
    "empirical_bernstein_cs",
    "betting",
    "cantelli",
    "log_smoothing",
)


def log_of(seed, n, dtype=np.float64, binary=False):
    """Log weights of the pair of policies and rewards in [0, 1]."""
    action = sample_rows(jax.random.fold_in(KEY, seed), LOGGING, n)
    reward = np.random.default_rng(seed).uniform(size=n)
    reward = (reward < 0.3).astype(float) if binary else reward
    log_weight = jax.vmap(lambda a: TARGET.log_density(a) - LOGGING.log_density(a))(action)
    return jnp.asarray(log_weight, dtype), jnp.asarray(reward, dtype)


@jax.jit
def all_ends(log_weight, reward):
    """Lower and upper ends of every bounded interval."""
    made = [interval(snips(log_weight, reward), ALPHA) for interval in BOUNDED.values()]
    return jax.tree.map(lambda *x: jnp.stack(x), *made)


# Independent implementations.


@pytest.mark.parametrize("w_max", [np.inf, 30.0])
@pytest.mark.parametrize("n", [2, 40, 300])
def test_cressie_read_is_that_of_vw_estimators(n, w_max):
    for seed, binary in ((1, True), (2, False)):
        log_weight, reward = log_of(seed, n, binary=binary)
        reference = cressieread.Interval(wmin=0, wmax=w_max, rmin=0, rmax=1)
        for w, r in zip(np.exp(np.asarray(log_weight)), np.asarray(reward), strict=True):
            reference.add_example(1.0, float(r), float(w))
        made = likelihood.cressie_read(snips(log_weight, reward), ALPHA, w_max=w_max)
        np.testing.assert_allclose([made.lower, made.upper], reference.get(ALPHA), atol=1e-8)


@pytest.mark.parametrize("w_max", [np.inf, 5.0])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_rewards_that_differ_by_rounding_are_no_point(n, w_max):
    """The whole range for equal weights; with weights that vary the regression says something."""
    for reward in (np.zeros(n), np.ones(n), np.full(n, 0.3), 0.3 + np.arange(n) % 2 * 2.0**-54):
        made = likelihood.cressie_read(snips(jnp.zeros(n), jnp.asarray(reward)), ALPHA, w_max=w_max)
        assert (made.lower, made.upper) == (0, 1)
    log_weight, _ = log_of(1, 300)
    made = likelihood.cressie_read(snips(log_weight, jnp.zeros(300)), ALPHA, w_max=w_max)
    assert made.lower == 0
    assert 1e-3 < made.upper < 0.5


def test_normal_ips_is_the_gaussian_of_vw_estimators():
    log_weight, reward = log_of(8, 50)
    reference = gaussian.Interval()
    for w, r in zip(np.exp(np.asarray(log_weight)), np.asarray(reward), strict=True):
        reference.add_example(1.0, float(r), float(w))
    made = normal(ips(log_weight, reward), ALPHA)
    np.testing.assert_allclose([made.lower, made.upper], reference.get(ALPHA), rtol=1e-8)


def test_clopper_pearson_is_that_of_vw_estimators():
    """Theirs is at the max-weight sample size, and ours the same where the mean weight is one."""
    log_weight, reward = log_of(3, 50, binary=True)
    log_weight = log_weight - jnp.log(jnp.mean(jnp.exp(log_weight)))
    reference = clopper_pearson.Interval()
    for w, r in zip(np.exp(np.asarray(log_weight)), np.asarray(reward), strict=True):
        reference.add_example(1.0, float(r), float(w))
    made = bounded.clopper_pearson(
        snips(log_weight, reward), ALPHA, size=ess.max_weight(log_weight)
    )
    np.testing.assert_allclose([made.lower, made.upper], reference.get(ALPHA), rtol=1e-10)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 10), (10, 10), (40, 200)])
def test_equal_weights_give_the_binomial_intervals(hits, n):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    made = snips(jnp.zeros(n), (jnp.arange(n) < hits).astype(float))
    exact = bounded.clopper_pearson(made, ALPHA)
    np.testing.assert_allclose(
        [exact.lower, exact.upper],
        proportion.proportion_confint(hits, n, ALPHA, "beta"),
        atol=1e-12,
    )
    level = 2 * stats.norm.sf(stats.t.isf(ALPHA / 2, n - 1))  # the level at which z is our t
    score = bounded.ess_wilson(made, ALPHA)
    np.testing.assert_allclose(
        [score.lower, score.upper],
        proportion.proportion_confint(hits, n, level, "wilson"),
        atol=1e-9,
    )


def test_following_the_skewness_evens_the_two_ends():
    """A hundred equal weights, exact binomial probabilities, means over 1 to 6 %: Wilson's lower
    end misses far too often.
    """
    n, truths = 100, np.linspace(0.01, 0.06, 51)
    hits = np.arange(n + 1)
    rewards = jnp.asarray(hits[:, None] > np.arange(n), float)
    chance = stats.binom.pmf(hits, n, truths[:, None])

    def misses(name):
        ends = jax.jit(jax.vmap(lambda r: BOUNDED[name](snips(jnp.zeros(n), r), ALPHA)))(rewards)
        above, below = (
            np.asarray(ends.lower) > truths[:, None],
            np.asarray(ends.upper) < truths[:, None],
        )
        return (chance * above).sum(axis=1).mean(), (chance * below).sum(axis=1).mean()

    (wilson_above, wilson_below), (above, below) = misses("ess_wilson"), misses("ess_wilson_skew")
    assert wilson_above > 0.035
    assert wilson_below < 0.01
    assert above < 0.025
    assert wilson_below < below < 0.025


@pytest.mark.parametrize("heaviest", [1.0, 4.0])
def test_skewness_of_a_share_with_unequal_weights(heaviest):
    """The ends solve |v' − x| = t √(x(1−x) Σp²) with v' = v − (t²−1)/6 κ, by another root finder;
    one heavy row caps κ.
    """
    log_weight, reward = log_of(7, 60, binary=True)
    log_weight = log_weight.at[jnp.argmin(reward)].set(heaviest)
    p = np.exp(np.asarray(log_weight)) / np.exp(np.asarray(log_weight)).sum()
    v, s2 = p @ np.asarray(reward), p @ p
    t = stats.t.isf(ALPHA / 2, float(ess_exact.moments(snips(log_weight, reward))[1]))
    skew, sd = (1 - 2 * v) * (p**3).sum() / s2, np.sqrt(v * (1 - v) * s2)
    assert (skew > sd) == (heaviest == 4.0)
    moved = max(v - (t**2 - 1) / 6 * min(skew, sd), 0)
    ends = [
        brentq(lambda x: (x - moved) ** 2 - t**2 * x * (1 - x) * s2, *span)
        for span in ((0, moved), (moved + 1e-9, 1))
    ]
    made = bounded.ess_wilson_skew(snips(log_weight, reward), ALPHA)
    np.testing.assert_allclose([made.lower, made.upper], ends, rtol=1e-6)


@pytest.mark.parametrize("n", [3, 10, 200])
def test_empirical_likelihood_is_owens_for_equal_weights(n):
    descriptive = pytest.importorskip("statsmodels.emplike.descriptive")
    reward = np.random.default_rng(n).exponential(size=n) ** 2
    made = likelihood.empirical_likelihood(snips(jnp.zeros(n), jnp.asarray(reward)), ALPHA)
    np.testing.assert_allclose(
        [made.lower, made.upper],
        descriptive.DescStat(reward).ci_mean(sig=ALPHA),
        rtol=1e-8,
        atol=1e-9,
    )


@pytest.mark.parametrize(("seed", "above"), [(4, 0.0), (5, 6.0), (6, 8.0), (7, 10.0)])
def test_empirical_likelihood_ends_have_the_budgets_likelihood_ratio(seed, above):
    """With weights: brute-force −2 log R at both ends is the χ² quantile; also where two rows
    outweigh all others.
    """
    log_weight, reward = log_of(seed, 60)
    log_weight = log_weight.at[:2].add(above)
    made = likelihood.empirical_likelihood(snips(log_weight, reward), ALPHA)
    for end in (made.lower, made.upper):
        g = np.exp(np.asarray(log_weight)) * (np.asarray(reward) - float(end))
        low, high = -(1 - 1 / 60) / g.max(), (1 - 1 / 60) / -g.min()
        multiplier = brentq(lambda x, g=g: np.sum(g / (1 + x * g)), low, high, xtol=1e-300)
        np.testing.assert_allclose(
            2 * np.sum(np.log1p(multiplier * g)), stats.chi2.isf(ALPHA, 1), rtol=1e-6
        )


def test_hoeffding_and_bernstein_formulas():
    log_weight, reward = log_of(5, 30)
    terms = np.exp(np.asarray(log_weight)) * np.asarray(reward)  # baseline 0: plain IPS
    half = W_MAX * np.sqrt(np.log(2 / ALPHA) / 60)
    options = {"w_max": W_MAX, "baseline": 0.0, "reward_range": (0.0, 1.0)}
    made = concentration.hoeffding(ips(log_weight, reward), ALPHA, **options)
    np.testing.assert_allclose(made.upper, min(terms.mean() + half, 1), rtol=1e-12)
    bound = np.log(4 / ALPHA)
    half = np.sqrt(2 * terms.var(ddof=1) * bound / 30) + 7 * W_MAX * bound / (3 * 29)
    made = concentration.empirical_bernstein(ips(log_weight, reward), ALPHA, **options)
    np.testing.assert_allclose(made.upper, min(terms.mean() + half, 1), rtol=1e-12)


# Properties.


@pytest.mark.parametrize("name", ["hoeffding", "ess_wilson", "betting", "cantelli"])
@pytest.mark.parametrize("reward_range", [(1.0, 0.0), (0.0, 0.0), (0.0, np.nan)])
def test_a_range_out_of_order_is_refused(name, reward_range):
    """It would make every interval a point, or undefined."""
    with pytest.raises(ValueError, match="low < high"):
        BOUNDED[name](snips(*log_of(5, 10)), ALPHA, reward_range=reward_range)


@pytest.mark.parametrize("name", BOUNDED)
def test_equivariant_to_units_of_the_reward(name):
    """r ↦ 3 − 2r in the range [1, 3] maps the ends, and swaps them."""
    log_weight, reward = log_of(6, 80)
    made = BOUNDED[name](snips(log_weight, reward), ALPHA)
    mapped = functools.partial(BOUNDED[name], reward_range=(1.0, 3.0))(
        snips(log_weight, 3 - 2 * reward), ALPHA
    )
    np.testing.assert_allclose(mapped.lower, 3 - 2 * made.upper, atol=1e-9)
    np.testing.assert_allclose(mapped.upper, 3 - 2 * made.lower, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_range_and_order(dtype):
    for n in (1, 3, 50):
        for binary in (True, False):
            made = all_ends(*log_of(n, n, dtype, binary))
            assert made.lower.dtype == made.upper.dtype == dtype
            assert np.all((np.asarray(made.lower) >= 0) & (np.asarray(made.upper) <= 1))
            assert np.all(
                np.asarray(made.lower) < np.asarray(made.upper)
            )  # never a point, never NaN


def test_float32_agrees_with_float64():
    log = log_of(7, 50)
    exact, rounded = all_ends(*log), all_ends(*cast(log, np.float32))
    np.testing.assert_allclose(rounded.lower, exact.lower, atol=1e3 * eps(np.float32))
    np.testing.assert_allclose(rounded.upper, exact.upper, atol=1e3 * eps(np.float32))


@pytest.mark.parametrize(
    "log_weight", [[-np.inf, -np.inf, -np.inf], [0.0, -np.inf, -np.inf], [0.0, -800.0, -800.0]]
)
def test_no_support_gives_the_range(log_weight):
    made = all_ends(jnp.asarray(log_weight), jnp.asarray([0.2, 0.5, 0.9]))
    np.testing.assert_array_equal(made.lower, 0.0)
    np.testing.assert_array_equal(made.upper, 1.0)


def test_batching_is_looping():
    logs = [log_of(seed, 50) for seed in range(3)]
    batched = jax.vmap(all_ends)(*(jnp.stack(column) for column in zip(*logs, strict=True)))
    looped = jax.tree.map(lambda *x: jnp.stack(x), *[all_ends(*log) for log in logs])
    np.testing.assert_allclose(batched.lower, looped.lower, atol=1e-9)
    np.testing.assert_allclose(batched.upper, looped.upper, atol=1e-9)


# Coverage.


def coverage(n, replicates):
    """Hits and misses of every interval; Bernoulli rewards of probability sigmoid of the first
    action.
    """
    z = np.polynomial.hermite_e.hermegauss(60)
    truth = np.sum(z[1] / (1 + np.exp(-(0.3 + np.sqrt(0.5) * z[0])))) / z[1].sum()

    def one(key):
        action = sample_rows(key, LOGGING, n)
        log_weight = jax.vmap(lambda a: TARGET.log_density(a) - LOGGING.log_density(a))(action)
        uniform = jax.random.uniform(jax.random.fold_in(key, 1), (n,))
        return all_ends(
            log_weight, (uniform < jax.nn.sigmoid(action[:, 0])).astype(log_weight.dtype)
        )

    made = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=50))(
        jax.random.split(KEY, replicates)
    )
    return (made.lower > truth).sum(0), (made.upper < truth).sum(0)


def check_coverage(n, replicates):
    above, below = coverage(n, replicates)
    for i, name in enumerate(BOUNDED):
        if name in EXACT:  # one-sided guarantees: never too many misses
            assert (
                stats.binom.sf(max(int(above[i]), int(below[i])) - 1, replicates, ALPHA / 2) > 1e-4
            ), name
        else:  # asymptotic: not surprisingly below nominal
            assert (
                stats.binom.cdf(replicates - int(above[i] + below[i]), replicates, 1 - ALPHA) > 1e-4
            ), name


def test_coverage_small():
    check_coverage(100, 300)


@pytest.mark.nightly
@pytest.mark.parametrize("n", [60, 500])
def test_coverage(n):
    check_coverage(n, 2000)


def test_bind_gives_every_interval_the_house_contract_and_refuses_what_is_unknown():
    """Facts given once serve every interval; an unknown one is named."""
    from mopl_jax import intervals
    from mopl_jax.policies import Gaussian

    logging, target = Gaussian.diagonal(jnp.zeros(2), 1.0), Gaussian.diagonal(jnp.full(2, 0.3), 0.5)
    facts = intervals.policy_facts(logging, target, (0.0, 1.0))
    assert float(facts.w_max) >= 1
    assert intervals.bind("ess_exact") is intervals.ess_exact
    assert intervals.bind("cantelli", facts).keywords == {
        "reward_range": (0.0, 1.0),
        "d2": facts.d2,
    }
    with pytest.raises(
        ValueError, match=r"'betting' needs reward_range \(--reward-range LOW,HIGH\) and w_max"
    ):
        intervals.bind("betting")
    with pytest.raises(ValueError, match="'hoeffding' needs reward_range"):
        intervals.bind("hoeffding", intervals.policy_facts(logging, target, (0.0, float("inf"))))
    with pytest.raises(ValueError, match="did you mean 'bca'"):
        intervals.bind("bcaa")

"""Right values where a mutant of the core once went unnoticed: definitions written out, and what
follows from them.
"""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from worlds import rows, standard
from yardsticks import KEY

from mopl_jax import estimators, intervals
from mopl_jax.coverage.overlap import overlapping
from mopl_jax.diagnostics import weight_diagnostics
from mopl_jax.diagnostics.verdicts import VERDICTS, reasons, verdict_of
from mopl_jax.diagnostics.weight_diagnostics import (
    generalised_pareto_shape,
    mean_weight_p_value,
    signed_bets,
    tail_size,
)
from mopl_jax.estimators import calibration, ess, log_smoothed
from mopl_jax.estimators.divergence import population_d2, product
from mopl_jax.estimators.estimator import Columns
from mopl_jax.estimators.reward_model import doubly_robust
from mopl_jax.estimators.weight_totals import merge, totals_of, totals_of_weights
from mopl_jax.intervals import bootstrap, concentration, likelihood, moments
from mopl_jax.intervals.formulas import Pivot
from mopl_jax.intervals.moments import Moments
from mopl_jax.learning import contextual, guardrails, long_log, personal, proposal, waves
from mopl_jax.learning.constraints import unconstrained
from mopl_jax.learning.deviations import Deviations, Situation, bends, width
from mopl_jax.learning.objective import VALUATIONS
from mopl_jax.learning.response_surface import Surface
from mopl_jax.logs import Logs
from mopl_jax.metrics import objectives
from mopl_jax.numerics.reduce import whole_block
from mopl_jax.policies import Gaussian

# Compiled whole: step by step each of their many small steps would be.
snips, beta_ips, difference = map(
    jax.jit, (estimators.snips, estimators.beta_ips, estimators.difference)
)
diagnose, moments_of = map(jax.jit, (weight_diagnostics.diagnose, moments.moments_of))


def stack(*parts):
    """Records of one shape as one, along a first axis."""
    return jax.tree.map(lambda *x: jnp.stack(x), *parts)


# Estimators.


@pytest.mark.parametrize("spread", [0.0, 1e-3])
def test_where_weights_hardly_vary_the_baseline_of_beta_ips_is_the_weighted_mean(spread):
    """β* itself is 0/0 there: with w = 1 ± spread and r = 5 ± 1 it is 5 + 1/spread."""
    x = np.tile([1.0, -1.0], 50)
    w, reward = 1 + spread * x, 5 + x
    made = beta_ips(jnp.log(w), jnp.asarray(reward))
    expected = w.mean() * (reward - np.average(reward, weights=w))
    np.testing.assert_allclose(made.residual, expected, atol=1e-10)


def test_one_row_is_a_share_that_float32_cannot_tell_from_all():
    """1 − S₂ is about twice the share of the second row; 64 steps of float32 are 7.6e-6."""
    assert not ess.spread_out(jnp.log(jnp.array([1.0, 3.5e-6])))
    assert ess.spread_out(jnp.log(jnp.array([1.0, 4.2e-6])))


def test_totals_of_blocks_have_the_offsets_of_all_rows():
    """Blocks of different sizes, whose first offsets differ."""
    log_weight, reward = rows(0, 7)
    offset = jnp.arange(7.0) ** 2

    def of(part):
        x = log_weight[part]
        return totals_of(whole_block(x), x, reward[part], offset[part])

    both = jax.jit(lambda: merge(stack(of(slice(0, 5)), of(slice(5, 7)))))()
    assert both.mean_offset == pytest.approx(float(offset.mean()), rel=1e-12)
    assert both.mean_weight == pytest.approx(float(jnp.exp(log_weight).mean()), rel=1e-12)
    p = jax.nn.softmax(log_weight)
    assert both.one_minus_max_p == pytest.approx(float(1 - p.max()), rel=1e-12)


def test_residuals_of_a_difference_are_those_of_its_influence():
    """n |p − q| e = ψ where both values are the same, 0 here by symmetry."""
    half_w, half_r = rows(1, 20)
    other = rows(2, 20)[0]
    reward = jnp.concatenate([half_r, -half_r])
    a, b = (snips(jnp.tile(x, 2), reward) for x in (half_w, other))
    made = difference(a, b)
    size = jnp.abs(ess.normalise(jnp.tile(half_w, 2)) - ess.normalise(jnp.tile(other, 2)))
    np.testing.assert_allclose(jnp.exp(made.log_weight), size, rtol=1e-9)
    np.testing.assert_allclose(40 * ess.normalise(made.log_weight) * made.residual, made.influence)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_difference_to_a_value_of_one_row_says_nothing(order):
    log_weight, reward = rows(3, 30)
    both = snips(log_weight, reward), snips(log_weight.at[4].set(60.0), reward)
    made = difference(*(both[k] for k in order))
    assert not jnp.isfinite(made.log_weight).any()


def test_policies_that_differ_by_rounding_are_equal():
    log_weight, reward = rows(4, 200)
    rounded = log_weight * (1 + 4e-16) + 2e-14
    made = difference(snips(log_weight, reward), snips(rounded, reward))
    assert made.value == 0
    assert not jnp.isfinite(made.log_weight).any()


def test_a_quadratic_reward_leaves_doubly_robust_next_to_nothing():
    """What is left of a reward without noise is the ridge's share, a thousandth."""
    action = jax.random.normal(KEY, (400, 2))
    reward = 1 + action @ jnp.array([1.0, -0.5]) + action[:, 0] * action[:, 1]
    target = Gaussian.diagonal(np.array([0.3, -0.2]), 0.7)
    log_weight = jax.vmap(lambda a: target.log_density(a) - standard(2).log_density(a))(action)
    made = jax.jit(doubly_robust)(log_weight, reward, action=action, target=target)
    assert jnp.std(made.influence) < 0.01 * jnp.std(snips(log_weight, reward).influence)


@pytest.mark.parametrize(("explained", "share"), [(1.0, 0), (2.0, 0), (4.0, 0.5), (8.0, 0.75)])
def test_calibration_believes_what_is_more_than_twice_what_noise_explains(explained, share):
    """Noise of variance 10, a tenth of which the weights of the part let it explain: 1."""
    found = calibration._believed(*map(jnp.asarray, (explained, 0.1, 9.0, 0.9)))
    assert found == pytest.approx(share, abs=1e-12)


def test_products_of_blocks_are_those_of_all_rows():
    """Each block has its own heaviest row, and its own centre of rewards."""
    log_weight, reward = rows(5, 9)
    x = jnp.stack(rows(6, 9), axis=1)

    def of(part):
        block = whole_block(Columns(reward[part]))
        return calibration._summarise(lambda _: x[part], block, log_weight[part])

    def both():
        blocks = of(slice(0, 3)), of(slice(3, 6)), of(slice(6, 9))
        return calibration._merge(stack(*blocks)), of(slice(0, 9))

    parts, whole = jax.jit(both)()
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_rows_without_reward_keep_their_weight():
    """log(1 + x)/x is 1 at 0."""
    log_weight = jnp.log(jnp.array([0.5, 2.0, 3.0]))
    made = jnp.exp(jax.jit(log_smoothed)(log_weight, jnp.array([0.0, 0.0, 4.0]), 0.1))
    np.testing.assert_allclose(made, [0.5, 2.0, np.log(2.2) / 0.4], rtol=1e-12)


def test_a_product_of_policies_apart_is_one_whatever_the_form_of_their_covariance():
    """Independent entries, written as scales and as matrices."""
    numbers = ((0.0, 0.1), (1.0, 1.2)), ((0.4, -0.3), (0.6, 0.8)), ((-0.2, 0.5), (0.7, 0.5))
    plain = [Gaussian.diagonal(np.array(mean), np.array(scale)) for mean, scale in numbers]
    dense = [Gaussian.full(np.array(mean), np.diag(np.square(scale))) for mean, scale in numbers]
    found = (jax.tree.leaves(product(*policies)) for policies in (plain, dense))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


# Intervals.


def test_too_few_degrees_of_freedom_are_the_whole_line_with_gradients():
    """t would be of order (2/α)^(1/df) = 1e170, whose square is not finite."""
    df = jnp.asarray(0.9 * 2 * np.log(40) / np.log(np.finfo(float).max))

    def lower(variance):
        one = jnp.ones(())
        return Pivot(one, variance, df, -0.5 * one).interval(0.05).lower

    value, slope = jax.value_and_grad(lower)(jnp.ones(()))
    assert value == -jnp.inf
    assert slope == 0


def with_ess(size, **sums):
    """Moments of `size` effective rows of 10,000, the rest as given."""
    names = {field.name: jnp.zeros(()) for field in dataclasses.fields(Moments)}
    known = {"n": 1e4, "sum_p2": 1 / size, "one_minus_sum_p2": 1 - 1 / size, "df": size - 1}
    return Moments(**names | {k: jnp.asarray(float(v)) for k, v in (known | sums).items()})


@pytest.mark.parametrize(
    ("size", "terms", "share"),
    [(2, 2, 1), (8, 64, 1), (64, 8, 1), (16, 64, 0.5), (64, 16, 0.5), (3200, 800, 0.01)],
)
def test_ess_skew_is_cautious_until_eight_effective_terms(size, terms, share):
    """The fewer of ESS and 1/Σx⁴: from the larger of the variances of `ess_safe` and `ess_exact` to
    that of the latter, from twice the skewness to once.
    """
    sums = with_ess(size, exact=1.0, residual=3.0 * (size - 1), kurtosis=1 / terms, skewness=0.3)
    variance, _, skew = intervals.ess_skew.formula(sums)
    assert variance == pytest.approx(1 + share * 2, rel=1e-12)
    assert skew == pytest.approx((1 + share) * 0.1, rel=1e-12)
    smaller = with_ess(size, exact=1.0, residual=0.5 * (size - 1), kurtosis=1 / terms)
    assert intervals.ess_skew.formula(smaller)[0] == 1


def test_heavy_tails_cost_ess_skew_degrees_of_freedom():
    """2/ν is the relative variance of the variance: what kurtosis adds to it is added."""
    sums = with_ess(101, exact=1.0, kurtosis=0.1, quartic=0.02)
    assert intervals.ess_skew.formula(sums)[1] == pytest.approx(2 / (2 / 100 + 0.04), rel=1e-12)
    light = with_ess(101, exact=1.0, kurtosis=0.05, quartic=0.02)
    assert intervals.ess_skew.formula(light)[1] == pytest.approx(100, rel=1e-12)


def test_the_skewness_of_a_share_is_at_most_its_standard_deviation():
    """A heavy row would move the share beyond what equal weights can: κ is capped at sd."""
    log_weight = jnp.log(jnp.array([20.0] + [1.0] * 200))
    reward = jnp.zeros(201).at[5:27].set(1.0)
    sums = moments_of(snips(log_weight, reward))
    v, sd = float(sums.value), float(jnp.sqrt(sums.value * (1 - sums.value) * sums.sum_p2))
    assert (1 - 2 * v) * float(sums.cubic) > sd
    t = stats.t.isf(0.025, float(sums.df))
    square, moved = t**2 * float(sums.sum_p2), v - (t**2 - 1) / 6 * sd
    assert moved > 0
    half = (square * moved * (1 - moved) + square**2 / 4) ** 0.5
    expected = (moved + square / 2 + half) / (1 + square)
    made = jax.jit(intervals.ess_wilson_skew.at)(sums, 0.05)
    assert made.upper == pytest.approx(expected, rel=1e-10)


def test_efron_stein_written_out():
    """V and U by their definition, a sum over rows of an expectation over simulated logs."""
    draws, w = np.random.default_rng(0).normal(0, 0.2, (4, 60)), np.full(60, 1.0)
    reward, alpha = np.tile([1.0, 0.0, 1.0], 20), 0.2
    fresh = np.exp(draws)

    def spread(seen):
        found = []
        for path, other in zip(fresh, np.roll(fresh, -1, axis=0), strict=True):
            for k in range(60):
                total = seen[: k + 1].sum() + path[k + 1 :].sum()
                swapped = total - seen[k] + other[k]
                found.append(max(seen[k] / total, other[k] / swapped) ** 2)
        return sum(found) / len(fresh)

    v, u = spread(w), np.mean([spread(path) for path in fresh])
    error = np.sqrt(2 * (v + u) * (np.log(2 / alpha) + 0.5 * np.log(1 + v / u)))
    left_out = np.mean([1 / (path.sum() - path[k]) for path in fresh for k in range(60)])
    kept = min(1, 1 / (60 * left_out))
    estimate = snips(jnp.log(w), jnp.asarray(reward))
    made = jax.jit(concentration.efron_stein)(estimate, alpha, draws=jnp.asarray(draws))
    assert made.lower == pytest.approx(max(kept * (2 / 3 - error), 0), rel=1e-9)
    assert made.upper == pytest.approx(min(1 - kept * (1 / 3 - error), 1), rel=1e-9)
    assert 0 < made.lower < 2 / 3


def test_resamples_without_a_value_are_on_the_cautious_side():
    """They may be anything: −∞ for the lower quantile, ∞ for the upper one."""
    values, tails = jnp.arange(10.0), jnp.array([0.05, 0.95])
    known = values < 8
    assert bootstrap._cautious_quantiles(values, known, tails) == (-np.inf, np.inf)
    everything = jnp.ones_like(known)
    found = bootstrap._cautious_quantiles(values, everything, tails)
    np.testing.assert_allclose(found, [0.45, 8.55])


def test_bounds_of_bounded_terms_written_out():
    """On the logger with weights up to 2 and rewards 0 or 1, terms ½ + w (r − ½) span two."""
    reward = jnp.tile(jnp.array([1.0, 0.0, 1.0, 1.0]), 100)
    made = snips(jnp.zeros(400), reward)
    hoeffding = intervals.hoeffding(made, 0.05, w_max=2.0)
    assert hoeffding.lower == pytest.approx(0.75 - 2 * np.sqrt(np.log(40) / 800), rel=1e-12)
    assert hoeffding.upper == pytest.approx(0.75 + 2 * np.sqrt(np.log(40) / 800), rel=1e-12)
    variance, log = 0.75 * 0.25 * 400 / 399, np.log(80)
    half = np.sqrt(2 * variance * log / 400) + 7 * 2 * log / (3 * 399)
    bernstein = intervals.empirical_bernstein(made, 0.05, w_max=2.0)
    assert bernstein.lower == pytest.approx(0.75 - half, rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 100])
@pytest.mark.parametrize("down", [1e-3, 0.7, 1e3])
def test_likelihood_of_a_row_below_and_equal_rows_above(n, down):
    """Its share q of the mean 0 is 1 / (1 + down), and the others share the rest alike."""
    g = jnp.ones(n).at[0].set(-down)
    q = 1 / (1 + down)
    expected = -2 * (np.log(n * q) + (n - 1) * np.log(n * (1 - q) / (n - 1)))
    found, _ = jax.jit(likelihood._statistic)(jnp.ones(n), g)
    assert found == pytest.approx(expected, rel=1e-9)


# Diagnoses.

DIAGNOSIS = diagnose(snips(*rows(7, 1000, spread=0.1)))


def levels(**changed):
    """The verdict of a good log of 1,000 rows that differs in something, and its reasons."""
    found = dataclasses.replace(DIAGNOSIS, **{k: jnp.asarray(v) for k, v in changed.items()})
    return VERDICTS[int(verdict_of(found, 1000))], reasons(found, 1000)


@pytest.mark.parametrize(
    ("changed", "level", "reason"),
    [
        ({}, "trust", ""),
        ({"largest_share": 0.09}, "trust", ""),
        ({"largest_share": 0.2}, "caution", "one row has 20% of the weight"),
        ({"pareto_k": 0.65}, "trust", ""),
        ({"pareto_k": 0.9}, "caution", "k = 0.90 ≥ 0.67"),
        ({"pareto_k": 1.1}, "refuse", "the mean of such weights is infinite"),
        ({"kish": 101.0}, "trust", ""),
        ({"kish": 99.0}, "caution", "ESS 99.0 < 100"),
        ({"kish": 9.0}, "refuse", "ESS 9.0 < 10"),
        ({"unseen": 0.06}, "caution", "6% of the target's actions"),
        ({"unseen": 0.21}, "refuse", "its value is a guess"),
        ({"mean_weight_p_value": 0.02}, "trust", ""),
        ({"mean_weight_p_value": 0.005}, "caution", "is doubtful"),
        ({"mean_weight_p_value": 5e-5}, "refuse", "wrong densities"),
    ],
)
def test_every_threshold_of_the_verdict(changed, level, reason):
    """As the documents state them."""
    found, why = levels(**changed)
    assert found == level
    assert reason in " ".join(why)
    assert len(why) == (level != "trust")


def test_the_tail_of_weights_is_a_fifth_or_three_roots():
    assert [tail_size(n) for n in (10, 100, 225, 400, 10_000)] == [2, 20, 45, 60, 300]


def test_the_tail_index_is_that_of_zhang_and_stephens_shrunk_by_ten_rows():
    """Their estimate, written out as in PSIS, of few rows."""
    x = np.sort(stats.genpareto(0.3).rvs(20, random_state=5))
    points = 30 + int(np.sqrt(20))
    theta = 1 / x[-1] + (1 - np.sqrt(points / (np.arange(points) + 0.5))) / (3 * x[4])
    k = np.log1p(-theta[:, None] * x).mean(axis=1)
    height = 20 * (np.log(-theta / k) - k - 1)
    mean = np.average(theta, weights=np.exp(height - height.max()))
    expected = (20 * np.log1p(-mean * x).mean() + 5) / 30
    assert generalised_pareto_shape(jnp.asarray(x)) == pytest.approx(expected, rel=1e-10)


@jax.jit
def p_value(log_weight, rounding=0.0):
    """Of E w = 1, from all rows."""
    totals = totals_of_weights(log_weight)
    bets = signed_bets(totals, (1.0, 1.0))
    betting = jnp.sum(jnp.log1p(bets[:, None] * (jnp.exp(log_weight) - 1)[None, :]), axis=1)
    return mean_weight_p_value(totals, betting, jnp.asarray(rounding), (1.0, 1.0))


@pytest.mark.parametrize("hits", [2, 5])
def test_too_few_heavy_rows_are_judged_with_one_more(hits):
    """An arm of 1 % in 1,000 rows: n KL of the binomial with one hit added."""
    weight = jnp.zeros(1000).at[:hits].set(100.0)
    share = (hits + 1) / 1001
    divergence = share * np.log(share / 0.01) + (1 - share) * np.log((1 - share) / 0.99)
    expected = special.erfc(np.sqrt(1001 * divergence))
    assert p_value(jnp.log(weight)) == pytest.approx(expected, rel=0.02)


def test_what_rounding_explains_is_no_evidence():
    """Weights of 1.01: n (log(1 + λ/100) − λ rounding) is largest at λ = 1."""
    log_weight = jnp.log(jnp.full(10_000, 1.01))
    expected = special.erfc(np.sqrt(10_000 * (np.log(1.01) - 0.0099)))
    assert p_value(log_weight, 0.0099) == pytest.approx(expected, rel=0.02)
    assert p_value(log_weight) < 1e-30


def test_the_error_of_the_mean_weight_is_that_of_a_sample():
    found = diagnose(snips(jnp.log(jnp.array([0.5, 1.5])), jnp.array([0.0, 1.0])))
    assert found.mean_weight_error == pytest.approx(0.5, rel=1e-12)


# Proposals.


def test_what_is_promised_of_a_policy_by_quadrature():
    """On 1,000 rows of users that count 3: noise v E(w − w₀)² and 1/E w² effective rows."""
    policy, origin = Gaussian.diagonal(np.array([1.0]), 0.5), jnp.zeros(1)
    surface = SimpleNamespace(
        expected_features=lambda played: played.mean,
        covariance=jnp.eye(1),
        coefficients=jnp.ones(1),
    )
    fitted = SimpleNamespace(surface=surface, noise=2.0, inflation=3.0)
    made, _ = jax.jit(lambda: proposal._promise(fitted, 1000, origin, policy))()
    x = np.linspace(-12, 12, 20_001)
    played, base, logging = (stats.norm.pdf(x, *at) for at in ((1, 0.5), (0, 0.5), (0, 1)))
    spread, own = (np.trapezoid(y**2 / logging, x) for y in (played - base, played))
    assert made.noise == pytest.approx(np.sqrt(2 * spread / 1000), rel=1e-9)
    assert made.ess == pytest.approx(1000 / (own * 3), rel=1e-9)
    assert (made.gain, made.error) == (1, 1)


# Weights by context: two segments of 0.6 and 0.2 of the rows, one weight, and what is known there.
SHARES, ROWS = np.array([0.6, 0.2]), 900
POINTS = personal.Points(SHARES, Situation(np.arange(2), np.ones((2, 1))), np.zeros((2, 0)))
BENDS = 0.3 * np.random.default_rng(0).normal(size=(2, 1, width(1)))


def model_of(known=0.05):
    """Its deviations are `known` with such an error."""
    surface = Surface(
        standard(1),
        jnp.array([0.3, 1.0, -0.4]),
        jnp.diag(jnp.array([2.0, 3.0, 1.0])),
        jnp.ones((0, 1)),
    )
    root = jnp.asarray(known * np.tri(2 * width(1)))
    none = np.zeros((1, 1, width(1)))
    noise = jnp.asarray(2.0)
    deviations = Deviations(jnp.concatenate([BENDS, none]), root, noise)
    return personal.Model(surface, deviations, jnp.array([0.2]), jnp.array([0.5]))


@jax.jit
def promised(model, parts, scale):
    found = jnp.asarray(parts)[:, None], jnp.log(scale)
    return personal._promises(model, POINTS, lambda z: z, ROWS, personal.TABLE, found)


def test_what_is_promised_of_deviations_by_quadrature():
    """Over the global policy as it is played (0.5) and with the same scale (0.7): means less their
    average of 0.1, the error of surface and deviations, noise v E(w − w₀)², effective rows.
    """
    model, x = jax.tree.map(np.asarray, model_of()), np.linspace(-9, 9, 20_001)
    features = np.stack([np.ones_like(x), x, x * x])
    bent = np.asarray(jax.vmap(bends)(jnp.asarray(x)[:, None])).T
    means, logging = 0.2 + np.array([0.5, -1.1]) - 0.1, stats.norm.pdf(x)
    played = [stats.norm.pdf(x, mean, 0.7) for mean in means]
    made = promised(model, [0.5, -1.1], 0.7)
    for k, scale in enumerate((0.5, 0.7)):
        base = stats.norm.pdf(x, 0.2, scale)
        moved = [np.trapezoid(features * (each - base), x) for each in played]
        own = np.stack([np.trapezoid(bent * (each - base), x) for each in played])
        every, own = SHARES @ moved, SHARES[:, None] * own
        gain = every @ model.surface.coefficients + np.sum(own * BENDS[:, 0])
        error = every @ model.surface.covariance @ every
        error += np.sum(np.square(model.deviations.root.T @ own.ravel()))
        spread = [np.trapezoid((each - base) ** 2 / logging, x) for each in played]
        assert made.gain[k] == pytest.approx(gain, rel=1e-8)
        assert made.error[k] == pytest.approx(np.sqrt(error), rel=1e-8)
        assert made.noise[k] == pytest.approx(np.sqrt(2 * SHARES @ spread / ROWS), rel=1e-8)
    sizes = [np.trapezoid(each**2 / logging, x) for each in (*played, base)]
    assert made.ess == pytest.approx(ROWS / (np.array([0.6, 0.2, 0.2]) @ sizes), rel=1e-8)


def test_deviations_that_all_have_are_none():
    """They would gain what the global policy may: means are centred by the shares."""
    made = promised(model_of(), [0.8, 0.8], 0.5)
    np.testing.assert_allclose(made.gain[0], 0, atol=1e-12)
    np.testing.assert_allclose(personal._centre(POINTS, jnp.array([[1.0], [5.0]])), [2.0])


def test_deviations_that_are_not_known_are_not_promised():
    """What is promised is what is predicted less the surface's error and that of a certificate;
    with an error beyond every gain nobody is moved.
    """
    asked = POINTS, standard(1), float(10**6), 2.0, unconstrained, personal.TABLE, 0.05
    model = model_of(1e-3)
    found = personal.search(model, *asked)
    assert found.promise > 0
    made = personal._promises(
        *(model, POINTS, lambda z: z, 10**6, personal.TABLE),
        (found.parts, jnp.log(found.scale[0])),
    )
    least = float(jnp.min(made.gain - made.error - stats.norm.isf(0.05) * made.noise))
    assert found.promise == pytest.approx(least, rel=1e-6)
    unknown = personal.search(model_of(10.0), *asked)
    np.testing.assert_allclose(unknown.parts, 0)
    assert unknown.promise <= 0


@pytest.mark.parametrize(("left", "inflation"), [((1, 1, -1, -1), 2), ((1, -1, 1, -1), 1)])
def test_users_are_as_noisy_as_their_rows_at_least(left, inflation):
    """Two of two rows: (2² + 2²) / 4 where what is left of a user's rows agrees; no less than 1."""
    one = jnp.ones(4)
    logs = Logs(one[:, None], one, one, cluster=jnp.array([0, 0, 1, 1]), num_clusters=2)
    made = jax.jit(waves.inflation_of)(logs, one[:, None], jnp.array(left, float), one)
    assert made == pytest.approx(inflation, rel=1e-12)


@pytest.mark.parametrize(("relative", "lost"), [(1.0, 0.5), (0.0, 0.1)])
def test_an_outcome_may_lose_a_share_of_its_value_or_so_many_units(relative, lost):
    """Also one whose value is below zero."""
    assert guardrails.room(0.1, relative, jnp.array(-5.0)) == pytest.approx(lost, rel=1e-6)


@pytest.mark.parametrize(("held", "share"), [(10**6, 0.5), (200, 0.2)])
def test_of_a_long_log_at_most_half_teaches(held, share):
    source = SimpleNamespace(count=lambda: 1000, name="log")
    asked = long_log.LongLog(held, None, None, False, 0, "ess_skew", 0)
    assert asked.taught(source) == share


def test_segments_hold_at_once():
    """Each has the interval of its own rows at α over their number."""
    n, size = 600, 3
    rng = np.random.default_rng(5)
    log_weight, reward = 0.3 * rng.normal(size=(2, n)), jnp.asarray(rng.normal(size=n))
    logs = Logs(jnp.zeros((n, 1)), jnp.zeros(n), reward)
    code = jnp.arange(n) % size
    methods = VALUATIONS["snips"], intervals.normal, 0.05
    asked = jnp.asarray(log_weight), jnp.zeros((2, n)), code, size, *methods
    _, gains, lower, upper, _ = contextual._by_segment(logs, *asked)
    for k in range(size):
        inside = jnp.where(code == k, log_weight, -jnp.inf)
        expected = difference(*(snips(each, reward) for each in inside))
        ends = intervals.normal(expected, 0.05 / size)
        found = gains[k], lower[k], upper[k]
        np.testing.assert_allclose(found, (expected.value, ends.lower, ends.upper), rtol=1e-9)


# Learnt metrics.


@pytest.mark.parametrize(("size", "left"), [(18, 0.25), (9, 0.0), (3, 0.0)])
def test_a_covariance_is_shrunk_by_the_sampling_variance_of_its_entries(size, left):
    """ρ = (S₁₁ S₂₂ + S₁₂²) / (n S₁₂²), 9/n here and at most 1."""
    found = objectives._shrunk(jnp.array([[2.0, 0.5], [0.5, 1.0]]), size)
    np.testing.assert_allclose(found, [[2.0, left], [left, 1.0]], atol=1e-12)


# Targets of a study.


@pytest.mark.parametrize("width", ["narrow", "same", "wide"])
@pytest.mark.parametrize("d", [1, 4])
def test_a_target_by_overlap_has_it(width, d):
    """1/d₂ is what was asked for; none is wider than 1.2 of the logging variance."""
    target = overlapping(standard(d, 2.0), 0.4, width)
    assert population_d2(standard(d, 2.0), target) == pytest.approx(1 / 0.4, rel=1e-6)
    share = float(jnp.square(target.scale[0] / 2))
    assert share == pytest.approx(1.0 if width == "same" else min(share, 1.2), rel=1e-6)
    assert (share > 1) == (width == "wide")

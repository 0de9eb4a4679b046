"""Intervals: formulas by dense algebra and numpy, the textbook t interval on-policy, invariances,
and no false certainty.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from worlds import ESTIMATORS, INTERVALS, REWARDS, SIZES, WALD, WEIGHTS, rows, under_stress
from yardsticks import DTYPES, eps, estimate, every_interval, every_pivot, intervals_of

from mopl_jax import estimators, intervals
from mopl_jax.intervals import Interval, Pivot, lower, upper
from mopl_jax.intervals.ess_corrected import FEW_TERMS, STRETCH
from mopl_jax.policies import Gaussian

N = 16
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


# One interval of each construction, for properties of what is around it.
KINDS = {
    k: v
    for k, v in INTERVALS.items()
    if k in ("normal", "ess_exact", "ess_student_max") or k not in WALD
}


def close(got, expected, **tolerance):
    """Two dictionaries of intervals agree, name by name."""
    assert got.keys() == expected.keys()
    for name, both in got.items():
        np.testing.assert_allclose(both, expected[name], err_msg=name, **tolerance)


def snips_parts(log_weight, reward):
    """p, e and S₂ by numpy."""
    w = np.exp(np.asarray(log_weight, np.float64))
    p = w / w.sum()
    return p, np.asarray(reward) - p @ np.asarray(reward), p @ p


# Formulas.


def dense(p):
    """Variance weights g and the matrix A of the form rᵀAr that `ess_exact` calls the variance of
    SNIPS.
    """
    g = p**2 / (1 - 2 * p + p @ p)
    residual_maker = np.eye(p.size) - np.outer(np.ones(p.size), p)
    return g, residual_maker.T @ np.diag(g) @ residual_maker


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0, 3))
def test_exact_is_the_dense_quadratic_form(seed, spread):
    """ess_exact: variance rᵀAr, A = (I−1pᵀ)ᵀ diag(g)(I−1pᵀ); unbiased, tr A = S₂; ν = (tr A)²/tr A²
    (Bell & McCaffrey).
    """
    log_weight, reward = rows(seed, N, spread=spread)
    p, _, s2 = snips_parts(log_weight, reward)
    _, a = dense(p)
    pivot = every_pivot(log_weight, reward)["ess_exact"]
    assert np.trace(a) == pytest.approx(s2, rel=1e-12)
    assert float(pivot.variance) == pytest.approx(
        np.asarray(reward) @ a @ np.asarray(reward), rel=1e-9
    )
    assert float(pivot.df) == pytest.approx(np.trace(a) ** 2 / np.trace(a @ a), rel=1e-9)


def test_exact_beats_bessel_for_unequal_weights():
    """The scalar form's c* = 1/(1 − 2S₃/S₂ + S₂) exceeds ESS/(ESS−1): Bessel's correction always
    falls short.
    """
    p, _, s2 = snips_parts(*rows(0, N))
    assert 1 / (1 - 2 * (p**3).sum() / s2 + s2) > 1 / (1 - s2)


def test_variances_are_the_displayed_formulas():
    """Every interval's variance and degrees of freedom, from the formula sheet, by numpy."""
    log_weight, reward = rows(1, N)
    p, e, s2 = snips_parts(log_weight, reward)
    robust, plain = p**2 @ e**2, p @ e**2
    _, a = dense(p)
    df = np.trace(a) ** 2 / np.trace(a @ a)
    expected = {
        "normal": (robust * N / (N - 1), np.inf),
        "hc2": (np.sum((p * e) ** 2 / (1 - p)), np.inf),
        "hc3": (np.sum((p * e / (1 - p)) ** 2), np.inf),
        "ess_exact": (np.sum((p * e) ** 2 / (1 - 2 * p + s2)), df),
        "ess_safe": (plain / (1 / s2 - 1), df),
    }
    for suffix, size in (("", 1 / s2), ("_max", 1 / p.max())):
        expected |= {
            f"ess_bessel{suffix}": (robust * size / (size - 1), np.inf),
            f"ess_rescaled{suffix}": (N * robust / size, np.inf),
            f"ess_kish{suffix}": (plain / (size - 1), np.inf),
            f"ess_student{suffix}": (robust * size / (size - 1), size - 1),
        }
    pivots = every_pivot(log_weight, reward)
    assert expected.keys() <= pivots.keys()
    for name, (variance, df) in expected.items():
        assert float(pivots[name].variance) == pytest.approx(variance, rel=1e-11), name
        assert float(pivots[name].df) == pytest.approx(df, rel=1e-9), name


def test_skew_aware_pivot_is_the_displayed_formula():
    """ess_skew: variance, degrees of freedom and skew by numpy."""
    log_weight, reward = rows(1, N)
    p, e, s2 = snips_parts(log_weight, reward)
    x = p * e / np.sqrt(1 - 2 * p + s2)
    pivots = every_pivot(log_weight, reward)
    exact, safe, got = pivots["ess_exact"], pivots["ess_safe"], pivots["ess_skew"]
    kurtosis = (x**4).sum() / (x @ x) ** 2
    caution = min(1, FEW_TERMS * max(s2, kurtosis))
    raised = caution * max(0, float(safe.variance - exact.variance))
    assert float(got.variance) == pytest.approx(float(exact.variance) + raised, rel=1e-11)
    heavier = max(0, kurtosis - 3 * (p**4).sum() / s2**2)
    assert float(got.df) == pytest.approx(2 / (2 / float(exact.df) + heavier), rel=1e-9)
    skewness = (x**3).sum() / (x @ x) ** 1.5
    assert float(got.skew) == pytest.approx((1 + STRETCH * caution) * skewness / 3, rel=1e-9)


def test_recommended_knows_the_range():
    """Without a range `ess_skew`; with one, inside it; a score where all rewards are at its ends;
    never a point.
    """
    log_weight, reward = rows(12, N)
    made = estimate(log_weight, reward)
    free = intervals.recommended(made, 0.05)
    assert (float(free.lower), float(free.upper)) == pytest.approx(
        tuple(map(float, every_interval(log_weight, reward, 0.05)["ess_skew"]))
    )
    inside = intervals.recommended(made, 0.05, reward_range=(float(reward.min()), float("inf")))
    assert inside.lower >= reward.min()
    clicks = estimate(log_weight, (reward > 0.5).astype(reward.dtype))
    for alpha in (0.05, 0.3):
        got, score = (
            f(clicks, alpha, reward_range=(0.0, 1.0))
            for f in (intervals.recommended, intervals.ess_score)
        )
        np.testing.assert_allclose(
            [got.lower, got.upper], [score.lower, score.upper], rtol=64 * eps(np.float64)
        )
    bound = intervals.recommended_lower(clicks, 0.05, reward_range=(0.0, 1.0))
    np.testing.assert_allclose(
        bound.lower, intervals.ess_score(clicks, 0.1).lower, rtol=64 * eps(np.float64)
    )
    assert bound.upper == np.inf
    nothing = estimate(log_weight, jnp.zeros(N))
    assert intervals.recommended(nothing, 0.05, reward_range=(0.0, 1.0)).upper > 0.1
    assert intervals.recommended(nothing, 0.05, reward_range=(-1.0, 2.0)).width == 3


def test_rewards_outside_their_range_are_named():
    """A bounded method with rewards outside its range would bound nothing: the first offending row
    is named.
    """
    with pytest.raises(
        ValueError, match=r"rewards in \[0, 1\], got 1.5 in row 2 of 3 \(2 in all\)"
    ):
        intervals.check_rewards(np.array([0.5, 1.5, -1.0]), (0.0, 1.0))
    intervals.check_rewards(np.array([0.0, 1.0]), (0.0, 1.0))


def test_hc3_is_the_jackknife():
    """hc3 = Σ (V̂₍₋ᵢ₎ − V̂)², the jackknife about the full estimate, by leaving rows out one by
    one.
    """
    log_weight, reward = rows(2, N)
    w, r = np.exp(log_weight), np.asarray(reward)
    value = w @ r / w.sum()
    left_out = [np.delete(w, i) @ np.delete(r, i) / np.delete(w, i).sum() for i in range(N)]
    variance = float(every_pivot(log_weight, reward)["hc3"].variance)
    assert variance == pytest.approx(np.sum((np.array(left_out) - value) ** 2), rel=1e-10)
    textbook = (N - 1) / N * np.sum((np.array(left_out) - np.mean(left_out)) ** 2)
    offset = np.mean(left_out) - value
    assert variance == pytest.approx(textbook * N / (N - 1) + N * offset**2, rel=1e-10)


def test_interval_is_value_plus_quantile_times_error():
    """Ends = value ± t_ν √variance, by scipy, at several levels, the longer one the root u of u²
    = t²(1 + 2λu);

    and a larger alpha gives a shorter interval.
    """
    log_weight, reward = rows(3, N)
    pivots = every_pivot(log_weight, reward)
    before = np.inf
    for alpha in (0.01, 0.05, 0.2):
        got = every_interval(log_weight, reward, alpha)
        for name in WALD:
            pivot = pivots[name]
            t, error, skew = (
                stats.t.isf(alpha / 2, float(pivot.df)),
                np.sqrt(float(pivot.variance)),
                float(pivot.skew),
            )
            longest = np.roots([1, -2 * abs(skew) * t**2, -(t**2)]).max() if skew else t
            below, above = (t, longest) if skew > 0 else (longest, t)
            ends = [pivot.value - below * error, pivot.value + above * error]
            np.testing.assert_allclose(got[name], ends, rtol=1e-8, err_msg=name)
        widths = np.array([float(high - low) for low, high in got.values()])
        assert (widths < before).all()
        before = widths


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0, 3))
def test_order_of_variances(seed, spread):
    """Corrections widen: HC2 ≤ HC3, CLT ≤ Bessel ≤ Bessel with ℓ∞, ℓ2 ≤ ℓ∞ throughout, CLT ≤
    rescaled.
    """
    pivots = {
        name: float(pivot.variance)
        for name, pivot in every_pivot(*rows(seed, N, spread=spread)).items()
    }
    slack = 1 + 64 * eps(np.float64)
    assert pivots["hc2"] <= pivots["hc3"]
    assert pivots["normal"] <= pivots["ess_bessel"] * slack
    assert pivots["normal"] <= pivots["ess_rescaled"] * slack * N / (N - 1)
    for name in ("ess_bessel", "ess_rescaled", "ess_kish", "ess_student"):
        assert pivots[name] <= pivots[f"{name}_max"] * slack


# On-policy.


T_INTERVALS = ("ess_exact", "ess_student", "ess_student_max", "ess_safe")


@pytest.mark.parametrize("n", [2, 3, 40])
def test_on_policy_is_the_t_interval(n):
    """Equal weights, of 1 or 148: every t interval is scipy's one-sample t interval to 1e-9."""
    reward = rows(4, n)[1]
    for alpha, shift in ((0.05, 0.0), (0.2, 5.0)):
        expected = stats.ttest_1samp(np.asarray(reward), 0).confidence_interval(1 - alpha)
        made = every_interval(jnp.full(n, shift), reward, alpha)
        for name in T_INTERVALS:
            np.testing.assert_allclose(made[name], expected, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("estimator", ["ips", "beta_ips"])
def test_on_policy_serves_every_estimator(estimator):
    """IPS and β-IPS on-policy are the mean too: the same t interval (ess_safe for IPS does not
    centre, and is wider).
    """
    reward = rows(4, N)[1]
    expected = stats.ttest_1samp(np.asarray(reward), 0).confidence_interval(0.95)
    made = every_interval(jnp.zeros(N), reward, 0.05, estimator)
    for name in T_INTERVALS[:3] if estimator == "ips" else T_INTERVALS:
        np.testing.assert_allclose(made[name], expected, rtol=1e-9, atol=1e-9, err_msg=name)
    assert made["ess_safe"][0] <= expected.low + 1e-9


def test_on_policy_degrees_of_freedom():
    """Equal weights: Satterthwaite's ν and ESS − 1 both equal n − 1; the normal interval has
    s²/n.
    """
    reward = rows(4, N)[1]
    pivots = every_pivot(jnp.full(N, 3.0), reward)
    for name in ("ess_exact", "ess_student", "ess_student_max", "ess_safe"):
        assert float(pivots[name].df) == pytest.approx(N - 1, rel=1e-12)
    for name in ("normal", "hc2", "ess_exact", "ess_bessel", "ess_kish", "ess_safe"):
        assert float(pivots[name].variance) == pytest.approx(
            float(np.var(np.asarray(reward), ddof=1)) / N, rel=1e-12
        )


# Invariances.


@pytest.mark.parametrize("estimator", ["snips", "delta_snips"])
@every_dtype
def test_invariant_to_the_scale_of_weights(estimator, dtype):
    """log w + c leaves every interval of a self-normalised estimator where it was, |c| ≤ 700,
    float32 too.
    """
    log_weight, reward = rows(5, N, dtype)
    log_weight = jnp.round(log_weight * 64) / 64  # so that the shift itself does not round
    one = every_interval(log_weight, reward, 0.05, estimator)
    for shift in (-700, 700):
        other = every_interval(log_weight + shift, reward, 0.05, estimator)
        close(other, one, rtol=256 * eps(dtype), atol=256 * eps(dtype))


@pytest.mark.parametrize("estimator", ["snips", "delta_snips", "beta_ips"])
def test_equivariant_to_the_reward(estimator):
    """r + 100 moves every interval by 100 (a difference by 0); −2r maps it to −2 times its mirror
    image.
    """
    log_weight, reward = rows(6, N)
    one, moved, mirrored = (
        {
            name: np.array(both)
            for name, both in every_interval(log_weight, r, 0.05, estimator).items()
            if name in WALD
        }
        for r in (reward, reward + 100, -2 * reward)
    )
    rounding = 100 * 256 * eps(np.float64)
    by = 0 if estimator == "delta_snips" else 100
    close(moved, {name: both + by for name, both in one.items()}, rtol=rounding, atol=rounding)
    close(mirrored, {name: -2 * both[::-1] for name, both in one.items()}, rtol=rounding)


def test_one_sided_bounds():
    """lower at alpha is the lower end at 2 alpha and infinite above; upper is its mirror image."""
    log_weight, reward = rows(7, N)

    @jax.jit
    def bounds(alpha):
        made = ESTIMATORS["snips"](log_weight, reward)
        return {
            name: [f(interval)(made, alpha) for f in (lower, upper)]
            for name, interval in KINDS.items()
        }

    two_sided = every_interval(log_weight, reward, 0.1)
    for name, (below, above) in bounds(0.05).items():
        np.testing.assert_allclose(
            [below.lower, above.upper], two_sided[name], rtol=1e-12, err_msg=name
        )
        assert below.upper == np.inf
        assert above.lower == -np.inf


# Never manufacture certainty.


def degenerate(dtype):
    """Logs that support no interval, by name: (log weights, rewards)."""
    log_weight, reward = rows(8, N, dtype)
    nothing, constant = jnp.full(N, -jnp.inf, dtype), jnp.full(N, 0.1, dtype)
    return {
        "no support": (nothing, reward),
        "one row with weight": (nothing.at[3].set(0), reward),
        "one row with nearly all weight": (jnp.full(N, -80.0, dtype).at[3].set(0), reward),
        "one row with far more weight": (jnp.full(N, -700.0, dtype).at[3].set(0), reward),
        "equal rewards": (log_weight, constant),
        "equal rewards, equal weights": (jnp.full(N, 0.3, dtype), constant),
        "equal rewards where there is weight": (
            log_weight.at[0].set(-jnp.inf),
            constant.at[0].set(0.7),
        ),
        "zero rewards": (log_weight, jnp.zeros(N, dtype)),
    }


@every_estimator
@every_dtype
def test_no_false_certainty(estimator, dtype):
    """No support, one row with the weight, or no variation in what is averaged: the whole line,
    never a point or NaN.
    """
    for case, log in degenerate(dtype).items():
        if estimator == "ips" and case.startswith("equal rewards"):
            continue  # w r varies although r does not; see below
        for name, both in every_interval(*log, 0.05, estimator).items():
            assert both[0].dtype == dtype
            assert tuple(map(float, both)) == (-np.inf, np.inf), (case, name)


@every_dtype
def test_equal_rewards_on_policy(dtype):
    """IPS of equal rewards under equal weights: the whole line, or (where rewards are not centred)
    an honest width.
    """
    for name, (low, high) in every_interval(
        jnp.zeros(N, dtype), jnp.full(N, 0.1, dtype), 0.05, "ips"
    ).items():
        assert np.isinf(high) or high - low > 0.1 / N, name


def test_a_contrast_needs_both_policies_supported():
    """Two policies that rest on one row differ in rows that do not count: no interval for the
    difference.
    """
    heavy = jnp.full(N, -80.0).at[3].set(0)
    reward = rows(8, N)[1]
    for other in (0.5 * heavy, jnp.zeros(N)):
        made = estimators.difference(estimate(heavy, reward), estimate(other, reward))
        assert np.isneginf(made.log_weight).all()


@pytest.mark.parametrize("estimator", ["ips", "snips", "beta_ips"])
@every_dtype
def test_one_row_claims_nothing(estimator, dtype):
    """A log of a single row: the whole line."""
    pivots = every_pivot(jnp.zeros(1, dtype), jnp.ones(1, dtype), estimator)
    assert all(np.isnan(pivot.variance) for pivot in pivots.values())
    for both in intervals_of(pivots, 0.05).values():
        assert (float(both.lower), float(both.upper)) == (-np.inf, np.inf)


def test_gradients_are_finite():
    """Where nothing is claimed the gradient of the bound is finite, and where weights and rewards
    are extreme: pessimistic learning cannot be poisoned by NaN.
    """
    slope = jax.jit(jax.jacrev(lower_ends_of_log))
    cases = itertools.product(WEIGHTS, REWARDS, (1.0, *SIZES[np.float64]))
    stressed = {case: under_stress(*case[:2], 0, N, size=case[2]) for case in cases}
    for case, log in (degenerate(np.float64) | stressed).items():
        assert np.isfinite(slope(*log)).all(), case


@every_dtype
def test_pivot_says_why(dtype):
    """A pivot without support has NaN variance; zero variance, NaN or infinite parts give the whole
    line.
    """
    nothing = every_pivot(jnp.full(N, -jnp.inf, dtype), rows(9, N, dtype)[1])
    assert all(np.isnan(pivot.variance) for pivot in nothing.values())
    bad = [
        [1, 0, 5],
        [1, np.nan, 5],
        [np.nan, 1, 5],
        [1, 1, np.nan],
        [1, np.inf, 5],
        [1, 1, -1],
        [1, 1, 0],
        [1, 1, 5],
    ]
    bad = np.column_stack([bad, [0, 0, 0, 0, 0, 0, 0, np.nan]])
    made = jax.jit(lambda pivot: pivot.interval(0.05))(Pivot(*jnp.asarray(bad.T, dtype)))
    assert (made.lower == -np.inf).all()
    assert (made.upper == np.inf).all()


# Composition.


@every_dtype
def test_intervals_compose(dtype):
    """A direct call equals the shared quantile of a sweep, in the dtype of the log."""
    log_weight, reward = rows(10, N, dtype)
    made = estimate(log_weight, reward)
    direct = jax.jit(lambda made, alpha: {name: f(made, alpha) for name, f in KINDS.items()})(
        made, 0.05
    )
    shared = every_interval(log_weight, reward, 0.05)
    for name, interval in direct.items():
        assert interval.lower.dtype == interval.upper.dtype == dtype
        np.testing.assert_allclose(
            [interval.lower, interval.upper], shared[name], rtol=32 * eps(dtype), err_msg=name
        )


@every_estimator
def test_batching_is_looping(estimator):
    """`vmap` over logs equals one call each, for every estimator and interval; every interval
    contains its value.
    """
    logs = [rows(seed, N) for seed in range(4)]
    batch = [jnp.stack(columns) for columns in zip(*logs, strict=True)]
    pivots = jax.jit(jax.vmap(lambda *log: every_pivot(*log, estimator)))(*batch)
    made = intervals_of(pivots, 0.05)
    for i, log in enumerate(logs):
        one = every_interval(*log, 0.05, estimator)
        close(
            {name: (both.lower[i], both.upper[i]) for name, both in made.items()},
            {k: one[k] for k in made},
            rtol=1e-11,
        )
    for name, interval in made.items():
        assert interval.contains(pivots[name].value).all()
        assert (interval.width > 0).all()


def test_interval_contains_its_ends():
    """Containment is closed, and width is upper − lower."""
    interval = Interval(jnp.array([0.0, -jnp.inf]), jnp.array([1.0, jnp.inf]))
    assert interval.contains(jnp.array([0.0, 1e300])).all()
    assert interval.contains(jnp.array([1.0, -1e300])).all()
    assert not interval.contains(jnp.array([1.1, 0.0]))[0]
    np.testing.assert_array_equal(interval.width, [1, np.inf])


# Gradients: the lower bound of a Gaussian target's value as a function of its mean.


def lower_ends_of_log(log_weight, reward, estimator="snips"):
    """Every lower end of a log."""
    return jnp.stack(
        [
            made.lower
            for made in intervals_of(every_pivot(log_weight, reward, estimator), 0.1).values()
        ]
    )


@jax.jit
def lower_ends(mean, actions, log_propensity, reward):
    """Every lower end as a function of the target's mean."""
    target = Gaussian.diagonal(mean, 0.6)
    return lower_ends_of_log(jax.vmap(target.log_density)(actions) - log_propensity, reward)


def gaussian_log(dtype):
    """A target mean, and a log of 40 rows from N(0, I): actions, log propensities, rewards."""
    rng = np.random.default_rng(3)
    actions = rng.normal(size=(40, 2))
    log_propensity = -0.5 * (actions**2).sum(axis=1) - np.log(2 * np.pi)
    log = np.array([0.3, -0.2]), actions, log_propensity, actions.sum(axis=1) + rng.normal(size=40)
    return [jnp.asarray(x, dtype) for x in log]


def test_lower_bound_gradient():
    """∂(lower end)/∂(target mean) is finite and equals central differences (error h²), for every
    interval.
    """
    mean, *log = gaussian_log(np.float64)
    got, h = jax.jit(jax.jacrev(lower_ends))(mean, *log), 1e-5
    sides = [[lower_ends(mean + s * h * e, *log) for s in (1, -1)] for e in jnp.eye(2)]
    difference = np.stack([np.asarray(a - b) / (2 * h) for a, b in sides], axis=1)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, difference, rtol=1e-6, atol=1e-8)


def test_lower_bound_gradient_in_float32():
    """The gradient of the bound that learning maximises, in float32, equals float64's to 10,000
    roundings.
    """

    @jax.jit
    @jax.grad
    def slope(mean, actions, log_propensity, reward):
        log_weight = jax.vmap(Gaussian.diagonal(mean, 0.6).log_density)(actions) - log_propensity
        return lower(INTERVALS["ess_exact"])(estimators.snips(log_weight, reward), 0.05).lower

    single, double = (slope(*gaussian_log(dtype)) for dtype in DTYPES)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=1e4 * eps(np.float32))


# Precision.


@pytest.mark.nightly
@pytest.mark.parametrize("n", [2**10, 2**15, 2**20])
@pytest.mark.parametrize("shift", [-700, 0, 700])
def test_float32_is_enough(n, shift):
    """float32 ends differ from float64's by under 1 % of the width up to 2²⁰ rows, log weights near
    ±700, mean reward 100.
    """
    log_weight, reward = rows(11, n, spread=2.0)
    log_weight, reward = (log_weight + shift).astype(np.float32), (reward + 100).astype(np.float32)
    single = every_interval(log_weight, reward, 0.05)
    double = every_interval(log_weight.astype(np.float64), reward.astype(np.float64), 0.05)
    for name, both in double.items():
        error = np.abs(np.array(single[name], np.float64) - np.array(both))
        assert error.max() < 0.01 * float(both[1] - both[0]), name


def test_named_estimators_are_crossed():
    """Every published estimator is in the test list."""
    assert set(estimators.NAMED) <= set(ESTIMATORS)


def _stable_exact(log_weight, reward):
    """`ess_exact`'s variance and degrees of freedom by dense algebra in extended precision,
    complements summed directly.
    """
    w = np.exp(log_weight.astype(np.longdouble))
    p = w / w.sum()
    others = np.array([np.delete(p, i).sum() for i in range(len(p))])
    expected = others**2 + np.array([(np.delete(p, i) ** 2).sum() for i in range(len(p))])
    g = p * p / expected
    m = -p[:, None] - p[None, :] + (p * p).sum() + np.eye(len(p))
    heavy = int(np.argmax(p))
    m[heavy, heavy] = expected[heavy]
    residual = reward - (p * reward).sum()
    return (p * p * residual**2 / expected).sum(), (p * p).sum() ** 2 / (
        g[:, None] * g[None, :] * m * m
    ).sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_dominant_row_keeps_its_digits(dtype):
    """However near one row is to all the weight, variance and degrees of freedom hold to rounding,
    or nothing is claimed.
    """
    pivot = jax.jit(
        lambda log_weight, reward: INTERVALS["ess_exact"].pivot(
            estimators.snips(log_weight, reward)
        )
    )
    rng, rows = np.random.default_rng(5), 40
    reward = rng.normal(size=rows)
    for depth in (5, 8, 11, 14, 17, 26, 38):
        log_weight = np.where(np.arange(rows) == 7, 0.0, -depth + rng.normal(size=rows))
        made = pivot(log_weight.astype(dtype), reward.astype(dtype))
        variance, df = _stable_exact(log_weight, reward)
        if np.isfinite(made.variance):
            np.testing.assert_allclose(
                [made.variance, made.df], [variance, df], rtol=1e-2 if dtype == np.float32 else 1e-7
            )
        else:
            assert depth > 11

"""Effective sample sizes: range, order, invariance; population versions against simulation,
quadrature and limits.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from worlds import ESS, POLICIES, rows, sample_rows
from yardsticks import DTYPES, KEY, cast, eps, standard_errors

from mopl_jax.estimators import divergence, ess
from mopl_jax.policies import Gaussian, Uniform

N = 12
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_ess = pytest.mark.parametrize("name", ESS)
quick = settings(deadline=None, max_examples=50, derandomize=True)
log_weights = st.lists(st.one_of(st.floats(-60, 60), st.just(-np.inf)), min_size=N, max_size=N).map(
    np.array
)


@jax.jit
def sizes(log_weight):
    """Every effective sample size, in the order of `ESS`: rising."""
    return jnp.stack([size(log_weight) for size in ESS.values()])


slopes = jax.jit(jax.jacrev(sizes))
population = jax.jit(
    lambda logging, target: (
        divergence.population_d2(logging, target),
        divergence.population_max_weight(logging, target),
    )
)


@quick
@given(log_weights, st.sampled_from(DTYPES))
def test_range_and_order(log_weight, dtype):
    """1 ≤ ℓ∞ ≤ Rényi-3 ≤ ℓ2 ≤ perplexity ≤ Rényi-½ ≤ n where a row has weight: Hill numbers fall
    with their order.
    """
    size = np.asarray(sizes(log_weight.astype(dtype)), np.float64)
    if np.isneginf(log_weight).all():
        assert (size == 0).all()
        return
    rounding = 1 + 8 * N * eps(dtype)
    assert size[0] * rounding >= 1
    assert (size[1:] * rounding >= size[:-1]).all()
    assert size[-1] <= N * rounding


@quick
@given(log_weights, st.floats(-700, 700), st.sampled_from(DTYPES))
def test_shift_invariance(log_weight, shift, dtype):
    """log w + c gives the same sizes for |c| ≤ 700, in float32 too; the shift itself rounds at 760
    eps.
    """
    log_weight = log_weight.astype(dtype)
    shifted = log_weight + dtype(shift)
    np.testing.assert_allclose(sizes(shifted), sizes(log_weight), rtol=2000 * eps(dtype))


@every_dtype
def test_equal_weights_give_n(dtype):
    """n if the weights are equal, whatever they are, and any unequal weights give less."""
    for constant in (0.0, -700.0, 88.0):
        np.testing.assert_allclose(sizes(jnp.full(N, constant, dtype)), N, rtol=8 * eps(dtype))
    for gap in (0.1, -0.1):
        assert (sizes(jnp.zeros(N, dtype).at[3].set(gap)) < N * (1 - 16 * eps(dtype))).all()


@every_dtype
def test_one_heavy_row_gives_one(dtype):
    """1 if one row has all the mass, exactly or to rounding; more as soon as a second row has
    some.
    """
    for rest in (-np.inf, -700.0):
        np.testing.assert_array_equal(
            sizes(jnp.full(N, rest, dtype).at[5].set(0)), np.ones(len(ESS))
        )
    assert (
        sizes(jnp.full(N, -np.inf, dtype).at[5].set(0).at[2].set(-3)) > 1 + 16 * eps(dtype)
    ).all()


@every_dtype
def test_no_support_gives_zero(dtype):
    """0 if no row has positive weight, and a gradient of zero rather than NaN."""
    nothing = jnp.full(N, -jnp.inf, dtype)
    np.testing.assert_array_equal(sizes(nothing), np.zeros(len(ESS)))
    np.testing.assert_array_equal(ess.normalise(nothing), np.zeros(N))
    assert np.isfinite(slopes(nothing)).all()


@pytest.mark.parametrize("m", [1, 3, 7])
def test_equal_weights_on_a_subset(m):
    """m equal weights among zeros are worth m rows by every measure."""
    np.testing.assert_allclose(
        sizes(jnp.full(N, -jnp.inf).at[:m].set(2.5)), m, rtol=8 * eps(np.float64)
    )


def test_definitions():
    """1/Σp², 1/max p, exp of the entropy and the Hill numbers, by numpy; order 2 of Rényi's family
    is Kish's.
    """
    log_weight = np.asarray(rows(0, N)[0])
    p = np.exp(log_weight) / np.exp(log_weight).sum()
    expected = [
        1 / p.max(),
        (p**3).sum() ** (1 / -2),
        1 / (p**2).sum(),
        np.exp(stats.entropy(p)),
        (p**0.5).sum() ** 2,
    ]
    np.testing.assert_allclose(sizes(log_weight), expected, rtol=1e-13)
    np.testing.assert_allclose(ess.renyi(log_weight, 2.0), expected[2], rtol=1e-13)
    np.testing.assert_allclose(ess.normalise(log_weight), p, rtol=1e-13)


def test_float32_is_accurate():
    """float32 equals float64 to rounding, with log weights near ±700."""
    log_weight = np.round(np.asarray(rows(1, N)[0]), 3)
    for shift in (0, 700, -700):
        single = (log_weight + shift).astype(np.float32)
        np.testing.assert_allclose(
            sizes(single), sizes(single.astype(np.float64)), rtol=64 * eps(np.float32)
        )
        assert sizes(single).dtype == np.float32


def test_batching_is_looping():
    """`vmap` over logs equals one call each."""
    batch = np.stack([np.asarray(rows(seed, N)[0]) for seed in range(3)])
    looped = np.stack([sizes(row) for row in batch])
    np.testing.assert_allclose(jax.jit(jax.vmap(sizes))(batch), looped, rtol=64 * eps(np.float64))


def test_gradient():
    """Gradients equal central differences (error of order h²) and sum to zero, by shift invariance;
    finite with p = 0.
    """
    log_weight, h = np.asarray(rows(2, N)[0]), 1e-5
    gradient = slopes(log_weight)
    for i in range(N):
        step = np.eye(N)[i] * h
        difference = (sizes(log_weight + step) - sizes(log_weight - step)) / (2 * h)
        np.testing.assert_allclose(gradient[:, i], difference, rtol=1e-6, atol=1e-8)
    assert np.abs(gradient.sum(axis=1)).max() <= 64 * N * eps(np.float64)
    assert np.isfinite(slopes(np.append(log_weight[1:], -np.inf))).all()


def test_reward_aware():
    """Σpe²/Σp²e²: Kish's for equal e², at least ℓ∞, free of the reward's unit, 0 without residuals
    or support.
    """
    log_weight, residual = rows(3, N)
    size = jax.jit(ess.reward_aware)
    signs = jnp.sign(residual)
    np.testing.assert_allclose(
        size(log_weight, 3 * signs), ess.kish(log_weight), rtol=64 * eps(np.float64)
    )
    np.testing.assert_allclose(
        size(log_weight, -7 * residual), size(log_weight, residual), rtol=64 * eps(np.float64)
    )
    assert size(log_weight, residual) >= ess.max_weight(log_weight)
    assert size(log_weight, jnp.zeros(N)) == 0
    assert size(jnp.full(N, -jnp.inf), residual) == 0


# Population versions.

LOGGING = Gaussian.full(np.array([0.2, -0.1]), np.array([[1.0, 0.3], [0.3, 0.8]]))
TARGET = Gaussian.full(np.array([0.4, 0.2]), np.array([[0.5, -0.1], [-0.1, 0.4]]))


@pytest.fixture(scope="module")
def simulated():
    """Weights of TARGET on 200,000 rows of LOGGING."""
    actions = sample_rows(KEY, LOGGING, 200_000)
    return np.asarray(
        jax.jit(jax.vmap(lambda a: jnp.exp(TARGET.log_density(a) - LOGGING.log_density(a))))(
            actions
        )
    )


def test_gaussian_d2_is_the_second_moment(simulated):
    """E_π₀[w] = 1 and E_π₀[w²] = d₂ for full covariances, at 4 standard errors."""
    assert standard_errors(simulated, 1) < 4
    assert standard_errors(simulated**2, divergence.population_d2(LOGGING, TARGET)) < 4


def test_population_ess_is_the_limit(simulated):
    """ESS/n → 1/d₂: the ratio estimator Σw²/n / (Σw/n)² at 4 delta-method standard errors."""
    d2 = float(divergence.population_d2(LOGGING, TARGET))
    linearised = simulated**2 - 2 * d2 * simulated
    error = linearised.std() / np.sqrt(simulated.size)
    assert abs(simulated.size / float(ess.kish(jnp.log(simulated))) - d2) < 4 * error


def test_gaussian_max_weight_is_attained(simulated):
    """No simulated weight exceeds w_max, and w = w_max where the gradient of log w vanishes."""
    w_max = float(divergence.population_max_weight(LOGGING, TARGET))
    assert simulated.max() <= w_max
    precision, logging_precision = (
        np.linalg.inv(policy.covariance) for policy in (TARGET, LOGGING)
    )
    mean, logging_mean = np.asarray(TARGET.mean), np.asarray(LOGGING.mean)
    top = np.linalg.solve(
        precision - logging_precision, precision @ mean - logging_precision @ logging_mean
    )
    log_ratio = lambda a: TARGET.log_density(a) - LOGGING.log_density(a)  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(log_ratio))(top)
    assert np.abs(gradient).max() < 1e-12
    assert np.exp(value) == pytest.approx(w_max, rel=1e-12)


def test_gaussian_d2_is_affine_invariant():
    """d₂ and w_max do not change when the action space is mapped by an invertible matrix."""
    m = np.array([[1.0, 2.0], [-0.5, 0.7]])
    mapped = [
        Gaussian.full(m @ np.asarray(p.mean), m @ np.asarray(p.covariance) @ m.T)
        for p in (LOGGING, TARGET)
    ]
    np.testing.assert_allclose(population(*mapped), population(LOGGING, TARGET), rtol=1e-12)


@pytest.mark.parametrize("logging", ["gaussian", "uniform"])
def test_d2_by_quadrature(logging):
    """d₂ = Π ∫ π²/π₀ for independent entries, by adaptive quadrature to 1e-8."""
    target = Gaussian.diagonal(np.array([0.1, 0.8]), np.array([0.3, 0.5]))
    pi = stats.norm(np.asarray(target.mean), np.asarray(target.scale))
    if logging == "gaussian":
        policy = Gaussian.diagonal(np.array([0.0, 0.5]), np.array([0.4, 0.6]))
        pi_0, low, high = (
            stats.norm(np.asarray(policy.mean), np.asarray(policy.scale)),
            [-6, -6],
            [6, 6],
        )
    else:
        policy = Uniform(jnp.array([-0.5, 0.2]), jnp.array([1.0, 1.5]))
        low, high = np.asarray(policy.low), np.asarray(policy.high)
        pi_0 = stats.uniform(low, high - low)
    moments = [
        integrate.quad(
            lambda a, i=i: pi.pdf(a)[i] ** 2 / pi_0.pdf(a)[i],
            low[i],
            high[i],
            epsabs=0,
            epsrel=1e-10,
        )[0]
        for i in range(2)
    ]
    assert float(divergence.population_d2(policy, target)) == pytest.approx(
        np.prod(moments), rel=1e-8
    )


def test_uniform_d2_is_the_second_moment():
    """E_π₀[w²] = d₂ for uniform logging, at 4 standard errors; with the target inside, E_π₀[w] =
    1.
    """
    box = Uniform(jnp.array([-1.0, -1.5]), jnp.array([1.0, 1.5]))
    target = Gaussian.diagonal(np.array([0.1, 0.2]), np.array([0.15, 0.2]))
    actions = sample_rows(KEY, box, 100_000)
    w = np.exp(jax.jit(jax.vmap(lambda a: target.log_density(a) - box.log_density(a)))(actions))
    assert standard_errors(w, 1) < 4
    assert standard_errors(w**2, divergence.population_d2(box, target)) < 4
    assert w.max() <= divergence.population_max_weight(box, target)


@pytest.mark.parametrize("mean", [0.3, 1.7], ids=["inside", "outside"])
def test_uniform_max_weight(mean):
    """w_max = Vol · π at the box's nearest point to the target's mean."""
    box, target = Uniform(jnp.zeros(1), jnp.ones(1)), Gaussian.diagonal(np.array([mean]), 0.5)
    grid = np.linspace(0, 1, 1001)
    expected = stats.norm(mean, 0.5).pdf(grid).max()
    assert float(divergence.population_max_weight(box, target)) == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize("logging", ["gaussian", "uniform"])
def test_curse_of_dimensionality(logging):
    """d independent copies multiply: d₂(d) = d₂(1)^d and w_max(d) = w_max(1)^d, for Gaussian and
    uniform logging.
    """

    def figures(d):
        policy = (
            Gaussian.diagonal(np.zeros(d), 1.0)
            if logging == "gaussian"
            else Uniform(-jnp.ones(d), jnp.ones(d))
        )
        return np.array(population(policy, Gaussian.diagonal(np.full(d, 0.3), 0.5)))

    np.testing.assert_allclose(figures(4), figures(1) ** 4, rtol=1e-12)


@pytest.mark.parametrize(
    ("ratio", "d2", "w_max"), [(0.999, 1, 1), (1.5, 1, 0), (1.999, 1, 0), (2.0, 0, 0), (3.0, 0, 0)]
)
def test_divergence_is_infinite(ratio, d2, w_max):
    """d₂ is finite iff Σπ ≺ 2Σ₀ and w_max iff Σπ ≺ Σ₀, judged along the worst direction; otherwise
    inf, never NaN.
    """
    rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
    target = Gaussian.full(np.full(2, 0.1), rotation @ np.diag([ratio, 0.5]) @ rotation.T)
    got = population(Gaussian.diagonal(np.zeros(2), 1.0), target)
    assert [bool(np.isfinite(x)) for x in got] == [bool(d2), bool(w_max)]
    assert not np.isnan(got).any()


def test_equal_policies_have_weight_one():
    """On-policy d₂ = w_max = 1; a mere shift of the mean leaves d₂ = exp(ΔᵀΣ⁻¹Δ) finite and w_max
    infinite.
    """
    np.testing.assert_allclose(population(LOGGING, LOGGING), 1, rtol=1e-13)
    delta = np.array([0.2, -0.1])
    d2, w_max = population(LOGGING, Gaussian(LOGGING.mean + delta, LOGGING.scale))
    assert float(d2) == pytest.approx(
        np.exp(delta @ np.linalg.solve(LOGGING.covariance, delta)), rel=1e-12
    )
    assert w_max == np.inf


@every_dtype
def test_population_keeps_the_dtype(dtype):
    """Policies of one dtype give population figures of that dtype, equal to float64's to
    rounding.
    """
    for logging in (LOGGING, Uniform(-jnp.ones(2), jnp.ones(2))):
        target = Gaussian.diagonal(np.array([0.1, 0.2]), 0.4)
        got = population(cast(logging, dtype), cast(target, dtype))
        assert all(x.dtype == dtype for x in got)
        np.testing.assert_allclose(got, population(logging, target), rtol=64 * eps(dtype))


def test_unsupported_policies_are_refused():
    """Uniform logging with a full covariance, or an unknown logging policy, raise errors that say
    what is expected.
    """
    for function in (divergence.population_d2, divergence.population_max_weight):
        with pytest.raises(TypeError, match="Gaussian or Uniform"):
            function("uniform", TARGET)
        with pytest.raises(ValueError, match="diagonal target"):
            function(POLICIES["uniform"], POLICIES["full"])

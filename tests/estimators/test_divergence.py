"""Moments of the weights in closed form: against simulation, quadrature and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from worlds import POLICIES, sample_rows
from yardsticks import DTYPES, KEY, cast, eps, standard_errors

from mopl_jax.estimators import divergence, ess
from mopl_jax.policies import Gaussian, Uniform

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
population = jax.jit(
    lambda logging, target: (
        divergence.population_d2(logging, target),
        divergence.population_max_weight(logging, target),
    )
)
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

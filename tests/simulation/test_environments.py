"""Environments: exact policy values, noises with the stated moments, common random numbers, the
oracle variance.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from worlds import ENVIRONMENTS, MEAN_REWARDS, NOISE_VARIANCE, NOISES, sample_rows, standard
from yardsticks import DTYPES, KEY, cast, eps, standard_errors

from mopl_jax.coverage.overlap import WIDTHS, overlapping
from mopl_jax.estimators.divergence import population_d2
from mopl_jax.numerics import random
from mopl_jax.policies import Gaussian, Mixture, Uniform
from mopl_jax.simulation.environments import (
    Bernoulli,
    Environment,
    Linear,
    Normal,
    Probit,
    StudentT,
    ZeroInflated,
    snips_variance,
)

N = 50_000
POLICY = Gaussian.full(
    np.array([0.3, -0.2, 0.5]), np.array([[0.5, 0.1, 0], [0.1, 0.4, -0.1], [0, -0.1, 0.3]])
)
every_environment = pytest.mark.parametrize("name", ENVIRONMENTS)
every_noise = pytest.mark.parametrize("name", NOISES)


@functools.partial(jax.jit, static_argnames="n")
def rewards(key, environment, actions, n):
    """n rewards, one per action."""
    return jax.vmap(environment.sample_reward)(random.row_keys(key, n), actions)


@functools.partial(jax.jit, static_argnames="n")
def noise_rows(key, noise, n):
    """n draws of a noise of spread one around zero."""
    zero, one = (jnp.full((), x, jax.tree.leaves(noise)[0].dtype) for x in (0, 1))
    return jax.vmap(lambda k: noise.reward(k, zero, one))(random.row_keys(key, n))


@pytest.fixture(scope="module")
def actions():
    """Actions of POLICY."""
    return sample_rows(jax.random.fold_in(KEY, 1), POLICY, N)


@every_environment
def test_policy_value_is_the_mean_reward(name, actions):
    """E r = policy_value for every mean reward and noise, at 4 standard errors of 50,000 draws."""
    environment = ENVIRONMENTS[name]
    assert (
        standard_errors(rewards(KEY, environment, actions, N), environment.policy_value(POLICY)) < 4
    )


@pytest.mark.parametrize("name", MEAN_REWARDS)
def test_expectation_by_quadrature(name):
    """The closed form of E f(a) equals Gauss–Hermite quadrature with 12³ nodes, to 1e-9; a point
    policy gives f.
    """
    mean_reward = MEAN_REWARDS[name]
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    grid = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 3)
    weight = np.prod(
        np.stack(np.meshgrid(weights, weights, weights, indexing="ij"), axis=-1).reshape(-1, 3),
        axis=1,
    )
    points = np.asarray(POLICY.mean) + grid @ np.asarray(POLICY.scale).T
    values = jax.jit(jax.vmap(mean_reward))(jnp.asarray(points))
    expected = np.asarray(values) @ weight / weight.sum()
    assert float(mean_reward.expectation(POLICY)) == pytest.approx(expected, rel=1e-9)
    point = Gaussian.diagonal(POLICY.mean, 1e-9)
    assert float(mean_reward.expectation(point)) == pytest.approx(
        float(mean_reward(POLICY.mean)), rel=1e-12
    )


@pytest.mark.parametrize("slope", [0.2, 1.0, 8.0])
def test_expectation_of_a_probit_by_quadrature(slope):
    """Φ of a normal projection, by the trapezoidal rule on 4,001 points of it, to 1e-9; a point
    policy gives the rate itself.
    """
    rate = Probit(slope * jnp.array([1.0, -0.5, 0.3]), *jnp.array([-0.4, 0.8, 0.1]))
    mean = np.dot(rate.slope, POLICY.mean)
    sd = np.sqrt(rate.slope @ POLICY.covariance @ rate.slope)
    z = np.linspace(-9, 9, 4001)
    values = 0.1 + 0.8 * stats.norm.cdf(mean + sd * z - 0.4)
    expected = np.sum(values * stats.norm.pdf(z)) * (z[1] - z[0])
    np.testing.assert_allclose(rate.expectation(POLICY), expected, rtol=1e-9)
    point = Gaussian.diagonal(POLICY.mean, 1e-9)
    np.testing.assert_allclose(rate(POLICY.mean), 0.1 + 0.8 * stats.norm.cdf(mean - 0.4), rtol=1e-9)
    np.testing.assert_allclose(rate.expectation(point), rate(POLICY.mean), rtol=1e-9)


@every_noise
def test_noise_moments(name):
    """Mean 0 and the stated variance, at 4 standard errors."""
    noise = np.asarray(noise_rows(KEY, NOISES[name], N))
    assert standard_errors(noise, 0) < 4
    assert standard_errors(noise**2, NOISE_VARIANCE[name]) < 4


@pytest.mark.parametrize("df", [1.5, 2.5, 30.0])
def test_student_noise_distribution(df):
    """Bailey's polar method is Student's t for real df: Kolmogorov–Smirnov against scipy, p-value
    above 1e-4.
    """
    noise = noise_rows(KEY, StudentT(jnp.array(df), jnp.array(2.0)), N)
    assert stats.kstest(np.asarray(noise) / 2, stats.t(df).cdf).pvalue > 1e-4


def test_lognormal_noise_distribution():
    """scale·(exp(shape z − ½ shape²) − 1): Kolmogorov–Smirnov against scipy's shifted lognormal,
    p-value above 1e-4.
    """
    noise = NOISES["lognormal"]
    shape, scale = float(noise.shape), float(noise.scale)
    expected = stats.lognorm(shape, loc=-scale, scale=scale * np.exp(-(shape**2) / 2))
    assert stats.kstest(np.asarray(noise_rows(KEY, noise, N)), expected.cdf).pvalue > 1e-4


def test_bernoulli_rewards(actions):
    """Rewards are 0 or 1, with the mean reward as probability given the action: score test at 4
    standard errors.
    """
    environment = ENVIRONMENTS["probability-bernoulli"]
    probability = np.asarray(jax.jit(jax.vmap(environment.mean_reward))(actions))
    drawn = np.asarray(rewards(KEY, environment, actions, N))
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert standard_errors((drawn - probability) * (probability - 0.5), 0) < 4
    assert standard_errors((drawn - probability) ** 2 - probability * (1 - probability), 0) < 4


def test_heteroscedastic_noise(actions):
    """The noise's standard deviation is scale · exp(log_spreadᵀa): squared and standardised it has
    mean 1, whatever a.
    """
    environment = ENVIRONMENTS["linear-heteroscedastic"]
    mean = np.asarray(jax.jit(jax.vmap(environment.mean_reward))(actions))
    spread = 0.5 * np.exp(np.asarray(actions) @ np.asarray(environment.log_spread))
    z = (np.asarray(rewards(KEY, environment, actions, N)) - mean) / spread
    assert standard_errors(z**2, 1) < 4
    assert standard_errors((z**2 - 1) * np.log(spread), 0) < 4
    assert np.abs(np.corrcoef(z, np.asarray(actions).T)[0, 1:]).max() * np.sqrt(N) < 4


def test_common_random_numbers(actions):
    """One key gives the same shock in every world, to the rounding of its float32 normals, whose
    code the compiler may arrange otherwise in another world; scales are exact.
    """
    shocks = {}
    for name, mean_reward in MEAN_REWARDS.items():
        mean = jax.jit(jax.vmap(mean_reward))(actions)
        shocks[name] = np.asarray(
            rewards(KEY, Environment(mean_reward, NOISES["normal"]), actions, N) - mean
        )
    for name in MEAN_REWARDS:
        np.testing.assert_allclose(
            shocks[name], shocks["linear"], rtol=0, atol=16 * eps(np.float32)
        )
    doubled = noise_rows(KEY, Normal(jnp.array(1.0)), N)
    np.testing.assert_allclose(doubled, 2 * shocks["linear"], rtol=0, atol=16 * eps(np.float32))


def test_noises_share_their_source():
    """Normal and lognormal noise are the same z, so a comparison of noise families is paired: rank
    correlation 1.
    """
    normal, lognormal = (
        np.asarray(noise_rows(KEY, NOISES[name], 1000)) for name in ("normal", "lognormal")
    )
    assert (np.argsort(normal, kind="stable") == np.argsort(lognormal, kind="stable")).all()


@pytest.mark.parametrize(
    "name", ["linear-heteroscedastic", "quadratic-student_t", "cosine-lognormal"]
)
def test_dtype_in_is_dtype_out(name, actions):
    """Rewards have the environment's dtype, and a key gives the same reward in either to float32
    rounding.
    """
    got = [
        rewards(KEY, cast(ENVIRONMENTS[name], dtype), actions.astype(dtype), N) for dtype in DTYPES
    ]
    assert [x.dtype for x in got] == list(DTYPES)
    rounding = 1024 * eps(np.float32)
    np.testing.assert_allclose(*got, rtol=rounding, atol=rounding)
    for dtype in DTYPES:
        assert cast(ENVIRONMENTS[name], dtype).policy_value(cast(POLICY, dtype)).dtype == dtype


def test_a_sweep_over_physics_is_a_vmap():
    """Fields are data: a stack of environments evaluates under `vmap` as one by one."""
    slopes = jnp.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    stacked = Environment(Linear(slopes, jnp.zeros(2)), Normal(jnp.array([0.1, 0.2])))
    values = jax.vmap(Environment.policy_value, in_axes=(0, None))(stacked, POLICY)
    np.testing.assert_allclose(values, [POLICY.mean[0], 2 * POLICY.mean[1]], rtol=1e-14)


def test_snips_oracle_variance():
    """n·AVar = E_π₀[w²(r−V)²] for a linear reward, full covariances: closed form against
    simulation, 4 standard errors.
    """
    environment = Environment(MEAN_REWARDS["linear"], NOISES["normal"])
    logging = Gaussian.full(np.zeros(3), np.array([[1, 0.2, 0], [0.2, 1.2, 0.1], [0, 0.1, 0.9]]))
    actions = sample_rows(jax.random.fold_in(KEY, 1), logging, 4 * N)
    log_ratio = jax.vmap(lambda a: POLICY.log_density(a) - logging.log_density(a))
    w = np.exp(jax.jit(log_ratio)(actions))
    drawn = np.asarray(rewards(KEY, environment, actions, 4 * N))
    value = float(environment.policy_value(POLICY))
    assert (
        standard_errors((w * (drawn - value)) ** 2, snips_variance(environment, logging, POLICY))
        < 4
    )


def test_snips_oracle_variance_on_policy():
    """On-policy the oracle variance is Var(r) = bᵀΣb + σ²; without signal it is d₂ σ²."""
    environment = Environment(MEAN_REWARDS["linear"], NOISES["normal"])
    slope = np.asarray(environment.mean_reward.slope)
    on_policy = float(snips_variance(environment, POLICY, POLICY))
    assert on_policy == pytest.approx(
        slope @ np.asarray(POLICY.covariance) @ slope + 0.25, rel=1e-12
    )
    flat = Environment(Linear(jnp.zeros(3), jnp.array(0.4)), NOISES["normal"])
    logging = standard(3)
    expected = float(population_d2(logging, POLICY)) * 0.25
    assert float(snips_variance(flat, logging, POLICY)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["quadratic-normal", "linear-student_t", "linear-heteroscedastic"])
def test_snips_oracle_variance_is_refused(name):
    """Worlds without the closed form raise TypeError, with the remedy."""
    with pytest.raises(TypeError, match="use simulation"):
        snips_variance(ENVIRONMENTS[name], POLICY, POLICY)


def test_bernoulli_certainties():
    """Probability 0 never pays and probability 1 always does."""
    drawn = jax.jit(jax.vmap(lambda k, m: Bernoulli().reward(k, m, m), in_axes=(0, None)))
    keys = jax.random.split(KEY, 1000)
    assert drawn(keys, jnp.array(0.0)).sum() == 0
    assert drawn(keys, jnp.array(1.0)).sum() == 1000


def test_zero_inflated_rewards_have_the_stated_moments():
    """P(r > 0) = share, sd = mean √(exp(shape²)/share − 1), at 4 standard errors."""
    noise, mean = ZeroInflated(jnp.array(0.3), jnp.array(0.5)), jnp.array(2.0)
    r = jax.vmap(lambda k: noise.reward(k, mean, jnp.array(1.0)))(random.row_keys(KEY, 4 * N))
    assert standard_errors(r > 0, 0.3) < 4
    assert standard_errors(jnp.square(r - mean), mean**2 * (np.exp(0.25) / 0.3 - 1)) < 4
    assert float(r.min()) == noise.reward_range[0]


def test_value_of_a_mixture_is_the_mixture_of_values():
    """Linear in the policy."""
    environment, other = ENVIRONMENTS["quadratic-normal"], Gaussian.diagonal(jnp.ones(3), 0.3)
    value = environment.policy_value(Mixture.of(jnp.array([3.0, 1.0]), (POLICY, other)))
    expected = 0.75 * environment.policy_value(POLICY) + 0.25 * environment.policy_value(other)
    np.testing.assert_allclose(value, expected, rtol=4 * eps(np.float64))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("ess", [1.0, 0.3, 0.001])
def test_overlapping_targets_have_the_stated_population_ess(ess, width):
    """1/d₂ = ess for full and diagonal loggers, and for a box."""
    full = Gaussian.full(jnp.ones(3), jnp.eye(3) * 0.5 + 0.5)
    for logging in (full, Gaussian.diagonal(jnp.zeros(5), 2.0)):
        np.testing.assert_allclose(
            population_d2(logging, overlapping(logging, ess, width)), 1 / ess, rtol=1e-9
        )


def test_overlapping_targets_of_a_box():
    """Found by bisection where there is one; refused where the box is too empty, or the target
    would leave it.
    """
    box = Uniform(jnp.array([-1.0, 0.0]), jnp.array([1.0, 4.0]))
    np.testing.assert_allclose(population_d2(box, overlapping(box, 0.01)), 100, rtol=1e-6)
    with pytest.raises(ValueError, match="too large"):
        overlapping(box, 0.9)
    with pytest.raises(ValueError, match="did you mean|unknown width"):
        overlapping(box, 0.01, "wide")

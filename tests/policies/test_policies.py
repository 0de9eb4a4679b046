"""Policies: densities are those of scipy and normalised, samples follow them, any object with the
two methods serves.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from worlds import POLICIES, sample_rows
from yardsticks import DTYPES, KEY, cast, eps, standard_errors

from mopl_jax.logs import Logs, log_weights
from mopl_jax.policies import Distribution, Gaussian, Mixture, Uniform, smooth

N = 20_000
every_policy = pytest.mark.parametrize("name", POLICIES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@jax.jit
def log_densities(policy, actions):
    return jax.vmap(policy.log_density)(actions)


def frozen(name):
    """The same policy in scipy: (mean, covariance, log density of rows)."""
    policy = POLICIES[name]
    if isinstance(policy, Uniform):
        width = np.asarray(policy.high - policy.low)
        box = stats.uniform(np.asarray(policy.low), width)
        return box.mean(), np.diag(box.var()), lambda actions: box.logpdf(actions).sum(axis=1)
    if isinstance(policy, Mixture):
        return mixed(np.exp(policy.log_weight), [frozen("diagonal"), frozen("full")])
    normal = stats.multivariate_normal(np.asarray(policy.mean), np.asarray(policy.covariance))
    return normal.mean, normal.cov, normal.logpdf


def mixed(share, parts):
    """Moments and log density of a mixture, by the law of total covariance."""
    mean = sum(w * part[0] for w, part in zip(share, parts, strict=True))
    within = sum(w * part[1] for w, part in zip(share, parts, strict=True))
    between = sum(
        w * np.outer(part[0] - mean, part[0] - mean) for w, part in zip(share, parts, strict=True)
    )
    return (
        mean,
        within + between,
        lambda actions: np.logaddexp.reduce(
            [np.log(w) + part[2](actions) for w, part in zip(share, parts, strict=True)]
        ),
    )


@every_policy
def test_dim_is_the_length_of_an_action(name):
    policy = POLICIES[name]
    assert policy.dim == policy.sample(KEY).shape[0] == 3


@every_policy
def test_density_is_scipys(name):
    """Log densities equal scipy's to rounding, far from the centre too."""
    actions = np.asarray(sample_rows(KEY, POLICIES[name], N)[:50])
    actions = np.concatenate([actions, 10 * actions])
    expected = frozen(name)[2](actions)
    np.testing.assert_allclose(log_densities(POLICIES[name], actions), expected, rtol=1e-12)


@every_policy
def test_samples_have_the_moments(name):
    """Means and covariances of 20,000 actions, at 4.5 standard errors."""
    actions = np.asarray(sample_rows(KEY, POLICIES[name], N))
    mean, covariance, _ = frozen(name)
    centred = actions - mean
    assert standard_errors(actions, mean).max() < 4.5
    assert standard_errors(centred[:, :, None] * centred[:, None, :], covariance).max() < 4.5


@every_policy
def test_samples_follow_the_density(name):
    """E_π[q/π] = 1 for a density q inside the support: the density is normalised and is the one
    that is sampled.
    """
    mean, covariance, _ = frozen(name)
    actions = np.asarray(sample_rows(KEY, POLICIES[name], N))
    if name == "uniform":
        low, high = np.asarray(POLICIES[name].low), np.asarray(POLICIES[name].high)
        q = stats.beta(2, 3, low, high - low).pdf(actions).prod(axis=1)
    else:
        q = stats.multivariate_normal(
            mean + 0.2 * np.sqrt(np.diag(covariance)), 0.8 * covariance
        ).pdf(actions)
    ratio = q / np.exp(log_densities(POLICIES[name], actions))
    assert standard_errors(ratio, 1) < 4


@pytest.mark.parametrize(
    "name", [name for name, policy in POLICIES.items() if isinstance(policy, Gaussian)]
)
def test_score_has_mean_zero(name):
    """E ∇_μ log π = 0 and its covariance is Σ⁻¹ (Fisher information), at 4.5 standard errors;
    gradients by autodiff.
    """
    policy = POLICIES[name]
    actions = sample_rows(KEY, policy, N)
    score = jax.jit(
        jax.vmap(
            jax.grad(lambda mean, a: Gaussian(mean, policy.scale).log_density(a)), in_axes=(None, 0)
        )
    )
    scores = np.asarray(score(policy.mean, actions))
    assert standard_errors(scores, 0).max() < 4.5
    information = np.linalg.inv(np.asarray(policy.covariance))
    assert standard_errors(scores[:, :, None] * scores[:, None, :], information).max() < 4.5


def test_gaussian_marginal_distribution():
    """Whitened samples of a full covariance are standard normal by Kolmogorov–Smirnov, each p-value
    above 1e-4.
    """
    policy = POLICIES["full"]
    centred = np.asarray(sample_rows(KEY, policy, N)) - np.asarray(policy.mean)
    for z in np.linalg.solve(np.asarray(policy.scale), centred.T):
        assert stats.kstest(z, "norm").pvalue > 1e-4


def test_full_and_diagonal_agree():
    """A diagonal covariance given in full is the diagonal policy: same densities, same draws."""
    diagonal = POLICIES["diagonal"]
    full = Gaussian.full(diagonal.mean, diagonal.covariance)
    actions = sample_rows(KEY, diagonal, N)
    np.testing.assert_allclose(
        sample_rows(KEY, full, N), actions, rtol=0, atol=100 * eps(np.float64)
    )
    np.testing.assert_allclose(
        log_densities(full, actions), log_densities(diagonal, actions), rtol=1e-12
    )


def test_scale_is_a_standard_deviation():
    """`diagonal` and `smooth` take standard deviations: the covariance holds their squares; one
    scale serves all.
    """
    np.testing.assert_array_equal(
        POLICIES["diagonal"].covariance, np.diag(np.array([0.3, 1.0, 2.0]) ** 2)
    )
    policy = smooth(np.array([1.0, 2.0]), 0.5)
    np.testing.assert_array_equal(policy.mean, [1.0, 2.0])
    np.testing.assert_array_equal(policy.covariance, 0.25 * np.eye(2))


def test_integer_action_smooths():
    """A deterministic target of whole numbers becomes a float policy, under JAX's default
    promotion.
    """
    with jax.numpy_dtype_promotion("standard"):
        assert smooth(np.array([1, 0, 2]), 0.1).mean.dtype == np.float64


def test_covariance_round_trip():
    """The covariance given to `full` is the covariance of the policy."""
    given = np.array([[1.0, 0.4, -0.2], [0.4, 2.0, 0.3], [-0.2, 0.3, 0.5]])
    np.testing.assert_allclose(POLICIES["full"].covariance, given, rtol=1e-14)


@pytest.mark.parametrize("gap", [1e-4, 1e-8, 1e-12])
def test_strong_correlations_have_densities_in_float32(gap):
    """Where both weights move alike, the log density is −½ 2c²/(2 − gap) less the determinant's."""
    covariance, c = np.array([[1, 1 - gap], [1 - gap, 1]]), 0.75
    with jax.enable_x64(False):
        found = Gaussian.full(np.zeros(2), covariance).log_density(jnp.full(2, c))
    assert found.dtype == np.float32
    expected = -(c**2) / (2 - gap) - 0.5 * np.log(gap * (2 - gap)) - np.log(2 * np.pi)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_indefinite_covariance_is_nan():
    """A covariance that is not positive definite gives NaN densities, never a number."""
    policy = Gaussian.full(np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert np.isnan(policy.log_density(jnp.zeros(2)))


def test_uniform_plays_only_its_box():
    """Samples lie inside the box, the density is −inf outside, also where a single entry leaves
    it.
    """
    box = POLICIES["uniform"]
    actions = np.asarray(sample_rows(KEY, box, N))
    assert ((actions >= np.asarray(box.low)) & (actions <= np.asarray(box.high))).all()
    assert box.log_density(box.low) == pytest.approx(-np.log(1 * 4 * 0.5), rel=1e-14)
    assert box.log_density(box.low - jnp.array([0.0, 1e-9, 0.0])) == -jnp.inf


@every_dtype
@every_policy
def test_dtype_in_is_dtype_out(name, dtype):
    """Actions and log densities have the policy's dtype; a key gives the same action in either, to
    float32 rounding.
    """
    policy = cast(POLICIES[name], dtype)
    actions = sample_rows(KEY, policy, N)
    assert actions.dtype == dtype
    assert log_densities(policy, actions).dtype == dtype
    rounding = 8 * eps(np.float32)
    np.testing.assert_allclose(
        actions, sample_rows(KEY, POLICIES[name], N), rtol=rounding, atol=rounding
    )


@every_policy
def test_batching_is_looping(name):
    """`vmap` over keys and actions equals one call each."""
    policy, keys = POLICIES[name], jax.random.split(KEY, 3)
    sample, log_density = jax.jit(policy.sample), jax.jit(policy.log_density)
    actions = jax.jit(jax.vmap(policy.sample))(keys)
    looped = jnp.stack([sample(key) for key in keys])
    np.testing.assert_allclose(actions, looped, rtol=8 * eps(np.float64))
    one_by_one = jnp.stack([log_density(action) for action in looped])
    np.testing.assert_allclose(
        log_densities(policy, actions), one_by_one, rtol=64 * eps(np.float64)
    )


def test_numpyro_distribution_is_a_policy():
    """A NumPyro multivariate normal gives the weights that the same `Gaussian` gives, and samples
    with its moments.
    """
    numpyro = pytest.importorskip("numpyro.distributions")
    gaussian = POLICIES["full"]
    policy = Distribution(
        numpyro.MultivariateNormal(gaussian.mean, covariance_matrix=gaussian.covariance)
    )
    actions = jax.vmap(policy.sample)(jax.random.split(KEY, N))
    assert standard_errors(actions, gaussian.mean).max() < 4.5
    logs = Logs(actions, log_densities(POLICIES["diagonal"], actions), jnp.zeros(N))
    np.testing.assert_allclose(
        log_weights(policy, logs), log_weights(gaussian, logs), rtol=1e-9, atol=1e-12
    )

"""The quadratic model: features and their means, sums that add up, fits against dense algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yardsticks import DTYPES, KEY, standard_errors

from mopl_jax.numerics import quadratic

D, N = 3, 60
RNG = np.random.default_rng(0)
Z = jnp.asarray(RNG.normal(size=(N, D)))
REWARD = jnp.asarray(RNG.normal(size=N))


def all_products(z, reward):
    return quadratic.products(quadratic.features(z), reward, jnp.ones_like(reward))


@pytest.mark.parametrize("dtype", DTYPES)
def test_features_of_a_row_of_a_table_and_of_numpy(dtype):
    """By hand, in the order 1, z, z₁z₁, z₁z₂, …; the same for one row, many, and NumPy."""
    z = np.array([2.0, 3.0, 5.0], dtype)
    expected = [1, 2, 3, 5, 4, 6, 10, 9, 15, 25]
    found = quadratic.features(jnp.asarray(z))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)
    assert isinstance(quadratic.features(z), np.ndarray)
    np.testing.assert_array_equal(quadratic.features(z), expected)
    np.testing.assert_array_equal(quadratic.features(jnp.stack([z, z])), [expected] * 2)
    assert quadratic.size(3) == 10


def test_unpacked_coefficients_are_the_same_model():
    """c + bᵀz + ½ zᵀHz = coefficients · features, H symmetric."""
    coefficients = jnp.asarray(RNG.normal(size=quadratic.size(D)))
    constant, slope, curvature = quadratic.unpack(coefficients, D)
    bent = 0.5 * np.einsum("ni,ij,nj->n", Z, curvature, Z)
    np.testing.assert_allclose(
        quadratic.features(Z) @ coefficients, constant + Z @ slope + bent, rtol=1e-12, atol=1e-12
    )
    np.testing.assert_array_equal(curvature, curvature.T)


def test_expected_features_are_the_mean():
    """Of 200,000 draws of a normal with full covariance, at 4 standard errors."""
    mean, factor = jnp.array([0.3, -0.2, 1.0]), jnp.array([[1, 0, 0], [0.4, 0.8, 0], [0, -0.3, 1]])
    drawn = mean[None] + jax.random.normal(KEY, (200_000, D)) @ factor.T
    expected = quadratic.expected_features(mean, factor @ factor.T)
    assert expected[0] == 1
    assert np.all(standard_errors(quadratic.features(drawn)[:, 1:], expected[1:]) < 4)


def test_products_add_up_over_rows():
    """Two blocks and rows that do not count give the sums over all rows that do."""
    features = quadratic.features(Z)
    whole = all_products(Z, REWARD)
    kept = (jnp.arange(N) < 17).astype(Z.dtype)
    parts = [quadratic.products(features, REWARD, k) for k in (kept, 1 - kept)]
    np.testing.assert_allclose(parts[0] + parts[1], whole, rtol=1e-12, atol=1e-12)
    dense = np.asarray(features)
    np.testing.assert_allclose(whole[:, :-1], dense.T @ dense, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(whole[:, -1], dense.T @ np.asarray(REWARD), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ridge", [1e-12, 0.1])
def test_ridge_is_least_squares_with_rows_of_its_own(ridge):
    """Dense least squares with one more row √(nΛ) a feature and reward zero."""
    sums, f = all_products(Z, REWARD), quadratic.size(D)
    penalty = np.full(f, ridge)
    penalty[0] *= quadratic.CONSTANT
    rows = np.vstack([quadratic.features(Z), np.diag(np.sqrt(N * penalty))])
    expected = np.linalg.lstsq(rows, np.append(REWARD, np.zeros(f)), rcond=None)[0]
    found = quadratic.ridge_solve(sums[:, :-1], sums[:, -1], ridge)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    both = quadratic.ridge_solve(sums[:, :-1], jnp.stack([sums[:, -1]] * 2, axis=1), ridge)
    np.testing.assert_allclose(both, jnp.stack([found] * 2, axis=1), rtol=1e-12)


def test_least_squares_by_dense_algebra():
    """Coefficients, standard errors and noise of the textbook."""
    features = np.asarray(quadratic.features(Z))
    value, error, noise = quadratic.least_squares(jnp.asarray(features), REWARD)
    expected, left, *_ = np.linalg.lstsq(features, np.asarray(REWARD), rcond=None)
    variance = left[0] / (N - features.shape[1])
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    np.testing.assert_allclose(noise, np.sqrt(variance), rtol=1e-12)
    inverse = np.linalg.inv(features.T @ features)
    np.testing.assert_allclose(error, np.sqrt(variance * np.diagonal(inverse)), rtol=1e-9)


def test_dependent_features_have_infinite_errors():
    """A weight that never moved, or that moves with another: no claim about any coefficient."""
    for table in (Z.at[:, 1].set(0.5), Z.at[:, 1].set(2 * Z[:, 0]), Z.at[:, 1].set(0)):
        error = quadratic.least_squares(quadratic.features(table), REWARD)[1]
        assert np.isinf(error).all()


def test_the_error_of_a_mean_by_user_is_that_of_sums_of_users():
    """Its square is U/(U − 1) Σ S²/n², with S the sums of users' residuals: here 3, −3 and 0."""
    residual = jnp.array([1.0, 2.0, -1.0, -2.0, 3.0, -3.0])
    users = jnp.array([0, 0, 1, 1, 2, 2])
    ((variance,),) = quadratic.covariance_by_user(jnp.ones((6, 1)), residual, users, 3)
    np.testing.assert_allclose(variance, 18 * 3 / 2 / 36, rtol=1e-12)

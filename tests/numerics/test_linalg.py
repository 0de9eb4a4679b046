"""Small factorisations: right, and one at a time however they are batched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.linalg import solve_triangular

from mopl_jax.estimators.calibration import calibrated
from mopl_jax.estimators.reward_model import doubly_robust
from mopl_jax.learning.response_surface import fit_surface, highest, moments_of
from mopl_jax.numerics import linalg
from mopl_jax.policies import Gaussian


def positive(count, d):
    """(count, d, d) positive definite matrices."""
    half = np.random.default_rng(0).normal(size=(count, d, d + 3))
    return half @ half.transpose(0, 2, 1)


def test_values_and_batches():
    matrices, right = positive(3, 4), np.random.default_rng(1).normal(size=(3, 4))
    np.testing.assert_allclose(
        jax.vmap(linalg.solve_positive)(matrices, right),
        np.linalg.solve(matrices, right[..., None])[..., 0],
    )
    values, vectors = jax.vmap(linalg.eigh)(matrices)
    np.testing.assert_allclose(
        vectors * values[:, None, :] @ vectors.transpose(0, 2, 1), matrices, atol=1e-9
    )
    np.testing.assert_allclose(jax.vmap(linalg.eigvalsh)(matrices), values)
    np.testing.assert_allclose(jax.vmap(linalg.cholesky)(matrices), np.linalg.cholesky(matrices))


@pytest.mark.parametrize("d", [3, linalg.SHORT + 1])
def test_products_of_short_and_of_long_vectors(d):
    """aᵀb and L z by numpy, what is above the diagonal of L left out; gradients are linear."""
    rng = np.random.default_rng(d)
    a, b, square = rng.normal(size=d), rng.normal(size=d), rng.normal(size=(d, d))
    np.testing.assert_allclose(jax.jit(linalg.dot)(a, b), a @ b, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.grad(linalg.dot))(a, b), b)
    found = jax.jit(linalg.scale_times)(square, b)
    np.testing.assert_allclose(found, np.tril(square) @ b, rtol=1e-12, atol=1e-12)


def test_derivatives_of_the_inverse():
    factors, direction = (
        np.linalg.cholesky(positive(2, 4)),
        np.random.default_rng(2).normal(size=(2, 4, 4)),
    )
    solve = lambda factor: jnp.sum(jnp.sin(solve_triangular(factor, jnp.eye(4), lower=True)))  # noqa: E731
    invert = lambda factor: jnp.sum(jnp.sin(linalg.invert_lower(factor)))  # noqa: E731
    expected = jax.vmap(jax.grad(solve))(factors)
    np.testing.assert_allclose(jax.vmap(jax.grad(invert))(factors), expected, atol=1e-12)
    forward = jax.jvp(jax.vmap(invert), (factors,), (direction,))[1]
    np.testing.assert_allclose(forward, np.sum(expected * direction, axis=(1, 2)))


def test_derivatives_of_the_inverse_of_a_positive_matrix():
    """d(A⁻¹) = −A⁻¹ dA A⁻¹, as `jnp.linalg.inv` has it."""
    matrices = positive(2, 4)
    of = lambda invert: jax.vmap(jax.value_and_grad(lambda a: jnp.sum(jnp.sin(invert(a)))))  # noqa: E731
    made, expected = of(linalg.invert_positive)(matrices), of(jnp.linalg.inv)(matrices)
    np.testing.assert_allclose(made[0], expected[0])
    np.testing.assert_allclose(made[1], expected[1], atol=1e-12)


def fitted(action, reward):
    return highest(fit_surface(action, reward, moments_of(action)), 2.0)


def robust(action, reward):
    target = Gaussian.diagonal(jnp.zeros(3), 0.8)
    return doubly_robust(jnp.zeros(reward.shape[0]), reward, action=action, target=target).value


def calibrated_to(action, reward):
    target = Gaussian.diagonal(jnp.zeros(3), 0.8)
    return calibrated(jnp.zeros(reward.shape[0]), reward, action=action, target=target).value


@pytest.mark.parametrize("compute", [fitted, robust, calibrated_to])
def test_no_batched_factorisation_in_sweeps(compute):
    """XLA's CPU kernels for batches of matrices can wait for ever on the thread pool that runs
    them.
    """
    shapes = jax.ShapeDtypeStruct((7, 40, 3), float), jax.ShapeDtypeStruct((7, 40), float)
    lowered = jax.jit(jax.vmap(compute)).lower(*shapes).as_text().splitlines()
    calls = [
        line
        for line in lowered
        if any(name in line for name in ("lapack", "cholesky", "triangular_solve"))
    ]
    assert calls
    assert not [line for line in calls if "tensor<7x" in line]

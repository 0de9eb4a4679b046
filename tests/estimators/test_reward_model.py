"""Doubly robust estimation: exact on quadratics, influence, dense least squares."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import MEAN_REWARDS, log_of
from yardsticks import DTYPES, KEY, cast, standard_errors

from mopl_jax.estimators import clipped, harmonic, ips
from mopl_jax.estimators.reward_model import doubly_robust
from mopl_jax.estimators.target_features import expected_features, quadratic_features
from mopl_jax.intervals import ess_exact
from mopl_jax.logs import log_weights
from mopl_jax.policies import Gaussian

TARGET = Gaussian.full(
    np.full(3, 0.3), np.array([[0.4, 0.1, 0.0], [0.1, 0.5, 0.0], [0.0, 0.0, 0.3]])
)
QUADRATIC = MEAN_REWARDS["quadratic"]


def weighted_log(key, n=500, noise=0.3, mean=QUADRATIC):
    """Log weights, rewards and actions of one log."""
    logs = log_of(key, n, noise, mean)
    return log_weights(TARGET, logs), logs.reward, logs.action


@functools.partial(jax.jit, static_argnames=("folds", "ridge"))
def estimate(log_weight, reward, action, folds=5, ridge=1e-3):
    """Doubly robust for the shared target."""
    target = cast(TARGET, log_weight.dtype)
    return doubly_robust(log_weight, reward, action=action, target=target, folds=folds, ridge=ridge)


def test_quadratic_rewards_without_noise_are_exact():
    """The model is right: the value is the closed form, its influence zero."""
    made = estimate(*weighted_log(KEY, noise=0.0), ridge=1e-12)
    np.testing.assert_allclose(made.value, QUADRATIC.expectation(TARGET), rtol=1e-8)
    np.testing.assert_allclose(made.influence, 0, atol=1e-7)


def test_expected_features_are_the_targets():
    draws = jax.vmap(TARGET.sample)(jax.random.split(KEY, 20000))
    features = jax.vmap(functools.partial(quadratic_features, TARGET))(draws)[
        :, 1:
    ]  # without the constant
    assert np.all(standard_errors(features, expected_features(TARGET, jnp.float64)[1:]) < 4)


def test_coefficients_are_those_of_least_squares_on_the_other_folds():
    log_weight, reward, action = weighted_log(KEY, n=120)
    features = np.asarray(jax.vmap(functools.partial(quadratic_features, TARGET))(action))
    terms = np.zeros(120)
    for k in range(4):
        held = np.arange(120) % 4 == k
        fitted = np.linalg.lstsq(features[~held], np.asarray(reward)[~held], rcond=None)[0]
        gap = np.asarray(reward)[held] - features[held] @ fitted
        terms[held] = (
            np.asarray(expected_features(TARGET, jnp.float64)) @ fitted
            + np.exp(log_weight)[held] * gap
        )
    made = estimate(log_weight, reward, action, folds=4, ridge=1e-12)
    np.testing.assert_allclose(made.value, terms.mean(), rtol=1e-7)
    np.testing.assert_allclose(made.influence, terms - terms.mean(), atol=1e-6)


@pytest.mark.parametrize("mean", ["quadratic", "cosine"])
def test_unbiased_for_any_reward_and_better_than_ips(mean):
    """Cross-fitting: no bias even where the model is wrong; less variance, a lot where it is
    right.
    """
    truth = MEAN_REWARDS[mean].expectation(TARGET)

    def values(key):
        log = weighted_log(key, n=200, mean=MEAN_REWARDS[mean])
        return estimate(*log).value, ips(*log[:2]).value

    robust, plain = jax.jit(jax.vmap(values))(jax.random.split(KEY, 400))
    assert standard_errors(robust, truth) < 4
    assert robust.std() < (0.6 if mean == "quadratic" else 1.0) * plain.std()


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_and_few_rows(dtype):
    for n in (1, 3, 500):
        made = estimate(*(x.astype(dtype) for x in weighted_log(KEY, n=n)))
        assert made.value.dtype == made.influence.dtype == dtype
        assert np.isfinite(made.value)


def test_intervals_serve():
    made = estimate(*weighted_log(KEY))
    assert ess_exact(made, 0.01).contains(QUADRATIC.expectation(TARGET))
    assert ess_exact(made, 0.01).width < ess_exact(ips(*weighted_log(KEY)[:2]), 0.01).width


# Modified weights.


def test_modified_weights():
    log_weight = jnp.asarray([-np.inf, -1.0, 0.0, 2.0, 700.0])
    w = np.exp(log_weight[:4])
    np.testing.assert_allclose(np.exp(clipped(log_weight, 3.0)), [0, w[1], 1, 3, 3], rtol=1e-12)
    np.testing.assert_allclose(
        np.exp(harmonic(log_weight, 0.2))[:4], w / (0.8 + 0.2 * w), rtol=1e-12
    )
    np.testing.assert_allclose(np.exp(harmonic(log_weight, 0.2))[4], 5.0, rtol=1e-12)
    np.testing.assert_array_equal(harmonic(log_weight, 0.0), log_weight)
    np.testing.assert_array_equal(harmonic(log_weight, 1.0)[1:], 0.0)

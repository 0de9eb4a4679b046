"""Logs: checked once at the door, with a message that says what is wrong and where; weights from
any policy.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import POLICIES, sample_rows
from yardsticks import DTYPES, KEY, cast, eps, standard_errors

from mopl_jax import estimators, intervals
from mopl_jax.logs import Logs, check, log_weights
from mopl_jax.policies import Gaussian, Uniform

GOOD = Logs(np.ones((4, 2)), np.zeros(4), np.arange(4.0))


def altered(**columns):
    """The good log with some columns replaced."""
    return Logs(**(vars(GOOD) | columns))


def test_a_good_log_passes_unchanged():
    """`check` returns the log itself, with optional columns too."""
    assert check(GOOD) is GOOD
    full = altered(context=np.ones((4, 3)), cluster=np.arange(4), time=np.arange(4.0))
    assert check(full) is full


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"action": np.ones(4)}, r"expected action of shape \(n, d\), got \(4,\)"),
        ({"action": np.ones((0, 2))}, "at least one row"),
        ({"reward": np.ones(3)}, "expected reward with 4 rows"),
        ({"reward": np.float64(1)}, "expected reward with 4 rows"),
        ({"log_propensity": np.ones((2, 2))}, "expected log_propensity with 4 rows"),
        ({"context": np.ones((3, 2))}, "expected context with 4 rows"),
        ({"cluster": np.arange(5)}, "expected cluster with 4 rows"),
        ({"time": np.arange(1.0)}, "expected time with 4 rows"),
        ({"reward": np.array([0, 1, np.nan, 3])}, "finite reward, got nan in row 2"),
        (
            {"log_propensity": np.array([0, -np.inf, 0, 0])},
            "finite log_propensity, got -inf in row 1",
        ),
        (
            {"action": np.array([[1, 2], [3, 4], [5, 6], [7, np.inf]])},
            "finite action, got inf in row 3",
        ),
    ],
)
def test_a_bad_log_is_refused(columns, message):
    """Wrong shapes, no rows and entries that are not finite raise ValueError; the message names the
    column and row.
    """
    with pytest.raises(ValueError, match=message):
        check(altered(**columns))


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_are_density_ratios(dtype):
    """log w = log π − log π₀, and 0 for every row on-policy, to rounding."""
    logging, target = (cast(POLICIES[name], dtype) for name in ("full", "diagonal"))
    actions = sample_rows(KEY, logging, 100)
    logs = Logs(actions, jax.jit(jax.vmap(logging.log_density))(actions), jnp.zeros(100, dtype))
    log_weight = log_weights(target, logs)
    assert log_weight.dtype == dtype
    expected = jax.jit(jax.vmap(target.log_density))(actions) - logs.log_propensity
    np.testing.assert_allclose(log_weight, expected, rtol=64 * eps(dtype), atol=64 * eps(dtype))
    on_policy = np.abs(log_weights(logging, logs))
    assert on_policy.max() <= 64 * eps(dtype)


def test_no_weight_where_the_target_cannot_play():
    """−inf where the target has no density."""
    logs = Logs(np.array([[0.5], [1.5]]), np.zeros(2), np.zeros(2))
    np.testing.assert_array_equal(
        log_weights(Uniform(jnp.zeros(1), jnp.ones(1)), logs), [0, -np.inf]
    )


class Laplace(NamedTuple):
    """A policy of the user's own: nothing but the two methods."""

    centre: jax.Array

    def sample(self, key):
        return self.centre + jax.random.laplace(key, self.centre.shape)

    def log_density(self, action):
        return -jnp.sum(jnp.abs(action - self.centre)) - self.centre.shape[0] * jnp.log(2)


def test_any_object_with_the_two_methods_serves():
    """A user's policy needs no base class: as logging policy or as target."""
    laplace, gaussian = Laplace(jnp.zeros(2)), Gaussian.diagonal(jnp.zeros(2), 0.7)
    actions = jax.jit(jax.vmap(laplace.sample))(jax.random.split(KEY, 5000))
    logs = check(Logs(actions, jax.jit(jax.vmap(laplace.log_density))(actions), jnp.zeros(5000)))
    assert standard_errors(np.exp(log_weights(gaussian, logs)), 1) < 4
    assert np.abs(log_weights(laplace, logs)).max() <= 64 * eps(np.float64)


def test_logs_are_pytrees():
    """A log passes through `jit` and keeps its missing columns."""
    out = jax.jit(lambda logs: logs)(GOOD)
    assert isinstance(out, Logs)
    assert out.context is None
    np.testing.assert_array_equal(out.reward, GOOD.reward)


OFFSET = 3.0303e7


def test_rewards_that_float32_cannot_tell_apart_are_refused_in_float32():
    """An interval of rewards around 3·10⁷ with standard deviation 1 would be a point there."""
    rng = np.random.default_rng(35)
    reward = OFFSET + rng.normal(size=2000)
    logs = Logs(rng.normal(size=(2000, 2)), np.zeros(2000), reward)
    assert check(logs) is logs
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match="float32 can tell apart.*subtract a constant"):
            check(logs)
        check(dataclasses.replace(logs, reward=reward - OFFSET))
        for fine in (np.full(2000, OFFSET), 1e6 * reward.round(-3), 1e-8 * (reward - OFFSET)):
            check(dataclasses.replace(logs, reward=fine))
        for size in (1e-30, 1e30):  # squares that are 0 or infinite would be the whole line
            with pytest.raises(ValueError, match="fourth powers that float32 holds.*another unit"):
                check(dataclasses.replace(logs, reward=size * (reward - OFFSET)))


@pytest.mark.parametrize("offset", [0.0, 10.0, 1e3, 1e4])
def test_what_passes_in_float32_is_as_in_float64(offset):
    """Ends of the recommended interval within 5 % of its width, or a refusal."""
    rng = np.random.default_rng(36)
    action = rng.normal(size=(2000, 2))
    reward = offset + action[:, 0] + rng.normal(size=2000)
    ends = []
    for wide in (True, False):
        with jax.enable_x64(wide):
            logging, target = (Gaussian.diagonal(jnp.zeros(2), s) for s in (1.0, 0.7))
            density = np.asarray(jax.vmap(logging.log_density)(jnp.asarray(action)))
            try:
                logs = check(Logs(action, density, reward))
            except ValueError:
                assert not wide
                assert offset > 1e3
                return
            estimate = estimators.snips(log_weights(target, logs), jnp.asarray(logs.reward))
            interval = intervals.recommended(estimate, 0.05)
            ends.append((float(interval.lower), float(interval.upper)))
    np.testing.assert_allclose(ends[1], ends[0], rtol=0, atol=0.05 * (ends[0][1] - ends[0][0]))

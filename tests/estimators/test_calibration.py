"""SNIPS calibrated to the target's moments: exact where the model is, SNIPS where nothing speaks
for one, and a variance that is unbiased for what the model leaves.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import MEAN_REWARDS, POLICIES, log_of, of_users, sample_rows, standard
from yardsticks import KEY, standard_errors

import mopl_jax as mopl
from mopl_jax import intervals
from mopl_jax.estimators import bind_estimator, calibrated, snips
from mopl_jax.estimators.calibration import DOUBT, ENOUGH, FEW, LEAST, RIDGE
from mopl_jax.estimators.estimator import Columns, in_memory
from mopl_jax.intervals.moments import moments_of
from mopl_jax.logs import log_weights
from mopl_jax.policies import Gaussian, Mixture, Uniform
from mopl_jax.policies.gaussian import same_moments

TARGET = Gaussian.full(
    np.full(3, 0.3), np.array([[0.4, 0.1, 0.0], [0.1, 0.5, 0.0], [0.0, 0.0, 0.3]])
)
QUADRATIC = MEAN_REWARDS["quadratic"]


@jax.jit
def both(reward, action, target=TARGET):
    """Calibrated and SNIPS for a target, of rows that N(0, I) played."""
    density = jax.vmap(lambda a: target.log_density(a) - standard(3).log_density(a))
    log_weight = density(action)
    made = calibrated(log_weight, reward, action=action, target=target)
    return made, snips(log_weight, reward)


def test_quadratic_rewards_without_noise_are_the_closed_form():
    """But for the ridge of 1e-4, which leaves as much of the error of SNIPS."""
    logs = log_of(KEY, 500, 0.0)
    made, plain = both(logs.reward, logs.action)
    truth = QUADRATIC.expectation(TARGET)
    assert abs(made.value - truth) < 1e-3 * abs(plain.value - truth)
    assert jnp.std(made.influence) < 1e-3 * jnp.std(plain.influence)


def test_strong_rewards_give_the_intercept_of_weighted_least_squares():
    """Dense least squares on 1, z, zz less their expectations; nothing is shrunk but by noise."""
    logs = log_of(KEY, 600, 0.01)
    z = np.linalg.solve(np.asarray(TARGET.scale), (np.asarray(logs.action) - 0.3).T).T
    rows, columns = np.triu_indices(3)
    table = np.column_stack([np.ones(600), z, z[:, rows] * z[:, columns] - (rows == columns)])
    root = np.exp(0.5 * np.asarray(log_weights(TARGET, logs)))
    fit = np.linalg.lstsq(table * root[:, None], np.asarray(logs.reward) * root, rcond=None)[0]
    made, plain = both(logs.reward, logs.action)
    assert abs(made.value - fit[0]) < 1e-2 * abs(plain.value - fit[0])


def by_hand(log_weight, reward, action):
    """Value and influence of dense algebra: each part's slopes by least squares on rows scaled by
    √p and √ridge, residuals and leverages by the hat matrix H (n, n) itself.
    """
    p = np.exp(log_weight - np.max(log_weight))
    p /= p.sum()
    z = np.linalg.solve(np.asarray(TARGET.scale), (action - np.asarray(TARGET.mean)).T).T
    rows, columns = np.triu_indices(3)
    square = rows == columns
    x = np.column_stack([z, (z[:, rows] * z[:, columns] - square) / np.where(square, 2**0.5, 1)])
    away, n, f = x - p @ x, *x.shape
    root, gap = np.sqrt(p)[:, None], reward - p @ reward
    tall = np.concatenate([root * away, np.sqrt(RIDGE) * np.eye(f)])
    response = np.concatenate([np.diag(root[:, 0]), np.zeros((f, n))])
    linear = np.zeros((f, n))
    linear[:3] = np.linalg.lstsq(tall[:, :3], response, rcond=None)[0]
    to_slope = linear, np.linalg.lstsq(tall, response, rcond=None)[0] - linear  # of rewards
    explained = [(p * gap) @ away @ part @ gap for part in to_slope]
    noise = [np.sum(away.T * part * p) for part in to_slope]  # tr of what unit noise explains
    s2, size, share = np.sum(p**2), 1 / np.sum(p**2), [0.0, 0.0]
    left, free = p @ gap**2 - sum(explained), 1 - s2 - sum(noise)
    for k in (1, 0):
        believed = 1 - DOUBT * noise[k] * left / max(free, LEAST) / explained[k]
        enough = (size / (f if k else 3) - FEW) / (ENOUGH - FEW)
        share[k] = np.clip(believed, 0, 1) * np.clip(enough, 0, 1)
        left, free = left + (1 - share[k]) * explained[k], free + (1 - share[k]) * noise[k]
    assert all(0 < each < 1 for each in share)
    gain = sum(part * weight for part, weight in zip(to_slope, share, strict=True))
    hat = p[None] + away @ (gain - (gain.sum(axis=1, keepdims=True)) * p[None])
    left_over, coefficient = np.eye(n) - hat, p - (p @ x) @ (gain - gain.sum(1)[:, None] * p[None])
    plain, own = 1 - 2 * p + s2, np.sum(np.square(left_over), axis=1)
    influence = n * coefficient * (left_over @ reward) * np.sqrt(plain / own)
    return coefficient @ reward, influence


def test_it_is_the_algebra_of_the_hat_matrix():
    """With shares between nothing and all: Σⱼ(I−H)ᵢⱼ² is the variance that unit noise leaves."""
    logs = log_of(KEY, 200, 0.5)
    log_weight = np.asarray(log_weights(TARGET, logs))
    value, influence = by_hand(log_weight, np.asarray(logs.reward), np.asarray(logs.action))
    made, _ = both(logs.reward, logs.action)
    np.testing.assert_allclose(made.value, value, rtol=1e-9)
    np.testing.assert_allclose(made.influence, influence, rtol=1e-7, atol=1e-9)


def test_variance_is_unbiased_given_the_weights():
    """Over noise alone, on the same 60 effective rows for nine features: the mean of `exact` is the
    variance of the values. Residuals without their leverages would make it 0.6 of that.
    """
    action = log_of(KEY, 150).action
    mean = 10 * jax.vmap(QUADRATIC)(action)

    @jax.jit
    @jax.vmap
    def of(key):
        made, _ = both(mean + jax.random.normal(key, mean.shape), action)
        return made.value, moments_of(made).exact

    value, variance = of(jax.random.split(KEY, 4000))
    ratio = np.mean(variance) / np.var(value)
    assert abs(ratio - 1) < 4 * np.sqrt(2 / 4000 + np.var(variance) / np.mean(variance) ** 2 / 4000)


def test_without_rows_for_a_model_it_is_snips():
    """Five effective rows for three linear features: to the last bit."""
    logs = log_of(KEY, 12)
    made, plain = both(logs.reward, logs.action)
    assert 1 / moments_of(plain).sum_p2 < 6
    jax.tree.map(np.testing.assert_array_equal, made, plain)


def test_rewards_that_depend_on_nothing_keep_the_width_of_snips():
    """Over logs, the median width is within a few per cent of that of SNIPS."""
    action = sample_rows(KEY, standard(3), 400)

    @jax.jit
    @jax.vmap
    def widths(key):
        pair = both(jax.random.normal(key, (400,)), action)
        ends = [intervals.ess_exact(estimate, 0.05) for estimate in pair]
        return [x.upper - x.lower for x in ends]

    made, plain = widths(jax.random.split(KEY, 400))
    assert abs(np.median(made / plain) - 1) < 0.02


def test_values_follow_the_units_of_the_reward():
    logs = log_of(KEY, 300)
    made, _ = both(logs.reward, logs.action)
    moved, _ = both(5 - 2 * logs.reward, logs.action)
    np.testing.assert_allclose(moved.value, 5 - 2 * made.value, rtol=1e-10)
    np.testing.assert_allclose(moved.influence, -2 * made.influence, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", POLICIES)
def test_moments_of_policies_are_those_of_their_draws(name):
    policy = POLICIES[name]
    moments, draws = same_moments(policy), sample_rows(KEY, policy, 20_000)
    assert np.all(standard_errors(draws, moments.mean) < 4.5)
    away = np.asarray(draws) - np.asarray(moments.mean)
    products = away[:, :, None] * away[:, None, :]
    assert np.all(standard_errors(products, moments.covariance) < 4.5)


def test_a_box_and_a_mixture_are_targets_too():
    """The value of a quadratic reward is that under the Gaussian of the same moments."""
    box = Uniform(jnp.full(3, -0.5), jnp.full(3, 1.0))
    pair = Mixture.of(np.ones(2), [TARGET, Gaussian.diagonal(np.zeros(3), 0.6)])
    logs = log_of(KEY, 2000, 0.0)
    for target in (box, pair):
        for name in ("calibrated", "doubly_robust"):
            columns = Columns(logs.reward, (log_weights(target, logs),), logs.action)
            made = jax.jit(functools.partial(in_memory, bind_estimator(name, target)))(columns)
            truth = QUADRATIC.expectation(same_moments(target))
            assert abs(made.value - truth) < 2e-3


def test_verbs_take_it_also_against_the_policy_that_logged():
    """Differences of calibrated values are the values' differences; the log's users count."""
    logs = of_users(log_of(KEY, 600), 2)
    policies = ["logging", TARGET]
    said = mopl.compare(logs, policies, estimator="calibrated", logging=standard(3))
    each = [
        mopl.evaluate(logs, policy, estimator="calibrated").value
        for policy in (standard(3), TARGET)
    ]
    assert said.units == 300
    assert said.policies[1].difference.value == pytest.approx(each[1] - each[0], rel=1e-9)


def test_gradients_are_those_of_small_steps():
    logs = log_of(KEY, 300)

    @jax.jit
    def value(shift):
        target = Gaussian(TARGET.mean + shift, TARGET.scale)
        return both(logs.reward, logs.action, target)[0].value

    slope, step = jax.grad(value)(jnp.zeros(3)), 1e-5
    each = [(value(step * e) - value(-step * e)) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(slope, each, rtol=1e-4)


def test_rows_without_weight_change_nothing_wherever_they_are():
    """Huge rewards and infinite actions of rows that the target cannot play, first or last."""
    logs = log_of(KEY, 300)
    log_weight = log_weights(TARGET, logs)
    plain = calibrated(log_weight, logs.reward, action=logs.action, target=TARGET)
    for first in (True, False):
        join = lambda x, row: np.concatenate([row, x] if first else [x, row])  # noqa: B023, E731
        odd = calibrated(
            jnp.asarray(join(log_weight, [-np.inf])),
            jnp.asarray(join(logs.reward, [1e30])),
            action=jnp.asarray(join(logs.action, np.full((1, 3), np.inf))),
            target=TARGET,
        )
        np.testing.assert_allclose(odd.value, plain.value, rtol=1e-12)
        kept = odd.influence[1:] if first else odd.influence[:-1]
        np.testing.assert_allclose(kept / 301, plain.influence / 300, atol=1e-12)


def test_rewards_whose_squares_are_not_finite_leave_snips():
    logs = log_of(KEY, 300)
    made, plain = both(logs.reward * 1e160, logs.action)
    np.testing.assert_allclose(made.value, plain.value, rtol=1e-12)


def test_a_target_without_known_moments_is_refused():
    for target in (None, "logging"):
        with pytest.raises(ValueError, match="mean and covariance are known"):
            bind_estimator("calibrated", target)

"""Estimators: values by hand, influences by autodiff, exact identities, invariances and
unbiasedness.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import ESTIMATORS, MEAN_REWARDS, NOISES, rows, standard
from yardsticks import DTYPES, KEY, eps, estimate, standard_errors

from mopl_jax import estimators
from mopl_jax.coverage import engine
from mopl_jax.estimators.divergence import population_d2
from mopl_jax.estimators.estimator import Columns, in_memory
from mopl_jax.estimators.importance import optimal_baseline
from mopl_jax.estimators.weight_totals import totals_of
from mopl_jax.numerics.reduce import whole_block
from mopl_jax.policies import Gaussian
from mopl_jax.simulation.environments import Environment

N = 16
every_estimator = pytest.mark.parametrize("name", ESTIMATORS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
ROUNDING = 64 * eps(np.float64)


def unit_mean(log_weight):
    """Log weights shifted so that the mean weight is one, its expectation."""
    return log_weight - jnp.log(jnp.mean(jnp.exp(log_weight)))


# Values as functions of how often each row occurs, straight from the definitions.


def _baseline(m, w, r):
    return jnp.sum(m * (w * w - w) * r) / jnp.sum(m * (w * w - w))


def _snips(m, w, r):
    return jnp.sum(m * w * r) / jnp.sum(m * w)


VALUES = {
    "ips": lambda m, w, r: jnp.sum(m * w * r) / jnp.sum(m),
    "snips": _snips,
    "beta_ips": lambda m, w, r: (
        _baseline(m, w, r) + jnp.sum(m * w * (r - _baseline(m, w, r))) / jnp.sum(m)
    ),
    "delta_snips": lambda m, w, r: _snips(m, w, r) - _snips(m, jnp.sqrt(w), r),
}


@pytest.mark.parametrize("name", VALUES)
def test_value_is_the_definition(name):
    """mean(wr), Σwr/Σw, β* + mean(w(r−β*)) and the difference of two SNIPS, as displayed."""
    log_weight, reward = rows(0, N)
    expected = VALUES[name](jnp.ones(N), jnp.exp(log_weight), reward)
    np.testing.assert_allclose(
        estimate(log_weight, reward, name).value, expected, rtol=ROUNDING, atol=ROUNDING
    )


@pytest.mark.parametrize("name", ["ips", "snips", "delta_snips"])
def test_influence_is_the_multiplicity_derivative(name):
    """influence_i = n ∂value/∂(multiplicity of row i): the first-order delta method, by
    autodiff.
    """
    log_weight, reward = rows(1, N)
    slope = jax.grad(VALUES[name])(jnp.ones(N), jnp.exp(log_weight), reward)
    np.testing.assert_allclose(
        estimate(log_weight, reward, name).influence, N * slope, rtol=ROUNDING, atol=ROUNDING
    )


def test_beta_influence_is_the_derivative_up_to_the_baseline():
    """β-IPS: n ∂value/∂m = influence + (1 − w̄) n ∂β/∂m exactly. The second term is of second
    order: E w = 1.
    """
    log_weight, reward = rows(2, N)
    w = jnp.exp(log_weight)
    slope = jax.grad(VALUES["beta_ips"])(jnp.ones(N), w, reward)
    through_baseline = (1 - jnp.mean(w)) * jax.grad(_baseline)(jnp.ones(N), w, reward)
    assert np.abs(N * through_baseline).max() > 1e-3  # the data can tell
    expected = N * (slope - through_baseline)
    np.testing.assert_allclose(
        estimate(log_weight, reward, "beta_ips").influence, expected, rtol=ROUNDING, atol=ROUNDING
    )


def test_beta_influence_is_exact_at_mean_weight_one():
    """β-IPS with w̄ = 1: the plug-in baseline adds nothing, and the influence is the derivative
    exactly.
    """
    log_weight, reward = rows(3, N)
    log_weight = unit_mean(log_weight)
    slope = jax.grad(VALUES["beta_ips"])(jnp.ones(N), jnp.exp(log_weight), reward)
    influence = estimate(log_weight, reward, "beta_ips").influence
    np.testing.assert_allclose(influence, N * slope, rtol=ROUNDING, atol=ROUNDING)


@every_estimator
@every_dtype
def test_influences_have_mean_zero(name, dtype):
    """Σ influence = 0 to rounding, in float32 and float64; the dtype comes out as it went in."""
    made = estimate(*rows(4, N, dtype), name)
    total = np.abs(made.influence.sum()) / np.abs(made.influence).sum()
    assert total <= 16 * eps(dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {np.dtype(dtype)}


@pytest.mark.parametrize("name", ["ips", "snips", "beta_ips", "beta_ips_cross_fit"])
def test_influence_is_weight_times_residual(name):
    """n p residual equals the influence up to a constant per row's baseline: the coefficient of the
    reward is n p.
    """
    log_weight, reward = rows(5, N)
    made = estimate(log_weight, reward, name)
    p = np.exp(log_weight) / np.exp(log_weight).sum()
    constant = np.asarray(made.influence - N * p * made.residual)
    folds = constant.reshape(-1, 2) if name == "beta_ips_cross_fit" else constant[:, None]
    assert np.ptp(folds, axis=0).max() <= ROUNDING


def test_delta_snips_is_the_four_term_delta_method():
    """Var(Δ) = Σ (C g)∘g for the means of (w_t r, w_t, w_p r, w_p): gradient (1, −V_t, −1, V_p)
    over mean weights.
    """
    (log_t, reward), (log_p, _) = rows(6, N), rows(7, N)
    made = jax.jit(
        lambda a, b, r: estimators.difference(estimators.snips(a, r), estimators.snips(b, r))
    )(log_t, log_p, reward)
    t, p, r = np.exp(log_t), np.exp(log_p), np.asarray(reward)
    value_t, value_p = (t * r).sum() / t.sum(), (p * r).sum() / p.sum()
    covariance = np.cov(np.stack([t * r, t, p * r, p]), ddof=0)
    gradient = np.array([1 / t.mean(), -value_t / t.mean(), -1 / p.mean(), value_p / p.mean()])
    variance = gradient @ covariance @ gradient / N
    assert float(made.value) == pytest.approx(value_t - value_p, rel=1e-12)
    assert float(jnp.sum(made.influence**2)) / N**2 == pytest.approx(variance, rel=1e-12)


def test_difference_with_itself_claims_nothing():
    """A policy contrasted with itself has value 0, no influence and no weight, hence no
    interval.
    """
    made = estimators.difference(*[estimate(*rows(8, N), "snips")] * 2)
    assert made.value == 0
    assert (made.influence == 0).all()
    assert np.isneginf(made.log_weight).all()


# Invariances.


@pytest.mark.parametrize("name", ["snips", "delta_snips"])
@every_dtype
def test_self_normalised_is_shift_invariant(name, dtype):
    """SNIPS does not know the scale of the weights: log w + c for |c| ≤ 700 gives the same value
    and influences.
    """
    log_weight, reward = rows(9, N, dtype)
    log_weight = jnp.round(log_weight * 64) / 64  # so that the shift itself does not round
    one = estimate(log_weight, reward, name)
    for shift in (-700, 700):
        other = estimate(log_weight + shift, reward, name)
        np.testing.assert_allclose(
            other.value, one.value, rtol=64 * eps(dtype), atol=64 * eps(dtype)
        )
        np.testing.assert_allclose(
            other.influence, one.influence, rtol=64 * eps(dtype), atol=64 * eps(dtype)
        )


@pytest.mark.parametrize("name", ["snips", "beta_ips", "beta_ips_cross_fit"])
def test_reward_shift_equivariance(name):
    """r + c moves the value by c and leaves the influences alone (self-normalised or with a fitted
    baseline).
    """
    log_weight, reward = rows(10, N)
    one, other = estimate(log_weight, reward, name), estimate(log_weight, reward + 1000, name)
    rounding = 1000 * ROUNDING
    np.testing.assert_allclose(other.value, one.value + 1000, rtol=ROUNDING)
    np.testing.assert_allclose(other.influence, one.influence, rtol=rounding, atol=rounding)


@every_estimator
def test_reward_scale_equivariance(name):
    """−3 r multiplies value and influences by −3."""
    log_weight, reward = rows(11, N)
    one, other = estimate(log_weight, reward, name), estimate(log_weight, -3 * reward, name)
    np.testing.assert_allclose(other.value, -3 * one.value, rtol=ROUNDING)
    np.testing.assert_allclose(other.influence, -3 * one.influence, rtol=ROUNDING, atol=ROUNDING)


@every_estimator
def test_row_order_is_irrelevant(name):
    """Reversing the rows keeps the value; for the cross-fit it swaps the halves."""
    log_weight, reward = rows(12, N)
    one, other = estimate(log_weight, reward, name), estimate(log_weight[::-1], reward[::-1], name)
    np.testing.assert_allclose(other.value, one.value, rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(other.influence[::-1], one.influence, rtol=ROUNDING, atol=ROUNDING)


@every_estimator
@every_dtype
def test_constant_reward_has_no_influence(name, dtype):
    """Equal rewards give influences of exactly zero, also if only the rows with weight agree;
    rounding is no evidence.
    """
    log_weight = jnp.zeros(N, dtype) if name == "ips" else rows(13, N, dtype)[0]
    constant = jnp.full(N, 0.1, dtype)
    made = estimate(log_weight, constant, name)
    assert (made.influence == 0).all()
    assert made.value == (0 if name == "delta_snips" else constant[0])
    if name == "snips":
        unseen = estimate(log_weight.at[0].set(-jnp.inf), constant.at[0].set(0.7), name)
        assert (unseen.influence == 0).all()
        assert unseen.value == constant[1]


@every_dtype
def test_no_support_is_nan(dtype):
    """Without a row of positive weight SNIPS has no value, and says NaN."""
    assert np.isnan(estimate(jnp.full(N, -jnp.inf, dtype), rows(14, N, dtype)[1], "snips").value)


def test_on_policy_every_value_is_the_mean():
    """Equal weights of one: IPS, SNIPS and β-IPS are the sample mean, with influences r − mean."""
    reward = rows(15, N)[1]
    for name in ("ips", "snips", "beta_ips"):
        made = estimate(jnp.zeros(N), reward, name)
        np.testing.assert_allclose(made.value, reward.mean(), rtol=ROUNDING)
        np.testing.assert_allclose(
            made.influence, reward - reward.mean(), rtol=ROUNDING, atol=ROUNDING
        )


# The optimal baseline.


def baseline(w, reward):
    totals = totals_of(whole_block(reward), jnp.log(w), reward)
    return totals.centre + optimal_baseline(totals)


def test_baseline_has_the_least_variance():
    """β* minimises the variance of β + w(r−β) where w̄ = 1: zero derivative, positive curvature."""
    log_weight, reward = rows(16, N)
    w = jnp.exp(unit_mean(log_weight))
    variance = lambda beta: jnp.mean((beta + w * (reward - beta) - jnp.mean(w * reward)) ** 2)  # noqa: E731
    best = baseline(w, reward)
    assert abs(jax.grad(variance)(best)) < ROUNDING * jnp.mean(w**2)
    assert jax.hessian(variance)(best) > 0


def test_beta_ips_beats_snips_by_the_known_amount():
    """n(AVar_SNIPS − AVar_β*) = Var(w)(V − β*)², an identity of the sample where w̄ = 1 (arXiv
    2602.14914).
    """
    log_weight, reward = rows(17, N)
    log_weight = unit_mean(log_weight)
    w = jnp.exp(log_weight)
    snips, beta = (estimate(log_weight, reward, name) for name in ("snips", "beta_ips"))
    gain = jnp.mean(snips.influence**2) - jnp.mean(beta.influence**2)
    expected = jnp.var(w) * (snips.value - baseline(w, reward)) ** 2
    assert float(gain) == pytest.approx(float(expected), rel=1e-10)


def test_cross_fit_baseline_comes_from_the_other_half():
    """Changing even rewards leaves the baseline of even rows alone: their terms stay linear in
    their own rewards.
    """
    log_weight, reward = rows(18, N)
    w, even = jnp.exp(log_weight), jnp.arange(N) % 2 == 0
    odd_beta = baseline(w[1::2], reward[1::2])
    even_beta = baseline(w[::2], reward[::2])
    beta = jnp.where(even, odd_beta, even_beta)
    made = estimate(log_weight, reward, "beta_ips_cross_fit")
    np.testing.assert_allclose(made.value, jnp.mean(beta + w * (reward - beta)), rtol=ROUNDING)


def test_cross_fit_halves_are_of_users():
    """All rows of a user have the baseline that the other half of the users gives."""
    log_weight, reward = rows(18, N)
    w, user = jnp.exp(log_weight), jnp.arange(N) // 3
    even = user % 2 == 0
    beta = jnp.where(even, baseline(w[~even], reward[~even]), baseline(w[even], reward[even]))
    made = in_memory(
        estimators.beta_ips_cross_fit, Columns(reward, (log_weight,), cluster=np.asarray(user))
    )
    np.testing.assert_allclose(made.value, jnp.mean(beta + w * (reward - beta)), rtol=ROUNDING)


# Simulation.


@functools.partial(jax.jit, static_argnames="n")
def values(keys, environment, logging, target, n):
    """Every estimator's value on one log of n rows per key."""

    def one(key):
        logs = engine.replicate(key, environment, logging, n)
        log_weight = jax.vmap(target.log_density)(logs.action) - logs.log_propensity
        return [
            ESTIMATORS[name](log_weight, logs.reward).value
            for name in ("ips", "snips", "beta_ips_cross_fit")
        ]

    return jax.vmap(one)(keys)


def test_estimators_find_the_truth():
    """IPS and cross-fit β-IPS are unbiased; SNIPS has bias −(E[w²r] − V d₂)/n + O(n⁻²): all at 4
    standard errors.
    """
    environment = Environment(MEAN_REWARDS["linear"], NOISES["normal"])
    logging, target = standard(3), Gaussian.diagonal(np.full(3, 0.2), 0.9)
    n, keys = 200, jax.random.split(KEY, 2000)
    truth = float(environment.policy_value(target))
    ips, snips, beta = values(keys, environment, logging, target, n)
    assert standard_errors(ips, truth) < 4
    assert standard_errors(beta, truth) < 4
    precision = np.linalg.inv(target.covariance)
    tilted = np.linalg.inv(2 * precision - np.eye(3))
    d2_mean = float(environment.mean_reward(jnp.asarray(tilted @ (2 * precision @ target.mean))))
    bias = -float(population_d2(logging, target)) * (d2_mean - truth) / n
    assert standard_errors(snips, truth + bias) < 4


# Gradients.


def test_snips_gradient_closed_form():
    """∇_μ V̂ = Σ⁻¹ Σ p e (a − μ) for a Gaussian target with full covariance, by autodiff."""
    rng = np.random.default_rng(0)
    actions, reward = jnp.asarray(rng.normal(size=(N, 3))), jnp.asarray(rng.normal(size=N))
    target = Gaussian.full(
        np.array([0.3, 0.1, -0.2]), np.array([[1, 0.2, 0], [0.2, 0.8, -0.1], [0, -0.1, 0.6]])
    )

    @jax.jit
    def value(mean):
        policy = Gaussian(mean, target.scale)
        return estimators.snips(jax.vmap(policy.log_density)(actions), reward).value

    log_weight = jax.vmap(target.log_density)(actions)
    p = np.exp(log_weight) / np.exp(log_weight).sum()
    e = np.asarray(reward) - p @ np.asarray(reward)
    expected = np.linalg.solve(
        target.covariance, (p * e) @ (np.asarray(actions) - np.asarray(target.mean))
    )
    np.testing.assert_allclose(jax.grad(value)(target.mean), expected, rtol=1e-11)


@every_estimator
def test_gradients_are_finite_and_batch(name):
    """Value gradients in weights and rewards are finite, equal finite differences, and `vmap`
    equals looping.
    """
    log_weight, reward = rows(19, N)
    value = lambda *log: ESTIMATORS[name](*log).value  # noqa: E731
    gradient, h = jax.jit(jax.grad(value, argnums=(0, 1))), 1e-5
    got = gradient(log_weight, reward)
    for i in (0, 5, int(jnp.argmax(log_weight))):
        step = h * jnp.eye(N)[i]
        for got_one, sides in (
            (got[0], [estimate(log_weight + s * step, reward, name).value for s in (1, -1)]),
            (got[1], [estimate(log_weight, reward + s * step, name).value for s in (1, -1)]),
        ):
            np.testing.assert_allclose(
                got_one[i], (sides[0] - sides[1]) / (2 * h), rtol=1e-6, atol=1e-8
            )
    batch = jax.jit(jax.vmap(value))(
        jnp.stack([log_weight, 0.5 * log_weight]), jnp.stack([reward, -reward])
    )
    looped = [
        estimate(log_weight, reward, name).value,
        estimate(0.5 * log_weight, -reward, name).value,
    ]
    np.testing.assert_allclose(batch, looped, rtol=ROUNDING)

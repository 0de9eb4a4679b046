"""Surfaces by evidence, and what to certify: posteriors are those of dense formulas, promises those
of simulation, proposals the same in any units.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import logged, standard
from yardsticks import KEY, standard_errors

from mopl_jax.learning import constraints, proposal, waves
from mopl_jax.learning.certification import certify
from mopl_jax.learning.evidence import most_evident
from mopl_jax.learning.objective import doubly_robust
from mopl_jax.learning.proposal import ENOUGH, GUESS, Promise, propose
from mopl_jax.learning.response_surface import fit_surface
from mopl_jax.learning.whitening import whiten
from mopl_jax.logs import Logs
from mopl_jax.policies import Gaussian

STANDARD = standard(2)
FRAME = Gaussian.full(np.array([1.0, -2.0]), np.array([[0.5, 0.2], [0.2, 0.3]]))


def bump(z):
    return jnp.exp(-0.5 * jnp.sum(jnp.square(z - 0.8)) / 0.5**2)


@functools.partial(jax.jit, static_argnames=("n", "reward"))
def log_of(key, reward=bump, noise=0.3, n=2000):
    """Rows logged from N(0, I)."""
    keys = jax.random.split(key)
    z = jax.random.normal(keys[0], (n, 2), jnp.float64)
    mean = jax.vmap(reward)(z)
    return logged(z, mean + noise * jax.random.normal(keys[1], (n,), jnp.float64))


LOGS = log_of(KEY)
FITTED = jax.jit(waves.fit_waves)(LOGS)


def propose_for(logs, **options):
    return propose(logs, 2000.0, **options)


# The evidence.

GROUP = np.array([0, 1, 1, 1, 2, 2, 2, 2])


def sums(n=60, seed=0):
    """Products of some features and rewards of which the second group explains nothing much."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 8))
    reward = features @ np.array([0.5, 1.0, -0.7, 0.4, 0.1, 0.0, -0.1, 0.1]) + rng.normal(size=n)
    products = features.T @ np.column_stack([features, reward])
    return features, reward, products


def test_the_posterior_is_that_of_ridge_regression():
    features, reward, products = sums()
    found = most_evident(products, reward @ reward, 60, GROUP)
    prior = np.asarray(found.variances)[GROUP]
    precision = features.T @ features / found.noise + np.diag(1 / prior)
    np.testing.assert_allclose(found.root @ found.root.T, np.linalg.inv(precision), rtol=1e-8)
    expected = np.linalg.solve(precision, features.T @ reward / float(found.noise))
    np.testing.assert_allclose(found.mean, expected, rtol=1e-8)


@pytest.mark.nightly
def test_the_evidence_is_at_its_maximum():
    """The slope of the dense marginal likelihood in every log variance, the noise's too."""
    features, reward, products = sums()
    found = most_evident(products, reward @ reward, 60, GROUP, steps=300)

    def evidence(logs):
        prior = jnp.concatenate([found.variances[:1], jnp.exp(logs[1:])])[GROUP]
        covariance = jnp.exp(logs[0]) * jnp.eye(60) + (features * prior[None]) @ features.T
        return jax.scipy.stats.multivariate_normal.logpdf(reward, jnp.zeros(60), covariance)

    at = jnp.log(jnp.concatenate([found.noise[None], found.variances[1:]]))
    np.testing.assert_allclose(jax.grad(evidence)(at), 0, atol=1e-4)
    assert jnp.all(jnp.linalg.eigvalsh(jax.hessian(evidence)(at)) < 0)


def test_fewer_rows_than_coefficients_leave_the_prior():
    """Forty rows, hundreds of features: finite, and hardly a surface where rewards are noise."""
    few = jax.tree.map(lambda x: x[:40], log_of(KEY, lambda z: 0.0 * z[0]))
    fitted = jax.jit(waves.fit_waves)(few)
    heights = jax.vmap(fitted.surface)(LOGS.action)
    assert len(fitted.surface.coefficients) > 40
    assert np.all(np.isfinite(heights))
    assert np.std(heights) < np.std(few.reward)


# The surface.


def test_waves_see_what_a_quadratic_does_not():
    """Of a bump's variance an eighth is left, where the quadratic leaves two thirds."""
    truth = jax.vmap(bump)(LOGS.action)
    plain = fit_surface(LOGS.action, LOGS.reward, STANDARD)
    left = [np.var(truth - x.of_rows(LOGS.action)) / np.var(truth) for x in (FITTED.surface, plain)]
    assert left[0] < 0.15 < 0.6 < left[1]


@pytest.mark.parametrize("policy", [Gaussian.diagonal([0.4, -0.3], 0.6), FRAME])
def test_expectations_are_exact(policy):
    """As the mean over a million draws."""
    drawn = jax.vmap(policy.sample)(jax.random.split(KEY, 200_000))
    values = FITTED.surface.of_rows(drawn)
    assert standard_errors(values, FITTED.surface.expectation(policy)) < 4


def test_noise_is_that_of_the_rewards():
    assert float(FITTED.noise) == pytest.approx(0.3**2 * float(FITTED.inflation), rel=0.1)
    assert float(FITTED.inflation) < 1.3


# Promises and proposals.


@pytest.mark.nightly
def test_the_promised_noise_is_that_of_certificates():
    """The spread of the estimated gain over logs that had no say in the proposal."""
    made = propose_for(LOGS)

    @jax.jit
    @jax.vmap
    def gain(key):
        rows = log_of(key)
        robust = doubly_robust(made.surface)
        return certify(made.certified, rows, made.whitening.mean, value_estimator=robust).gain

    gains = np.asarray(gain(jax.random.split(jax.random.key(7), 400)))
    expected = float(made.promised.noise)
    assert abs(gains.std() / expected - 1) < 4 / np.sqrt(2 * 400) + 0.1  # 0.1: what q leaves
    assert float(made.promised.ess) >= ENOUGH


def test_the_promise_is_the_largest():
    """No mean and scale of a grid that keeps the effective rows is promised more."""
    made = propose_for(LOGS)
    fitted = jax.jit(lambda logs: waves.fit_waves(whiten(logs, made.whitening)))(LOGS)

    @jax.jit
    @jax.vmap
    def promise(at):
        policy = Gaussian(at[:2], jnp.full(2, at[2]))
        return proposal._promise(fitted, 2000.0, jnp.zeros(2), policy)[0]

    places = jax.random.uniform(KEY, (4000, 3), minval=jnp.array([-1.4, -1.4, 0.2]), maxval=1.4)
    grid = promise(places.at[:, 2].set(jnp.minimum(places[:, 2], 1.0)))
    for policy, z, least in ((made.promised, 1.6449, ENOUGH), (made.guessed, GUESS, 0.0)):
        best = float(jnp.max(jnp.where(grid.ess >= least, grid.less(z), -jnp.inf)))
        assert float(policy.ess) >= least
        assert float(policy.less(z)) > 0.99 * best > 0
    assert np.linalg.norm(made.certified.mean - 0.8) < 0.3


@pytest.mark.nightly
def test_where_nothing_is_to_be_gained_the_baseline_is_proposed():
    """A reward that is noise, production as it was logged or given: to the last bit."""
    nothing = log_of(jax.random.key(3), lambda z: 0.0 * z[0])
    given = jnp.array([0.1, -0.2])
    for baseline in (None, given):
        made = propose_for(nothing, baseline=baseline)
        expected = made.whitening.mean if baseline is None else given
        np.testing.assert_array_equal(made.certified.mean, expected)
        robust = doubly_robust(made.surface)
        certificate = certify(made.certified, LOGS, expected, value_estimator=robust)
        assert certificate.gain_bound == 0
        assert certificate.keep


def test_coordinates_do_not_matter():
    """Weights in other units and correlated: the same policy, expressed in them."""
    factor = jnp.asarray(FRAME.scale)
    moved = Logs(
        LOGS.action @ factor.T + FRAME.mean[None, :],
        LOGS.log_propensity - jnp.log(jnp.abs(jnp.linalg.det(factor))),
        LOGS.reward,
    )
    plain, other = propose_for(LOGS), propose_for(moved)
    turned = factor @ plain.certified.mean + FRAME.mean
    np.testing.assert_allclose(other.certified.mean, turned, atol=0.05)
    np.testing.assert_allclose(other.promised.gain, plain.promised.gain, rtol=0.05)


@pytest.mark.parametrize("unit", [1e30, 1e-30])
def test_units_of_the_reward_do_not_matter(unit):
    scaled = dataclasses.replace(LOGS, reward=LOGS.reward * unit)
    plain, other = propose_for(LOGS), propose_for(scaled)
    np.testing.assert_allclose(other.certified.mean, plain.certified.mean, atol=1e-3)
    np.testing.assert_allclose(other.promised.gain, plain.promised.gain * unit, rtol=1e-3)


def test_means_are_feasible():
    box = constraints.box(-0.2, 0.4)
    made = propose_for(LOGS, project=box)
    for policy in (made.certified, made.guess):
        assert np.all((policy.mean > -0.2 - 1e-6) & (policy.mean < 0.4 + 1e-6))
    near = propose_for(LOGS, radius=0.5)
    assert np.linalg.norm(near.guess.mean - near.whitening.mean) < 0.55


def test_a_promise_is_what_is_left():
    assert Promise(1.0, 0.2, 0.1, 50.0).less(2.0) == pytest.approx(0.6)


@pytest.mark.parametrize(("favoured", "mean", "scale"), [(1.0, 0.6, 0.5), (-1.0, 0.0, 0.85)])
def test_where_nothing_is_promised_one_scale_is_played(favoured, mean, scale):
    """A promise that peaks at a mean and a scale, above nothing or below: then it is the baseline
    with a scale that no search has chosen, so that folds agree and no weight has a heavy tail.
    """
    none, some = jnp.zeros(()), jnp.ones(())

    def promise(policy):
        off = jnp.square(policy.mean[0] - 0.6) + jnp.square(policy.scale[0] - 0.5)
        gain = jnp.reshape(favoured - off, (1,))
        return Promise(gain, 0 * gain, 0 * gain, 0 * gain + 500, 0 * gain)

    ask = proposal.Ask(none, some, jnp.ones(1), jnp.zeros(0))
    search = functools.partial(proposal._search, promise, some, lambda z: z)
    found = jax.jit(search)(jnp.zeros(1), 2.0, ask)
    np.testing.assert_allclose((found.mean[0], found.scale[0]), (mean, scale), atol=0.02)

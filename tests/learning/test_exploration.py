"""What to explore with next: its worth is that of rounds that are played and refitted."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mopl_jax.learning import exploration
from mopl_jax.learning.exploration import next_exploration
from mopl_jax.learning.proposal import Promise, Proposal
from mopl_jax.learning.response_surface import Surface
from mopl_jax.policies.gaussian import Gaussian

D, NOISE, ROWS = 2, 0.25, 800.0
ORIGIN, GUESS = np.zeros(D), np.array([1.2, 0.0])
Z = 1.6448536269514722


def proposal(coefficients, error, guess=GUESS) -> Proposal:
    """A quadratic surface, 1, z, zᵢzⱼ, each coefficient known with an error."""
    standard = Gaussian.diagonal(ORIGIN, 1.0)
    covariance = jnp.asarray(np.diag(np.square(np.asarray(error, float))))
    surface = Surface(standard, jnp.asarray(coefficients, float), covariance, jnp.zeros((0, D)))
    best = Gaussian.diagonal(guess, 0.5)
    none = Promise(*[jnp.zeros(())] * 4)
    many: Any = surface
    return Proposal(
        best, best, none, none, surface, standard, many, none, jnp.zeros(1), noise=NOISE
    )


SLOPE = proposal([0, 0.5, 0, -0.2, 0, -0.2], [0.1, 0.1, 0.1, 0.05, 0.05, 0.05])


@pytest.fixture(scope="module")
def found():
    return next_exploration(SLOPE, SLOPE.whitening, ROWS, jnp.asarray(ORIGIN))


def test_it_goes_towards_the_guess_and_is_worth_more_than_the_last(found):
    assert 0 < found.repeated < found.worth
    assert found.policy.mean[0] > 0.2
    assert found.policy.mean[1] == 0


def test_nothing_is_certified_of_a_surface_without_gain():
    """At the top of a surface that is known well no round certifies a gain."""
    top = proposal([0, 0, 0, -0.2, 0, -0.2], [1e-3] * 6, guess=ORIGIN)
    made = next_exploration(top, top.whitening, ROWS, jnp.asarray(ORIGIN))
    assert (made.worth, made.repeated) == (0, 0)


def half_of_a_round():
    """Its rows that certify, of which there are as many that teach."""
    origin, guess = jnp.asarray(ORIGIN), jnp.asarray(GUESS)
    tried = exploration._tried(origin, guess, guess)
    change = jax.vmap(lambda x: exploration._change(SLOPE.surface, x, origin))(tried)
    known = SLOPE.surface, jnp.asarray(NOISE), jnp.asarray(ROWS / 2)
    return exploration.Round(*known, origin, tried, change)


def test_one_half_of_a_round_teaches_and_the_other_certifies(found):
    asked = half_of_a_round(), jnp.zeros(D), jnp.ones(D), jnp.eye(D), Z
    assert found.repeated == pytest.approx(float(jax.jit(exploration.worth)(*asked)), rel=1e-6)


def test_the_noise_of_a_certificate_is_that_of_quadrature():
    """Of the weights of a policy less those of the origin, on rows of another policy."""
    ahead, logging = half_of_a_round(), Gaussian.diagonal([0.4, 0.1], [0.8, 1.1])
    at = logging.mean, logging.scale, jnp.eye(D)
    made = jax.jit(jax.vmap(lambda policy: exploration._noise(ahead, *at, policy)))(ahead.tried)
    expected = _noise(ahead.tried, logging, ROWS / 2)
    assert np.isfinite(expected).mean() > 0.2
    np.testing.assert_allclose(made, expected, rtol=1e-6, atol=1e-9)


def test_its_worth_is_that_of_rounds_that_are_played(found):
    """Rewards of draws of the surface, half of the rows refit it by Bayes' rule, and the largest
    bound is taken, noise by quadrature: the mean of that over rounds.
    """
    rng, rounds, half = np.random.default_rng(0), 300, int(ROWS / 2)
    policy = found.policy
    prior = np.asarray(SLOPE.surface.covariance)
    tried = exploration._tried(jnp.asarray(ORIGIN), jnp.asarray(GUESS), jnp.asarray(GUESS))
    change = np.asarray(
        jax.vmap(lambda x: exploration._change(SLOPE.surface, x, jnp.zeros(D)))(tried)
    )
    features = jax.jit(jax.vmap(SLOPE.surface.features))
    error = _noise(tried, policy, half)
    bounds = []
    for _ in range(rounds):
        action = np.asarray(policy.mean) + np.asarray(policy.scale) * rng.normal(size=(half, D))
        x = np.asarray(features(jnp.asarray(action)))
        truth = np.asarray(SLOPE.surface.coefficients) + np.sqrt(np.diag(prior)) * rng.normal(
            size=6
        )
        reward = x @ truth + np.sqrt(NOISE) * rng.normal(size=half)
        precision = np.linalg.inv(prior) + x.T @ x / NOISE
        known = np.linalg.inv(prior) @ np.asarray(SLOPE.surface.coefficients)
        after = np.linalg.solve(precision, known + x.T @ reward / NOISE)
        bounds.append(max(np.max(change @ after - Z * error), 0))
    spread = np.std(bounds) * np.sqrt(1 / rounds + 1 / exploration.DRAWS)
    assert abs(np.mean(bounds) - float(found.worth)) < 4 * spread


def _noise(tried, logging, rows):
    """The standard error of each gain over the origin, by a product of quadratures; ∞ where the
    effective rows are too few.
    """
    x = np.linspace(-9, 9, 4001)

    def density(mean, scale):
        return np.exp(-0.5 * ((x - mean) / scale) ** 2) / scale / np.sqrt(2 * np.pi)

    def size(a, b, scale):
        parts = [
            np.trapezoid(density(a[k], scale) * density(b[k], scale) / played, x)
            for k, played in enumerate(
                density(*each) for each in zip(logging.mean, logging.scale, strict=True)
            )
        ]
        return np.prod(parts)

    errors = []
    for mean, scale in zip(np.asarray(tried.mean), np.asarray(tried.scale)[:, 0], strict=True):
        own, base, both = (
            size(mean, mean, scale),
            size(ORIGIN, ORIGIN, scale),
            size(mean, ORIGIN, scale),
        )
        enough = rows / own >= 100
        errors.append(np.sqrt(NOISE * (own + base - 2 * both) / rows) if enough else np.inf)
    return np.array(errors)

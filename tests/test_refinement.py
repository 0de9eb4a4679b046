"""Refinement: the analyst's answer where its model is true, a better one where it is not, in any coordinates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from helpers import KEY

from mopl_jax import intervals, refinement, response_surface
from mopl_jax.logs import Logs
from mopl_jax.policies import Gaussian

FRAME = Gaussian.full(np.array([1.0, -2.0]), np.array([[0.5, 0.2], [0.2, 0.3]]))


def quadratic(z):
    return -0.5 * (0.3 * (z[0] - 0.8) ** 2 + 0.5 * (z[1] - 0.4) ** 2)


def bump(z):
    return jnp.exp(-0.5 * jnp.sum(jnp.square(z - 0.8)) / 0.5**2)


@functools.partial(jax.jit, static_argnames="n")
def log_of(key, height, n=4000):
    """Rows of the mixture of both worlds, logged from N(0, I)."""
    keys = jax.random.split(key)
    z = jax.random.normal(keys[0], (n, 2), jnp.float64)
    mean = jax.vmap(lambda row: (1 - height) * quadratic(row) + height * bump(row))(z)
    log_propensity = -0.5 * jnp.sum(jnp.square(z), axis=1) - jnp.log(2 * jnp.pi)
    return Logs(z, log_propensity, mean + 0.3 * jax.random.normal(keys[1], (n,), jnp.float64))


@jax.jit
def learn(logs):
    """The cell that the tests share."""
    return refinement.learn(logs, interval=intervals.normal, scales=(0.85, 0.6), steps=10)


def test_stays_with_the_surface_where_rewards_are_quadratic():
    made = learn(log_of(KEY, 0.0))
    assert not made.accepted.any()
    np.testing.assert_allclose(made.learnt.policy.mean, made.incumbent, rtol=1e-9)
    np.testing.assert_allclose(made.incumbent, [0.8, 0.4], atol=0.15)
    assert made.learnt.steps == 1
    assert made.learnt.bound < made.learnt.value


def test_leaves_the_surface_where_they_are_not():
    made = learn(log_of(KEY, 1.0))
    surface_best = response_surface.highest(made.surface, 2.0)
    assert made.accepted.any()
    assert bump(made.learnt.policy.mean) > 0.9 > bump(surface_best)


def test_coordinates_do_not_matter():
    """Weights in other units and correlated: the same policy, expressed in them."""
    logs = log_of(KEY, 1.0)
    factor = jnp.asarray(FRAME.scale)
    moved = Logs(
        logs.action @ factor.T + FRAME.mean[None, :],
        logs.log_propensity - jnp.log(jnp.abs(jnp.linalg.det(factor))),
        logs.reward,
    )
    plain, other = learn(logs), learn(moved)
    np.testing.assert_allclose(other.learnt.bound, plain.learnt.bound, rtol=1e-6)
    np.testing.assert_allclose(other.learnt.policy.mean, factor @ plain.learnt.policy.mean + FRAME.mean, atol=1e-4)
    np.testing.assert_allclose(other.surface(other.incumbent), plain.surface(plain.incumbent), rtol=1e-6)


def test_caution_follows_no_extrapolation():
    """With a few noisy rows the surface's maximum is at the edge; the cautious one is not farther out."""
    logs = jax.tree.map(lambda x: x[:40], log_of(KEY, 0.0))
    surface = response_surface.fit_surface(logs.action, logs.reward, Gaussian.diagonal(np.zeros(2), 1.0))
    starts = jnp.stack([response_surface.highest(surface, 3.0), jnp.zeros(2)])
    careful = response_surface.cautious(surface, starts, lambda a: a, 2.0)
    heights = jax.vmap(lambda a: surface(a) - 2.0 * surface.error(a))(jnp.concatenate([careful[None], starts]))
    assert heights.argmax() == 0
    assert jnp.linalg.norm(careful) < jnp.linalg.norm(starts[0])

"""Directions of waves: turned to where the rewards bend, and left alone by noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import logged

from mopl_jax.learning import waves

D, N, NOISE = 4, 2000, 0.3
ALONG = np.full(D, 0.5)


@functools.partial(jax.jit, static_argnames="reward")
def log_of(reward, noise=NOISE):
    keys = jax.random.split(jax.random.key(0))
    z = jax.random.normal(keys[0], (N, D), jnp.float64)
    return logged(z, jax.vmap(reward)(z) + noise * jax.random.normal(keys[1], (N,), jnp.float64))


def peaks(z):
    """Two of them along one direction, on a bowl about another place."""
    x = ALONG @ z
    tops = jnp.exp(-2 * jnp.square(x - 1.2)) + 0.6 * jnp.exp(-2 * jnp.square(x + 1.2))
    return tops - 0.08 * jnp.sum(jnp.square(z - x * ALONG - jnp.eye(D)[0]))


def test_waves_run_along_the_direction_in_which_rewards_bend():
    """Little but noise is left then, and the direction is known to a few degrees."""
    fitted = jax.jit(waves.fit_waves)(log_of(peaks))
    first = fitted.surface.waves[0]
    assert float(abs(first @ ALONG) / jnp.linalg.norm(first)) > 0.99
    assert float(fitted.noise) == pytest.approx(NOISE**2, rel=0.15)


@jax.jit
def turned(logs):
    """The directions, and those that they would be turned to."""
    kept = jnp.ones_like(logs.reward)
    directions = waves._bends(logs, kept)
    surface, posterior = waves._fit(logs, kept, N, directions, 1.0, 12)
    return directions, waves._turned(surface, posterior.noise, directions, logs, kept)


def test_noise_turns_no_direction():
    before, after = turned(log_of(lambda z: 0.2 * z[0], noise=1.0))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)

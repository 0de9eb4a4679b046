"""Histories of many weak tests, as Bibaut, Chou, Ejdemyr & Kallus simulate them (KDD 2024, arXiv
2402.17637; code winston-chou/linear-proxy-metrics), and worlds that are ours.

A North Star and signals; true effects are normal, the North Star's either βᵀx alone or with direct
effects as well, from none to as large as theirs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax.metrics.objectives import History


class World(NamedTuple):
    """β, covariance of true effects of the signals, of direct effects, and of users; y first."""

    beta: np.ndarray
    signals: np.ndarray
    direct: float
    users: np.ndarray


def _users(spread, correlation):
    return np.array(correlation) * np.outer(np.sqrt(spread), np.sqrt(spread))


THEIRS = World(
    np.array([-0.4, 0.04]),
    np.eye(2) / 1000,
    (1 - 0.4**2 - 0.04**2) / 1000,
    _users([0.01, 10, 25], [[1, 0.8, 0], [0.8, 1, -0.1], [0, -0.1, 1]]),
)
OURS = World(  # three signals, a North Star that is noisy
    np.array([0.5, -0.2, 0.1]),
    np.array([[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.8]]) / 1000,
    0.3 / 1000,
    _users([4, 5, 8, 10], np.full((4, 4), 0.4) + 0.6 * np.eye(4)),
)


def random_world(number: int) -> World:
    """One to three signals of random size, correlation and noise, of about the strength of theirs
    at 10,000 users an arm; to choose on.
    """
    rng = np.random.default_rng([5, number])
    k = int(rng.integers(1, 4))
    scale = np.exp(rng.normal(0, 0.4, k))
    signals = _correlation(rng, k) * np.outer(scale, scale) / 1000
    beta = rng.normal(0, 1, k)
    strength = float(beta @ signals @ beta)
    noise = np.append(np.exp(rng.normal(0.3, 1.2)), np.exp(rng.normal(0.7, 0.6, k)))
    spread = noise * np.append(strength, np.diagonal(signals)) * 10_000 / 2
    return World(beta, signals, strength, _users(spread, _correlation(rng, k + 1)))


def _correlation(rng, k):
    factor = rng.standard_normal((k, k + 2))
    moments = factor @ factor.T
    spread = np.sqrt(np.diagonal(moments))
    return moments / np.outer(spread, spread)


def draws(world: World, key, count: int, tests: int, arm: int, share: float) -> History:
    """`count` histories of `tests` tests of `arm` users an arm, as one with a leading axis.

    `share` of the variance of direct effects is there.
    """
    k = len(world.beta)
    keys = jax.random.split(key, 3)
    x = _normal(keys[0], (count, tests), world.signals)
    direct = jax.random.normal(keys[1], (count, tests)) * (share * world.direct) ** 0.5
    y = x @ jnp.asarray(world.beta) + direct
    noise = 2 / arm * jnp.asarray(world.users)
    effect = jnp.concatenate([y[..., None], x], axis=-1) + _normal(keys[2], (count, tests), noise)
    one = jnp.ones((count, tests))
    return History(
        effect,
        jnp.broadcast_to(noise, (count, tests, k + 1, k + 1)),
        one * arm / 2,
        0 * one,
        one < 0,
        jnp.broadcast_to(jnp.arange(tests), (count, tests)),
        jnp.broadcast_to(jnp.asarray(world.users), (count, k + 1, k + 1)),
        ("y", *(f"x{i}" for i in range(1, k + 1))),
        0,
    )


def _normal(key, shape, covariance):
    root = jnp.linalg.cholesky(jnp.asarray(covariance))
    return jax.random.normal(key, (*shape, root.shape[0])) @ root.T

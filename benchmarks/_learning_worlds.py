"""The worlds of the learning study: mean rewards of whitened weights, and logs drawn from them.

The four of `_north_stars`, seven more of other structure to choose a learner by, and three that
are only reported: written down after the first choices, they chose nothing since. Rewards are a
metric (normal noise, standard deviation 0.5; log-normal of σ = 1.2 in `heavy`; rows of eight a user
in `users`, with a level and slopes of the user's own) or a bit, Bernoulli(0.7 + 0.15 f) in units of
f. Logging N(0, I).
"""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.stats import norm, qmc

from benchmarks import _north_stars
from mopl_jax.learning.constraints import ball
from mopl_jax.logs import Logs

RADIUS = _north_stars.RADIUS
EACH = 8  # rows of a user in `users`


def _u(z):
    return jnp.full(z.shape, z.shape[0] ** -0.5)


def _split(z):
    """The place along (1, …, 1), and what is orthogonal to it."""
    x = z @ _u(z)
    return x, z - x * _u(z)


def _square(z):
    return jnp.sum(jnp.square(z))


def _sparse(z):
    return jnp.tanh(1.5 * z[0]) * jnp.tanh(1.5 * z[1]) - 0.1 * _square(z)


def _cliff(z):
    x, rest = _split(z)
    return 0.8 * x * jax.nn.sigmoid((1.3 - x) / 0.1) - 0.1 * _square(rest)


def _far(z):
    return -0.6 * jnp.sqrt(1 + _square(z - 3 * _u(z)))


def _wavy(z):
    return jnp.sin(2 * z[0] + z[1]) + 0.5 * jnp.cos(3 * z[1]) - 0.05 * _square(z)


def _centre(z):
    return -0.2 * _square(z)


def _heavy(z):
    return jnp.exp(0.5 * z @ _u(z) - 0.15 * _square(z - 0.5 * _u(z)))


def _users(z):
    return 0.8 * jnp.tanh(2.5 * z @ _u(z)) - 0.1 * _square(z)


# Only reported: written down after the first choices, and nothing was chosen by them since.


def _plateau(z):
    """Flat up to a rim at two weights, where it drops: a shared saturation with a step."""
    return jax.nn.sigmoid(4 * (z[0] - 0.5)) * jax.nn.sigmoid(3 * (1.5 - z[1])) - 0.08 * _square(z)


def _ring(z):
    """Best at a distance of 1.2 from (−0.5, …), in every direction alike."""
    away = jnp.sqrt(_square(z + 0.5 * _u(z)) + 1e-6)
    return -0.5 * jnp.square(away - 1.2) + 0.3 * z[0]


def _tilted(z):
    """A skewed bowl: cheap on one side, steep on the other, turned against the axes."""
    x = 0.8 * z[0] - 0.6 * z[1]
    return 0.7 * x - 0.25 * jnp.exp(0.8 * x) - 0.1 * _square(z - 0.4)


def _four(name):
    return lambda z: _north_stars.worlds(z.shape[0])[name](z)


CHOOSING: dict[str, Callable] = {
    **{name: _four(name) for name in ("quadratic", "saturating", "bimodal", "ridge")},
    "sparse": _sparse,
    "cliff": _cliff,
    "far": _far,
    "wavy": _wavy,
    "centre": _centre,
    "heavy": _heavy,
    "users": _users,
}
REPORTING: dict[str, Callable] = {"plateau": _plateau, "ring": _ring, "tilted": _tilted}
WORLDS = CHOOSING | REPORTING


def draw(seed: int, world: str, noise: str, d: int, n: int) -> Logs:
    """One log."""
    rng = np.random.default_rng([seed, d, n, sorted(WORLDS).index(world)])
    user = np.arange(n) // EACH if world == "users" else None
    action = rng.normal(size=(n, d)) if user is None else rng.normal(size=(n // EACH, d))[user]
    mean = np.asarray(_means(world)(action))
    own = 0.0
    if user is not None:
        level, slopes = rng.normal(size=n // EACH)[user], rng.normal(size=(n // EACH, d))[user]
        own = 0.5 * level + 0.2 * np.sum(slopes * action, axis=1)
    if noise == "bit":
        chance = np.clip(0.7 + 0.15 * (mean + own), 0, 1)
        reward = ((rng.random(n) < chance) - 0.7) / 0.15
    elif world == "heavy":
        reward = mean * np.exp(1.2 * rng.normal(size=n) - 0.72)
    else:
        reward = mean + own + 0.5 * rng.normal(size=n)
    log_propensity = norm.logpdf(action).sum(axis=1)
    return Logs(action, log_propensity, reward, cluster=user)  # pyright: ignore[reportArgumentType]


@functools.cache
def _means(world):
    return jax.jit(jax.vmap(WORLDS[world]))


@functools.cache
def best(world: str, d: int) -> tuple[float, float]:
    """The largest mean reward within the ball, by ascent from many starts, and that of doing
    nothing.
    """
    f, project = WORLDS[world], ball(_north_stars.standard(d), RADIUS)
    slope = jax.grad(f)
    starts = RADIUS * jax.random.normal(jax.random.key(0), (128, d)) / np.sqrt(d)

    def ascend(a):
        step = lambda i, a: project(a + 0.05 / (1 + i / 500) * slope(a))  # noqa: E731
        return f(lax.fori_loop(0, 1500, step, project(a)))

    return float(jnp.max(jax.jit(jax.vmap(ascend))(starts))), float(f(jnp.zeros(d)))


@functools.cache
def _draws(d):
    x = norm.ppf(np.clip(qmc.Sobol(d, rng=1).random(4096), 1e-9, 1 - 1e-9))
    return jnp.asarray(np.concatenate([x, -x]))


def point(world: str, mean) -> float:
    """The mean reward of weights played exactly."""
    return float(_means(world)(np.asarray(mean)[None])[0])


def smoothed_gain(world: str, mean, scale) -> float:
    """The gain of N(mean, scale scaleᵀ) over N(0, the same), by 8,192 Sobol points."""
    noise = np.asarray(_draws(len(mean)) @ np.asarray(scale).T)
    f = _means(world)
    return float(np.mean(np.asarray(f(np.asarray(mean) + noise)) - np.asarray(f(noise))))


def cells(options) -> Iterator[tuple[str, str, int, int]]:
    """World, noise and shape of each cell of a study."""
    for d, n in zip(options.d, options.n, strict=True):
        for world in options.worlds:
            for noise in noises(world):
                yield world, noise, d, n


def noises(world: str) -> tuple[str, ...]:
    """What a world's rewards may be: heavy tails are no bits."""
    return ("metric",) if world == "heavy" else ("metric", "bit")

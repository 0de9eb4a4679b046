"""The true mean rewards of the learning studies, the logs drawn from them, and their optimum.

An exactly quadratic North Star (where a quadratic response surface is the right model), and three
where it is not: one that saturates, one with two peaks, one with a crest. Rewards are a learnt
metric (normal noise, standard deviation 0.5) or a retention bit (Bernoulli, 0.7 + 0.15 f: noise 3
in units of f). Logging N(0, I).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mopl_jax.learning.constraints import ball
from mopl_jax.logs import Logs
from mopl_jax.numerics import random
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.policies import Gaussian

RADIUS, SCALE = 2.5, 0.7  # of the ball that learners stay in; standard deviation that is played
NOISES = {  # whether Bernoulli; standard deviation, or slope of the probability
    "metric": (0.0, 0.5),
    "bit": (1.0, 0.15),
}
BASE = 0.7  # retention where f is 0


@pytree_dataclass()
class World:
    """f(a) = tanh + two bumps along a direction + slopeᵀa − ½ (a−optimum)ᵀ diag(curvature)
    (a−optimum), data all.
    """

    direction: jax.Array
    saturation: jax.Array  # amplitude, steepness
    bumps: jax.Array  # (2, 3): amplitude, centre, width
    slope: jax.Array
    optimum: jax.Array
    curvature: jax.Array
    bent: jax.Array  # 1: curvature acts on what is orthogonal to the direction, 0: on everything

    def profile(self, x):
        """What the reward is along the direction."""
        waves = [b[0] * jnp.exp(-0.5 * jnp.square((x - b[1]) / b[2])) for b in self.bumps]
        return self.saturation[0] * jnp.tanh(self.saturation[1] * x) + waves[0] + waves[1]

    def __call__(self, a):
        """f(a) of one action (d,)."""
        return self.smoothed(a, 0.0)

    def smoothed(self, mean, scale):
        """E f under N(mean, scale² I): exact but for 48-node Gauss–Hermite quadrature of the
        profile.
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(48)
        x = self.direction @ mean
        along = jnp.sum(
            self.profile(x + scale * jnp.asarray(nodes, x.dtype)) * jnp.asarray(weights, x.dtype)
        )
        rest = mean - self.bent * x * self.direction - self.optimum
        spread = jnp.sum(self.curvature * (1 - self.bent * jnp.square(self.direction)))
        bowl = -0.5 * jnp.sum(self.curvature * jnp.square(rest)) - 0.5 * scale**2 * spread
        return along / math.sqrt(2 * math.pi) + self.slope @ mean + bowl


def worlds(d: int) -> dict[str, World]:
    """The four North Stars in d dimensions."""
    u, v = np.full(d, d**-0.5), np.zeros(d)
    v[:2] = math.sqrt(0.5) * np.array([1, -1]) if d > 1 else 0
    zero, none = np.zeros(d), np.zeros((2, 3)) + [0, 0, 1]
    flat = np.full(d, 0.15)
    made = {
        "quadratic": (u, [0, 1], none, zero, 1.2 * u, np.linspace(0.15, 0.5, d), 0),
        "saturating": (u, [0.8, 2.5], none, zero, zero, np.full(d, 0.2), 0),
        "bimodal": (u, [0, 1], [[1, 1.2, 0.5], [0.6, -1.2, 0.5]], zero, 0.5 * v, flat, 1),
        "ridge": (u, [0, 1], [[1, 0.8, 0.5], [0, 0, 1]], 0.25 * v, zero, flat, 1),
    }
    return {
        name: World(*(jnp.asarray(x, jnp.float32) for x in fields)) for name, fields in made.items()
    }


def best(world: World, d: int) -> tuple[float, float]:
    """The largest f within the ball, by ascent from many starts, and f at the logging mean."""
    starts = RADIUS * jax.random.normal(jax.random.key(0), (64, d)) / math.sqrt(d)
    project = ball(standard(d), RADIUS)
    ascend = lambda a: lax.fori_loop(  # noqa: E731
        0, 3000, lambda _, a: project(a + 0.1 * jax.grad(world)(a)), project(a)
    )
    return float(jnp.max(jax.vmap(world)(jax.vmap(ascend)(starts)))), float(world(jnp.zeros(d)))


def standard(d: int) -> Gaussian:
    """The logging policy."""
    return Gaussian.diagonal(jnp.zeros(d), 1.0)


def draw(key, world, noise, d, n) -> Logs:
    """One log of n rows, rewards in units of f."""
    policy = standard(d)
    action = jax.vmap(policy.sample)(random.row_keys(jax.random.fold_in(key, 0), n))
    mean = jax.vmap(world)(action)
    z = jax.random.normal(jax.random.fold_in(key, 1), (n,))
    bit = (jax.random.uniform(jax.random.fold_in(key, 2), (n,)) < BASE + noise[1] * mean).astype(
        mean.dtype
    )
    reward = jnp.where(noise[0] > 0, (bit - BASE) / noise[1], mean + noise[1] * z)
    return Logs(action, jax.vmap(policy.log_density)(action), reward)

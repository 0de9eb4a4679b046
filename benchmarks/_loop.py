"""The simulated platform of the closed-loop study: its plan, its users, true gains of weights."""

import functools
import math

import jax
import numpy as np

from mopl_jax.simulation import closed_loop, online, recommender

PLAN = closed_loop.DEFAULT
TRUTH = 2**14  # users of the truth
START = np.array(recommender.PRODUCTION, np.float32)


class World:
    """The platform, the users of each part, and the noise of a user."""

    def __init__(self, mesh, users: int = TRUTH):
        self.mesh, self.platform, self.key = mesh, recommender.short_video(), jax.random.key(2024)
        self.users = users

    def part(self, name: int):
        """The key of one part."""
        return jax.random.fold_in(self.key, name)

    @functools.cached_property
    def base(self):
        """The first weights' users, met again under every policy whose true gain is asked for."""
        return self.play(START)

    def play(self, weights, users: int | None = None):
        """Users of the truth under smoothed weights."""
        span = (0, users or self.users)
        policy = closed_loop.smoothed(weights, PLAN)
        return online.play(self.platform, policy, self.part(0), span, self.mesh)

    def gain(self, weights) -> online.Value:
        """True gain over the first weights, paired."""
        paired = self.play(weights).expected.astype(float) - self.base.expected
        return online.Value(float(paired.mean()), float(paired.std() / math.sqrt(self.users)))


def as_long(weights):
    """Weights (…, d) brought to the length of the first ones."""
    return weights * np.linalg.norm(START) / np.linalg.norm(weights, axis=-1, keepdims=True)

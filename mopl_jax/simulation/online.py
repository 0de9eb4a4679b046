"""What a platform does with its users: play a policy, log, test A against B; and what only a
simulation knows.

User u of a round with key `key` has the key `fold_in(key, u)`, in any batch and on any device;
their action is one draw of the policy. Two policies played on the same key and users meet the
same people and items: true values are compared in pairs. A test uses disjoint users, as a
platform must.
"""

import functools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.random import fold_in
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import ArrayLike, Float

from mopl_jax.logs import Logs
from mopl_jax.numerics import random
from mopl_jax.numerics.devices import one_device
from mopl_jax.numerics.shapes import OneKey, Vector
from mopl_jax.policies.policy import Policy
from mopl_jax.simulation.recommender import Visit

CHUNK = 256  # users computed together, so that their candidates stay in the caches
BATCH = 2**12  # users at a time on each device: one size, so that a platform compiles once

Users = tuple[int, int]


class Recommender(Protocol):
    """What can be played: `recommender.Platform`, `replay.ReplayPlatform`, or your own; the North
    Star is the last signal.
    """

    @property
    def signals(self) -> tuple[str, ...]: ...

    def visit(self, key: OneKey, action: Vector) -> Visit: ...


class Traffic(NamedTuple):
    """Users of one round, numpy: `action` (n, d), `signals` (n, k), and `expected` (n,), which no
    log has.
    """

    action: Float[np.ndarray, "n d"]
    signals: Float[np.ndarray, "n k"]
    expected: Float[np.ndarray, " n"]


def play(
    platform: Recommender, policy: Policy, key: OneKey, users: Users, mesh: Mesh | None = None
) -> Traffic:
    """Users start … stop−1 of the round `key`, `users` = (start, stop), each served by a draw of
    `policy` of their own.
    """
    batches = list(
        _batches(platform, policy, random.row_keys(key, 1)[0], users, mesh or one_device())
    )
    action, signals, expected = (np.concatenate(columns) for columns in zip(*batches, strict=True))
    return Traffic(action, signals, expected)


def _batches(platform, policy, key, users, mesh):
    size = BATCH * mesh.size
    for start in range(users[0], users[1], size):
        kept = slice(min(size, users[1] - start))
        action = _draw(policy, key, start, size)
        visit = jax.device_get(_visit(platform, key, start, action, mesh))
        yield Traffic(np.asarray(action)[kept], visit.signals[kept], visit.expected[kept])


@functools.partial(jax.jit, static_argnames="size")
def _draw(policy, key, start, size):
    """Actions (n, d), one draw a user."""
    users = _numbers(start, size)
    return jax.vmap(lambda user: policy.sample(fold_in(fold_in(key, user), 0)))(users)


@functools.partial(jax.jit, static_argnames="mesh")
def _visit(platform, key, start, action, mesh):
    """`Visit`s of users start, start + 1, …, split over the mesh; always in chunks of one shape, so
    to the last bit.
    """
    split, whole = PartitionSpec("r"), PartitionSpec()

    def some(platform, key, users, action):
        serve = lambda x: platform.visit(fold_in(fold_in(key, x[0]), 1), x[1])  # noqa: E731
        return jax.lax.map(serve, (users, action), batch_size=CHUNK)

    mapped = jax.shard_map(some, mesh=mesh, in_specs=(whole, whole, split, split), out_specs=split)
    return mapped(platform, key, _numbers(start, action.shape[0]), action)


def _numbers(start, size):
    return jnp.uint32(start) + jnp.arange(size, dtype=jnp.uint32)


def log(traffic: Traffic, policy: Policy, reward: ArrayLike | None = None) -> Logs:
    """The log of a round that played `policy`: reward is the North Star, or `reward` (k,) times the
    signals.
    """
    signals = traffic.signals.astype(float)
    column = signals[:, -1] if reward is None else signals @ np.asarray(reward, float)
    action = jnp.asarray(traffic.action)
    return Logs(action, jax.vmap(policy.log_density)(action), jnp.asarray(column, action.dtype))


# Tests on disjoint users.


class Contrast(NamedTuple):
    """Treatment minus control: `difference` (k,) of the mean signals, its `covariance` (k, k),
    users of each, `n` (2,).
    """

    difference: Float[np.ndarray, " k"]
    covariance: Float[np.ndarray, "k k"]
    n: tuple[int, int]

    def z(self, metric: ArrayLike) -> float:
        """z-score of the metric ωᵀ signals, `metric` ω (k,): ωᵀΔ / √(ωᵀSω); 0 where the metric does
        not vary.
        """
        metric = np.asarray(metric, float)
        variance = metric @ self.covariance @ metric
        return float(metric @ self.difference / math.sqrt(variance)) if variance > 0 else 0.0

    def p(self, metric: ArrayLike) -> float:
        """Two-sided p-value of `metric`."""
        return 2 * NormalDist().cdf(-abs(self.z(metric)))


def contrast(treatment: Float[np.ndarray, "n k"], control: Float[np.ndarray, "m k"]) -> Contrast:
    """Welch's comparison of two groups of users, from their signals."""
    arms = [arm.astype(float) for arm in (treatment, control)]
    covariance = sum(np.cov(arm, rowvar=False) / len(arm) for arm in arms)
    difference = arms[0].mean(axis=0) - arms[1].mean(axis=0)
    return Contrast(difference, np.atleast_2d(covariance), (len(treatment), len(control)))


def ab_test(
    platform: Recommender,
    treatment: Policy,
    control: Policy,
    key: OneKey,
    users: int,
    mesh: Mesh | None = None,
) -> Contrast:
    """Play `treatment` and `control` on `users` fresh users each."""
    return contrast(*arms(platform, (treatment, control), key, users, mesh))


def arms(
    platform: Recommender,
    policies: Sequence[Policy],
    key: OneKey,
    users: int,
    mesh: Mesh | None = None,
) -> list[Float[np.ndarray, "n k"]]:
    """Signals of `users` fresh users for each of the policies."""
    return [
        play(platform, policy, key, (i * users, (i + 1) * users), mesh).signals
        for i, policy in enumerate(policies)
    ]


# What only a simulation knows.


class Value(NamedTuple):
    """A true value and the standard error of its simulation."""

    mean: float
    se: float


def value(
    platform: Recommender, policy: Policy, key: OneKey, users: int, mesh: Mesh | None = None
) -> Value:
    """Expected North Star of a policy, from `users` simulated users."""
    return _mean(play(platform, policy, key, (0, users), mesh).expected)


def gains(
    platform: Recommender,
    policies: Sequence[Policy],
    baseline: Policy,
    key: OneKey,
    users: int,
    mesh: Mesh | None = None,
) -> list[Value]:
    """True value of each policy minus that of `baseline`, on the same people and items (common
    random numbers).
    """
    base = play(platform, baseline, key, (0, users), mesh).expected
    return [
        _mean(play(platform, policy, key, (0, users), mesh).expected - base) for policy in policies
    ]


def _mean(x):
    x = x.astype(float)
    return Value(float(x.mean()), float(x.std(ddof=1) / math.sqrt(x.size)))

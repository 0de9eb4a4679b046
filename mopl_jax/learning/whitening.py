"""Actions in the units of the log: z = L⁻¹(a − mean), whose logged mean is 0 and covariance I."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax.logs import Logs
from mopl_jax.numerics import linalg
from mopl_jax.numerics.shapes import Vector
from mopl_jax.policies.gaussian import Gaussian


def standard(like: Vector) -> Gaussian:
    """The distribution of whitened actions, N(0, I), with the shape of `like` (d,)."""
    return Gaussian(jnp.zeros_like(like), jnp.ones_like(like))


def normals(*shape: int) -> np.ndarray:
    """Standard normal draws, always the same: constants of a program, which then has no generator
    to compile.
    """
    return np.random.default_rng(0).standard_normal(shape)


def whiten_action(action: Vector, whitening: Gaussian) -> Vector:
    """The z (d,) of an action."""
    return linalg.scale_solve(whitening.scale, action - whitening.mean)


def whiten(logs: Logs, whitening: Gaussian) -> Logs:
    """Actions as z = L⁻¹(a − mean) of the `whitening`, with their log propensities per unit of z.

    Users stay; context and time are dropped.
    """
    return dataclasses.replace(
        logs,
        action=jax.vmap(lambda a: whiten_action(a, whitening))(jnp.asarray(logs.action)),
        log_propensity=logs.log_propensity + linalg.log_determinant(whitening.scale),
        reward=jnp.asarray(logs.reward),
        context=None,
        time=None,
    )


def whitened(policy: Gaussian, whitening: Gaussian) -> Gaussian:
    """The `policy` as one of whitened actions."""
    factor = jnp.diag(policy.scale) if policy.scale.ndim == 1 else policy.scale
    columns = jax.vmap(lambda x: linalg.scale_solve(whitening.scale, x), 1, 1)
    return Gaussian(whiten_action(policy.mean, whitening), columns(factor))


def unwhiten(z: Vector, whitening: Gaussian) -> Vector:
    """The action (d,) of z."""
    return whitening.mean + linalg.scale_times(whitening.scale, z)


def unwhiten_policy(policy: Gaussian, whitening: Gaussian) -> Gaussian:
    """The `policy` of whitened actions, scale (d,), as a policy of actions as they were logged.

    Its new scale has the form of the whitening's: standard deviations, or a Cholesky factor.
    """
    scale = whitening.scale * (policy.scale[None] if whitening.scale.ndim == 2 else policy.scale)
    return Gaussian(unwhiten(policy.mean, whitening), scale)

"""A log of clipped weights as it would have been had their draws been logged before clipping.

A draw beyond a bound is not in the log. But the logging policy tells its distribution where the
bound was played, and the reward depends on it by the bound alone: drawn anew from that
distribution, it completes the log without changing its law (data augmentation, Tanner & Wong 1987).
"""

import dataclasses
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from mopl_jax.logs import Logs
from mopl_jax.policies.bounded import ClippedNormal

AGREES = 0.01  # of log densities: more than rounding, less than those of another policy differ


def unclipped(logs: Logs, logging: ClippedNormal) -> Logs:
    """The log with draws of `logging` before clipping, and their log densities; always the same for
    the same rows. ValueError for rows whose densities are not those of `logging`.
    """
    action = np.asarray(logs.action, float)
    _check_played(action, np.asarray(logs.log_propensity), logging)
    low, high = (np.broadcast_to(np.asarray(x), action.shape) for x in (logging.low, logging.high))
    mean, scale = (np.asarray(x, float) for x in (logging.normal.mean, logging.normal.scale))
    seed = zlib.crc32(action.tobytes()), zlib.crc32(np.asarray(logs.reward, float).tobytes())
    chance = np.log(np.random.default_rng(seed).uniform(size=action.shape))
    below = mean + scale * ndtri_exp(chance + log_ndtr((low - mean) / scale))
    above = mean - scale * ndtri_exp(chance + log_ndtr((mean - high) / scale))
    drawn = np.where(action <= low, below, np.where(action >= high, above, action))
    normal = ((drawn - mean) / scale) ** 2 + np.log(2 * np.pi * scale**2)
    density = -normal.sum(axis=1) / 2
    return dataclasses.replace(logs, action=drawn, log_propensity=density)


def _check_played(action, stated, logging):
    expected = np.asarray(jax.vmap(logging.log_density)(jnp.asarray(action)))
    apart = ~(np.abs(expected - stated) <= AGREES * (1 + np.abs(stated)))
    if apart.any():
        row = int(np.argmax(apart))
        raise ValueError(
            f"row {row}: expected the density of the clipped policy that was logging, whose draws"
            f" before clipping are drawn anew, log {expected[row]:.4g}, got log {stated[row]:.4g}"
        )

"""How rewards of some rows differ from those of all: a small surface of its own for each segment,
or one that is linear in features of the context, shrunk by the evidence to none.

Every row has a `place`, the block of coefficients that is its own, and `local` features within it:
segments have a block each and the one feature 1, numbers share one block and have as many features
as there are. A block's coefficients are of `bends` of the whitened weights: level, slopes, squares
and waves, each group with a prior variance that all blocks share (empirical Bayes, `evidence`).
With little data a block stays at 0, which is the surface of all rows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import block_diag
from jaxtyping import Array, Float, Int

from mopl_jax.learning.evidence import Posterior, most_evident
from mopl_jax.learning.waves import PROBES, inflation_of
from mopl_jax.learning.whitening import normals
from mopl_jax.logs import Logs
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.quick_jit import quick_jit
from mopl_jax.numerics.shapes import PerRow, Scalar, Vector

MOST = 2000  # coefficients in all: their covariance is a matrix of so many rows
ROOT = np.sqrt(2.0)
WIDTH = 25  # coefficients of a block, where weights are few enough for waves: 80 blocks at `MOST`
PITCHES = 0.6, 1.2, 1.8, 2.4, 3.0  # per logged standard deviation, as `waves.ALONG_AXES`


class Situation(NamedTuple):
    """What is known of n rows before their actions.

    `place` (n,): the block of each, B for those that have none
    `local` (n, k): the features within it
    """

    place: Int[Array | np.ndarray, " n"]
    local: Float[Array | np.ndarray, "n k"]


@pytree_dataclass()
class Deviations:
    """By how much the reward of a row exceeds the surface of all rows.

    `coefficients` (B + 1, k, f): of each block; the last one is zero
    `root` (B k f, B k f): covariance root rootᵀ of the others
    `noise`: the variance of a row as a certificate meets it, what rows of a user share included
    """

    coefficients: Float[Array, "B k f"]
    root: Float[Array, "c c"]
    noise: Scalar

    def of(
        self, place: Int[Array, ""], local: Float[Array, " k"], bends: Float[Array, " f"]
    ) -> Scalar:
        """The deviation of one row whose weights have these `bends`, or are expected to."""
        return local @ self.coefficients[place] @ bends


def bends(z: Vector) -> Float[Array, " f"]:
    """1, z and (z² − 1)/√2, of unit variance under the logging policy, and waves along each z."""
    return expected_bends(z, jnp.zeros_like(z))


def expected_bends(mean: Vector, scale: Vector) -> Float[Array, " f"]:
    """Under N(mean, scale²)."""
    squares = (jnp.square(mean) + jnp.square(scale) - 1) / ROOT
    pitch = jnp.asarray(frequencies(len(mean)), mean.dtype)[:, None]
    phase, damp = pitch * mean[None], jnp.exp(-0.5 * jnp.square(pitch * scale[None]))
    waves = [(damp * wave(phase)).ravel() for wave in (jnp.cos, jnp.sin)]
    return jnp.concatenate([jnp.ones_like(mean[:1]), mean, squares, *waves])


def frequencies(d: int) -> tuple[float, ...]:
    """The frequencies of the waves, as many as `WIDTH` leaves room for: none from thirteen weights
    on.
    """
    return PITCHES[: max((WIDTH - 1 - 2 * d) // (2 * d), 0)]


def width(d: int) -> int:
    """How many functions f of d weights there are: 1, the weights, their waves."""
    return 1 + 2 * d + 2 * d * len(frequencies(d))


def _groups(d: int) -> list[int]:
    """The group of each of the f: level, slopes, squares, waves."""
    return [1] + [2] * d + [3] * d + [4] * (2 * d * len(frequencies(d)))


def fit_deviations(logs: Logs, situation: Situation, kept: PerRow, blocks: int) -> Deviations:
    """Of whitened rows whose rewards are what the surface of all rows leaves of them, taught by
    those where `kept` is 1 and not 0.
    """
    sums, square, rows, inflation = _sums(logs, *situation, kept, blocks)
    d, k = logs.action.shape[1], situation.local.shape[1]
    f = width(d)
    found = _posterior(sums, square, rows, inflation, tuple(_groups(d) * (blocks * k)))
    shaped = found.mean.reshape(blocks, k, f)
    none = jnp.zeros_like(shaped[:1])
    return Deviations(jnp.concatenate([shaped, none]), found.root, found.noise)


@quick_jit("group")
def _posterior(sums, square, rows, inflation, group) -> Posterior:
    gram, moment = block_diag(*sums[..., :-1]), sums[..., -1].reshape(-1)
    products = jnp.concatenate([gram, moment[:, None]], axis=1)
    return most_evident(products, square, rows, np.asarray(group), inflation)


def _sums(logs, place, local, kept, blocks):
    """The products of each block, (B, k f, k f + 1); Σ r², the number of rows, and by how much
    what rows of a user share makes their noise larger. NumPy's: a pass, not worth compiling.
    """
    z, left, place, local, kept = (
        np.asarray(x) for x in (logs.action, logs.reward, place, local, kept)
    )
    shape = np.asarray(jax.vmap(bends)(jnp.asarray(z)))
    features = (local[:, :, None] * shape[:, None, :]).reshape(len(z), -1)
    both = np.concatenate([features, left[:, None]], axis=1) * kept[:, None]
    order = np.argsort(place, kind="stable")
    ends = np.searchsorted(place[order], np.arange(blocks + 1))
    parts = [order[ends[b] : ends[b + 1]] for b in range(blocks)]
    sums = np.stack([features[rows].T @ both[rows] for rows in parts])
    probes = shape @ normals(shape.shape[1], PROBES)
    probes, left, kept = (jnp.asarray(x, logs.action.dtype) for x in (probes, left, kept))
    inflation = inflation_of(logs, probes, left, kept)
    return jnp.asarray(sums), kept @ jnp.square(left), jnp.sum(kept), inflation

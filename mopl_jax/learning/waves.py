"""The reward as a quadratic and plane waves, each group of them as strong as the evidence says.

A quadratic is what a good analyst fits; rewards that saturate, peak or fall off a cliff are not
quadratic, mostly along few directions. Waves run along the axes, along estimated directions, and
everywhere at two lengths; a group that explains nothing fades, and what is left is the quadratic.
Directions come in rounds: slope and leading curvatures of the quadratic surface (Stein's moments),
then the leading directions of the first fit's gradients, which are turned to where the rows would
have them, as far as that is more than noise (projection pursuit: Friedman & Stuetzle 1981). Rows
are whitened.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from mopl_jax.learning.evidence import Posterior, most_evident
from mopl_jax.learning.response_surface import BLOCK, Surface, fit_surface, products
from mopl_jax.learning.whitening import normals, standard
from mopl_jax.logs import Logs
from mopl_jax.numerics import linalg, quadratic, safe
from mopl_jax.numerics.shapes import Matrix, PerRow, Scalar

# Frequencies by group, of logged standard deviations: a bump of 0.3 deviations has 3 to 4.
ALONG_AXES = (0.6, 1.2), (1.8, 2.4, 3.0)
ALONG_DIRECTIONS = (0.5, 1.0, 1.5), (2.0, 2.5, 3.0, 3.5, 4.0)
LENGTHS = 3.0, 1.5  # of squared-exponential kernels, by random waves (Rahimi & Recht 2007)
ANYWHERE = 32  # waves for each of them
DIRECTIONS = 3
ROUNDS = 3  # fits: by moments, by gradients, and those turned
FIRST = 2**14  # rows of all rounds but the last, which only point to directions
PROBES = 16  # directions of the posterior in which the noise of users is measured
GRADIENTS = 4096  # rows whose gradients point to the leading directions, and turn them
TURN = 0.3  # prior standard deviation of a turn, in radians
PRICE = 2.0  # what a turn must explain for each of its angles, in variances of the noise (Akaike)


class Fitted(NamedTuple):
    """What rows say of the reward.

    `noise`: the variance of a row as a certificate meets it, what rows of a user share included
    `inflation`: by how much that exceeds the variance of independent rows
    """

    surface: Surface
    noise: Scalar
    inflation: Scalar


def fit_waves(logs: Logs, kept: PerRow | None = None) -> Fitted:
    """The surface of whitened rows, whose users are counted; each row as often as `kept` says, of
    mean one over those that count (once, unless given).
    """
    kept = jnp.ones_like(logs.reward) if kept is None else kept
    level = jnp.sum(kept * logs.reward) / jnp.sum(kept)
    gap = jnp.where(kept > 0, logs.reward - level, 0)
    unit = safe.positive(jnp.max(jnp.abs(gap)))
    # in units of the largest reward: squares of 1e30 and of 1e-30 are numbers
    rows = dataclasses.replace(logs, reward=gap / unit)
    few = jax.tree.map(lambda x: x[:FIRST], (rows, kept))
    bends, n, one = _bends(*few), len(kept), jnp.ones_like(level)

    def again(i, found):
        surface, posterior, directions, _ = found
        ways = (
            lambda: _leading(surface, rows, kept),
            lambda: _turned(surface, posterior.noise, directions, rows, kept),
        )
        pointed = lax.cond(i > 1, ways[1], ways[0])
        return pointed, _inflation(surface, posterior, rows, kept)

    def fit(i, found):  # all rounds in one loop, which is compiled once
        directions, inflation = lax.cond(i > 0, again, lambda *_: (bends, one), i, found)
        first, steps = jnp.where(i < ROUNDS - 1, min(n, FIRST), n), jnp.where(i > 0, 20, 12)
        return *_fit(rows, kept, first, directions, inflation, steps), directions, inflation

    shapes = *jax.eval_shape(_fit, rows, kept, n, bends, one, 1), bends, one
    none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    surface, posterior, _, inflation = lax.fori_loop(0, ROUNDS, fit, none)
    scaled = (surface.coefficients * unit).at[0].add(level)
    covariance = surface.covariance * jnp.square(unit)
    surface = dataclasses.replace(surface, coefficients=scaled, covariance=covariance)
    return Fitted(surface, posterior.noise * jnp.square(unit), inflation)


def _fit(logs, kept, first, directions, inflation, steps) -> tuple[Surface, Posterior]:
    """The surface of the `kept` ones of the `first` rows, with waves along the `directions`
    (k, d).
    """
    waves, group = _waves(directions)
    empty = jnp.zeros((len(group), len(group)), waves.dtype)
    surface = Surface(standard(waves[0]), empty[0], empty, waves)
    sums = products(surface, logs.action, logs.reward, kept, first)
    counted = jnp.where(jnp.arange(len(kept)) < first, kept, 0)
    square, n = jnp.sum(counted * jnp.square(logs.reward)), jnp.sum(counted)
    found = most_evident(sums, square, n, group, inflation, steps)
    covariance = jnp.matmul(found.root, found.root.T, precision="highest")
    return dataclasses.replace(surface, coefficients=found.mean, covariance=covariance), found


def _waves(directions: Float[Array, "k d"]) -> tuple[Float[Array, "p d"], np.ndarray]:
    """The waves, and the group of each feature: the constant, slopes, squares, then the waves'."""
    d = directions.shape[1]
    axes = jnp.eye(d, dtype=directions.dtype)
    parts = [jnp.kron(jnp.asarray(band)[:, None], directions) for band in ALONG_DIRECTIONS]
    parts += [jnp.kron(jnp.asarray(band)[:, None], axes) for band in ALONG_AXES]
    drawn = jnp.asarray(normals(ANYWHERE, d), directions.dtype)
    parts += [drawn / length for length in LENGTHS]
    of_waves = np.repeat(np.arange(3, 3 + len(parts)), [len(part) for part in parts])
    plain = [0] + [1] * d + [2] * (quadratic.size(d) - 1 - d)
    group = np.concatenate([plain, of_waves, of_waves])
    return jnp.concatenate([part.astype(directions.dtype) for part in parts]), group


def _bends(logs, kept) -> Float[Array, "k d"]:
    """The slope's direction and the leading curvatures of the quadratic surface."""
    surface = fit_surface(logs.action, logs.reward, standard(logs.action[0]), kept=kept)
    _, slope, curvature = surface.quadratic
    straight = slope / safe.positive(jnp.linalg.norm(slope))
    return jnp.concatenate([straight[None], _eigenvectors(curvature, DIRECTIONS - 1)])[:DIRECTIONS]


def _leading(surface, logs, kept) -> Float[Array, "k d"]:
    """Where the surface's gradients point: the leading eigenvectors of their mean square."""
    slopes = jax.vmap(jax.grad(surface))(logs.action[:GRADIENTS])
    counted = (slopes * kept[:GRADIENTS, None]).T
    return _eigenvectors(jnp.matmul(counted, slopes, precision="highest"), DIRECTIONS)


def _turned(surface, noise, directions, logs, kept) -> Float[Array, "k d"]:
    """The directions turned by a Gauss–Newton step to where the waves along them, as strong as they
    are, explain most of what is left; the less of it, the nearer that is to what noise explains.
    """

    def at(directions, action):
        return dataclasses.replace(surface, waves=_waves(directions)[0])(action)

    few, counted = logs.action[:GRADIENTS], kept[:GRADIENTS]
    made, slopes = jax.vmap(jax.value_and_grad(at), (None, 0))(directions, few)
    sums = quadratic.products(slopes.reshape(len(few), -1), logs.reward[:GRADIENTS] - made, counted)
    gram, moment = sums[:, :-1], sums[:, -1]
    variance = safe.positive(noise)
    prior = variance / TURN**2 * jnp.eye(len(gram), dtype=gram.dtype)
    turn = linalg.solve_positive(gram + prior, moment)
    explained = turn @ gram @ turn / variance
    share = jnp.maximum(1 - PRICE * len(turn) / safe.positive(explained), 0)
    turned = directions + share * turn.reshape(directions.shape)
    return turned / safe.positive(jnp.linalg.norm(turned, axis=1, keepdims=True))


def _eigenvectors(matrix: Matrix, count: int) -> Float[Array, "k d"]:
    """The `count` eigenvectors of the largest eigenvalues in size, as rows; where there are fewer
    weights, the first ones again.
    """
    values, vectors = linalg.eigh(matrix)
    order = jnp.argsort(-jnp.abs(values))
    return vectors[:, order[np.arange(count) % len(matrix)]].T


def _inflation(surface, posterior, logs, kept) -> Scalar:
    """By how much the noise of what is known exceeds that of independent rows with one variance,
    at least 1: Liang & Zeger's (1986) covariance over the plain one, in `PROBES` random
    directions of the posterior.
    """
    root = posterior.root
    probes = root @ jnp.asarray(normals(root.shape[1], PROBES), root.dtype)

    def row(action):
        features = surface.features(action)
        return features @ probes, features @ surface.coefficients

    slopes, fitted = lax.map(row, logs.action, batch_size=BLOCK)
    return inflation_of(logs, slopes, logs.reward - fitted, kept)


def inflation_of(logs: Logs, slopes: Float[Array, "n p"], left: PerRow, kept: PerRow) -> Scalar:
    """How many times the variance of p functions of the rows (`slopes`) times what is `left` of the
    rewards is that of independent rows, each as often as `kept` says: one that counts twice has a
    score twice as large, not two.
    """
    scores = slopes * (kept * left)[:, None]
    if logs.cluster is not None:
        scores = jax.ops.segment_sum(scores, logs.cluster, logs.num_clusters)
    size, noise = kept @ jnp.square(slopes), kept @ jnp.square(left)
    plain = jnp.sum(size) * (noise / jnp.sum(kept))
    return jnp.maximum(safe.divide(jnp.sum(jnp.square(scores)), plain), 1)

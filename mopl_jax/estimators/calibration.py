"""SNIPS calibrated to what is known of the target: its mean and covariance.

The weighted mean of an action's features is known before a reward is seen. Where the sample misses
it, and rewards depend on those features, SNIPS misses by as much: regression on the features with
the importance weights takes that out (the generalised regression estimator of survey sampling:
Cassel, Särndal & Wretman 1976; Deville & Särndal, JASA 1992).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.estimator import Columns, Estimator, Model, in_memory
from mopl_jax.estimators.importance import snips
from mopl_jax.estimators.target_features import expected_features, quadratic_features
from mopl_jax.estimators.weight_totals import WeightTotals
from mopl_jax.numerics import linalg, safe
from mopl_jax.numerics.reduce import Block, Monoid
from mopl_jax.numerics.shapes import Matrix, PerBlockRow, PerRow, Scalar, Vector
from mopl_jax.policies.gaussian import Gaussian

# Effective rows a feature below which a model is not used at all, and above which it is in full;
# and by how many times what noise explains a model must explain, to be believed at all. Chosen by
# benchmarks/calibrated.py on half of the worlds of the stress study.
FEW, ENOUGH = 2.0, 4.0
DOUBT = 2.0
RIDGE = 1e-4  # of a feature's variance under the target, which is one
LEAST = 0.05  # of what the noise leaves of a row whose leverage is nearly one


def calibrated(
    log_weight: PerRow, reward: PerRow, *, action: Float[Array, "n d"], target: Gaussian
) -> Estimate:
    """Σ p (r − xᵀβ) of a log in memory; see `calibrated_of`."""
    columns = Columns(reward, (log_weight,), action)
    return in_memory(calibrated_of(target), columns)


def calibrated_of(target: Gaussian) -> Estimator:
    """SNIPS calibrated to the moments of the `target`: Σ p (r − xᵀβ), x of mean 0 under the target.

    x are zᵢ and zᵢzⱼ − δᵢⱼ, z the action in the units of the target, and β their weighted least
    squares with the importance weights. Each of the two groups is shrunk by the share 1 − 2E/R, R
    what it explains and E what noise would, and to nothing where a feature has fewer than two to
    four effective rows. Whatever β, the value is consistent as SNIPS is: the model only takes away
    variance. The influence of a row is n g p e, e what the model leaves of its reward and g p its
    coefficient in the value, raised for the row's leverage, so that `Moments.exact` is unbiased
    where rewards are quadratic with noise of one variance and nothing is shrunk.
    """
    features = functools.partial(_features, target)

    def adjust(fitted, block):
        gap = block.columns.reward - features(block) @ fitted.slope
        return gap, jnp.zeros_like(gap)

    model = Model(
        functools.partial(_summarise, features),
        Monoid(_merge, _empty),
        functools.partial(_fit, target.mean.shape[0]),
        adjust,
        functools.partial(_leverage, features),
    )
    return Estimator(snips.finish, snips.row, model)


class Products(NamedTuple):
    """Weighted products of the columns t = (1, x, r − centre) over rows, u = w / max w.

    `log_max`: log max w
    `centre`: the reward of the heaviest row, which rewards are measured from
    `first` (f+2, f+2): Σ u ttᵀ
    `second` (f+2, f+2): Σ u² ttᵀ
    """

    log_max: Scalar
    centre: Scalar
    first: Matrix
    second: Matrix


class Fitted(NamedTuple):
    """The regression of rewards on x (f,), with what a row's leverage is made of.

    `slope` (f,): β
    `centre` (f,): x̄ = Σpx
    `gain` (f, f): β is `gain` times Σp(x − x̄)r
    `spread` (f+1, f+1): Σp² of the products of 1 and x − x̄
    """

    slope: Vector
    centre: Vector
    gain: Matrix
    spread: Matrix


def _features(target: Gaussian, block: Block) -> Float[Array, "m f"]:
    """x of each row: zᵢ and zᵢzⱼ less their expectation, of variance one under the target."""
    rows, columns = np.triu_indices(target.dim)
    unit = np.concatenate([np.ones(target.dim), np.where(rows == columns, np.sqrt(2), 1)])

    def of(action):
        expected = expected_features(target, action.dtype)
        x = (quadratic_features(target, action) - expected)[1:] / unit.astype(action.dtype)
        return jnp.where(jnp.isfinite(x), x, 0)  # so far away, a row has no weight

    return jax.vmap(of)(block.columns.action)


def _summarise(features, block: Block, log_weight: PerBlockRow) -> Products:
    kept, reward = block.mask(log_weight, -jnp.inf), block.columns.reward
    log_max, centre = jnp.max(kept), reward[jnp.argmax(kept)]
    u = jnp.exp(kept - jnp.where(jnp.isfinite(log_max), log_max, 0))
    x = features(block)
    gap = jnp.where(u > 0, reward - centre, 0)
    columns = jnp.concatenate([jnp.ones_like(x[:, :1]), x, gap[:, None]], axis=1)
    multiply = functools.partial(jnp.matmul, precision="highest")
    once = columns * u[:, None]
    return Products(log_max, centre, multiply(once.T, columns), multiply(once.T, once))


def _merge(parts: Products) -> Products:
    """The products of all parts, stacked, with the weight and reward of the heaviest row as
    units.
    """
    heaviest = jnp.argmax(parts.log_max, axis=0)
    log_max, centre = parts.log_max[heaviest], parts.centre[heaviest]
    log_scale = parts.log_max - jnp.where(jnp.isfinite(log_max), log_max, 0)
    scale, gap = jnp.exp(log_scale)[:, None, None], parts.centre - centre
    moved = [_moved(x, gap) for x in (parts.first, parts.second)]
    return Products(
        log_max,
        centre,
        jnp.sum(scale * moved[0], axis=0),
        jnp.sum(jnp.square(scale) * moved[1], axis=0),
    )


def _moved(products, gap):
    """`products` with the rewards of each part raised by its `gap`."""
    moved = products.at[..., -1].add(gap[:, None] * products[..., 0])
    return moved.at[..., -1, :].add(gap[:, None] * moved[..., 0, :])


def _empty(part: Products) -> Products:
    zero = jax.tree.map(jnp.zeros_like, part)
    return zero._replace(log_max=jnp.full_like(part.log_max, -jnp.inf))


def _fit(d: int, sums: Products) -> Fitted:
    """β from the products of all rows."""
    total = safe.positive(sums.first[0, 0])
    p, p2 = sums.first / total, sums.second[:-1, :-1] / jnp.square(total)
    centre, f = p[0, 1:-1], p.shape[0] - 2
    covariance = p[1:, 1:] - jnp.outer(p[0, 1:], p[0, 1:])  # of x and the reward
    moment, variance = covariance[:-1, -1], covariance[-1, -1]
    away = jnp.eye(f + 1, dtype=p.dtype).at[1:, 0].set(-centre)
    spread = away @ p2 @ away.T
    parts = _parts(jnp.where(p2[0, 0] * FEW * d < 1, covariance[:-1, :-1], 0), d)
    gain = _shrunk(parts, moment, variance, spread, (d, f))
    return Fitted(gain @ moment, centre, gain, spread)


def _parts(gram: Matrix, d: int) -> tuple[Matrix, Matrix]:
    """Matrices (f, f) that give the slopes of the linear features from Σp(x − x̄)r, and those of
    what they leave of the others.
    """
    identity = jnp.eye(len(gram), dtype=gram.dtype)
    gram = gram + RIDGE * identity

    def part(basis):
        return basis @ linalg.invert_positive(basis.T @ gram @ basis) @ basis.T

    linear = part(identity[:, :d])
    return linear, part((identity - linear @ gram)[:, d:])


def _shrunk(parts, moment: Vector, variance: Scalar, spread: Matrix, features) -> Matrix:
    """The matrix (f, f) that gives β from `moment`, each part by the share that is believed.

    `variance`: of the rewards; what a part leaves of it is noise, and noise would explain as much
    as the weights (`spread`) of the part let it
    `features`: how many there are up to each part
    """
    explained = [moment @ part @ moment for part in parts]
    noise = [jnp.sum(part * spread[1:, 1:]) for part in parts]
    left, free, sum_p2 = variance - explained[0], 1 - spread[0, 0] - noise[0], spread[0, 0]
    share = _believed(explained[1], noise[1], left - explained[1], free - noise[1])
    share = share * _enough(sum_p2, features[1])
    left, free = left - share * explained[1], free - share * noise[1]
    first = _believed(explained[0], noise[0], left, free) * _enough(sum_p2, features[0])
    return first * parts[0] + share * parts[1]


def _believed(explained, noise, left, free):
    expected = noise * left / jnp.maximum(free, LEAST)
    share = 1 - DOUBT * safe.divide(expected, explained, otherwise=1.0)
    known = jnp.isfinite(explained) & jnp.isfinite(left)  # squares of huge rewards are not
    return jnp.where(known, jnp.clip(share, 0, 1), 0)


def _enough(sum_p2, features):
    return jnp.clip((safe.reciprocal(sum_p2 * features) - FEW) / (ENOUGH - FEW), 0, 1)


def _leverage(
    features, fitted: Fitted, totals: WeightTotals, block: Block, log_weight: PerBlockRow
) -> PerBlockRow:
    """What a row's terms are multiplied by: g √((1 − 2p + S₂) / (1 − 2h + Σⱼ Hᵢⱼ²)).

    Hᵢⱼ = pⱼ (1 + aᵢᵀ(xⱼ − x̄)) with aᵢ = gain (xᵢ − x̄), h = Hᵢᵢ, and g = 1 − aᵢᵀx̄. What is left of
    noise of variance σ² in row i has variance σ² (1 − 2h + Σⱼ Hᵢⱼ²); without a model, 1 − 2p + S₂.
    """
    away, p = features(block) - fitted.centre[None, :], totals.share(log_weight)
    a = away @ fitted.gain
    spread, s2 = fitted.spread, totals.sum_p2
    hat = p * (1 + jnp.sum(a * away, axis=1))
    squares = 2 * a @ spread[0, 1:] + jnp.sum(a @ spread[1:, 1:] * a, axis=1)
    plain = 1 - 2 * p + s2
    left = jnp.maximum(1 - 2 * hat + s2 + squares, LEAST * plain)
    return (1 - a @ fitted.centre) * safe.sqrt(safe.divide(plain, left, otherwise=1.0))

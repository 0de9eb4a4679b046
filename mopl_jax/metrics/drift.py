"""Does a metric still mean what it meant? Its exchange rate in an earlier and a later part of a
history.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from mopl_jax.metrics.objectives import History

LEVEL = 0.01  # at which it is told: every history is asked


class Drift(NamedTuple):
    """North Star units for a unit of the metric's effect, before and after, and their difference.

    `before`, `after`: the two rates.
    `p_value`: two-sided, that they are one; NaN where either has no variation beyond noise.
    """

    before: float
    after: float
    p_value: float


def drift(
    weights: Float[np.ndarray, " k"], history: History, later: Bool[np.ndarray, " e"]
) -> Drift:
    """The rates Σ n (ωᵀΔ Δ_N − ωᵀSe_N) / Σ n ((ωᵀΔ)² − ωᵀSω) of both parts, apart.

    Their standard errors are those of ratios of sums over experiments, whose influences ψ differ
    widely: Student's t with Satterthwaite's degrees of freedom, those of a part (Σψ²)²/Σψ⁴. A/A
    tests say nothing.
    """
    parts = [_rate(weights, history, some) for some in (~later, later)]
    (before, variance, df), (after, other, more) = parts
    total = variance + other
    freedom = total**2 / (variance**2 / df + other**2 / more)
    p_value = 2 * stats.t.sf(abs(after - before) / np.sqrt(total), freedom)
    return Drift(before, after, float(p_value))


def second_half(history: History) -> Bool[np.ndarray, " e"]:
    """The later half of the experiments, in the order of the table."""
    index = np.asarray(history.experiment)
    return index > np.median(np.unique(index[~np.asarray(history.null)]))


def _rate(weights, history, some):
    """The rate of some differences, its variance and the degrees of freedom of that."""
    some = some & ~np.asarray(history.null)
    effect, noise = np.asarray(history.effect)[some], np.asarray(history.covariance)[some]
    size, index = np.asarray(history.size)[some], np.asarray(history.experiment)[some]
    ours, north = effect @ weights, effect[:, history.north_star]
    shared = noise @ weights
    above = size * (ours * north - shared[:, history.north_star])
    below = size * (np.square(ours) - shared @ weights)
    total = below.sum()
    if not total > 0 or len(size) < 2:
        return np.nan, np.nan, np.nan
    rate = above.sum() / total
    influence = np.bincount(
        np.unique(index, return_inverse=True)[1], (above - rate * below) / total
    )
    square, count = np.square(influence), influence.size
    variance = square.sum() * count / max(count - 1, 1)
    return float(rate), float(variance), float(square.sum() ** 2 / np.square(square).sum())

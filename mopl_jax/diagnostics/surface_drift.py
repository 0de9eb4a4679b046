"""Does the response surface move, and not only the mean reward?

What other weights would have earned is a matter of slopes: a log in which the reward rises for all
weights alike misleads nobody, one in which a weight that paid no longer pays does. Asked is whether
the slopes change from the first row to the last, or from weekday to weekday, in a score test that
users are the independent units of:

    r = φ(z)ᵀβ + μ(t) + Σ_jk γ_jk b_k(t) z_j + noise,    H₀: γ = 0

with φ the quadratic features of the standardised weights z, μ a step function of time, and b either
the rank of the row in time or the weekday. U = Σ_u U_u are the scores of γ at H₀, of the regressors
b_k z_j cleared of all others; (C − q) / (C q) · Uᵀ(Σ_u U_u U_uᵀ)⁻¹U is compared with F of q and
C − q degrees of freedom, q = dim γ and C users. Noise may depend on weights, time and user.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mopl_jax.numerics import quadratic

STEPS = 10  # of the mean reward over time
UNITS_EACH = 10  # users for each number that is tested: fewer do not know their covariance


class SurfaceDrift(NamedTuple):
    """Whether slopes change.

    `p_value`: of slopes that do not; NaN where there are too few users to ask
    `change`: the largest change of a slope, in standard deviations of the reward for one of the
        weight: from the first row to the last, or between two weekdays
    """

    p_value: float
    change: float


def trend(time: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 1"]:
    """The rank of each row in time, from −½ to ½."""
    return (_rank(time) - 0.5)[:, None]


def by_day(day: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n k"]:
    """An indicator of each weekday that occurs but the first, centred."""
    shown = np.unique(day)[1:]
    flags = (day[:, None] == shown[None, :]).astype(float)
    return flags - flags.mean(axis=0)


@np.errstate(over="ignore")  # of numbers whose squares no float holds
def surface_drift(
    action: Float[np.ndarray, "n d"],
    reward: Float[np.ndarray, " n"],
    time: Float[np.ndarray, " n"],
    basis: Float[np.ndarray, "n k"],
    unit: Int[np.ndarray, " n"],
    beside: Float[np.ndarray, "n j"] | None = None,
) -> SurfaceDrift:
    """Whether slopes go along with the columns of `basis`, whatever they do along `beside`."""
    _, unit = np.unique(unit, return_inverse=True)
    spread, units = action.std(axis=0), int(unit.max()) + 1
    z = ((action - action.mean(axis=0)) / np.where(spread > 0, spread, 1))[:, spread > 0]
    q = basis.shape[1] * z.shape[1]
    if not q or units < UNITS_EACH * q or not reward.std() > 0:
        return SurfaceDrift(np.nan, np.nan)
    known = [] if beside is None else [_products(beside, z)]
    given = np.concatenate([quadratic.few_features(z), _steps(time), basis, *known], axis=1)
    columns = np.concatenate([_products(basis, z), reward[:, None] / reward.std()], axis=1)
    cleared = columns - given @ _coefficients(given, columns)
    asked, left = cleared[:, :q], cleared[:, q]
    scores = np.zeros((units, q))
    np.add.at(scores, unit, asked * left[:, None])
    total = scores.sum(axis=0)
    statistic = total @ np.linalg.pinv(scores.T @ scores, hermitian=True) @ total
    change = _coefficients(asked, left).reshape(basis.shape[1], -1)
    reach = np.ptp(np.concatenate([change * 0, change]), axis=0).max()
    return SurfaceDrift(_f_tail(statistic * (units - q) / (units * q), q, units - q), float(reach))


def _products(basis, z):
    """b_k z_j of every pair."""
    return (basis[:, :, None] * z[:, None, :]).reshape(len(z), -1)


def _coefficients(given, columns):
    """Coefficients by least squares, from normal equations: regressors have a mean square of about
    one.
    """
    return np.linalg.pinv(given.T @ given, 1e-10, hermitian=True) @ (given.T @ columns)


def _steps(time):
    """Indicators of the tenths of the rows in time but the first."""
    tenth = np.minimum((_rank(time) * STEPS).astype(int), STEPS - 1)
    return (tenth[:, None] == np.arange(1, STEPS)[None, :]).astype(float)


def _rank(time):
    """The share of rows before each, and half of those at its time."""
    ordered = np.sort(time)
    before, until = (np.searchsorted(ordered, time, side) for side in ("left", "right"))
    return 0.5 * (before + until) / len(time)


def _f_tail(statistic, a, b) -> float:
    from scipy.special import fdtrc  # on demand: its import takes a third of jax's

    return float(fdtrc(a, b, statistic))

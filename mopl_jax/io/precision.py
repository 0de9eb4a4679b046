"""How precisely a column of densities was written: single precision, so many decimals or digits.

Rounding moves a log density by at most `Precision.error`, and the mean weight by as much: what is
no more than that is no evidence against densities.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

FEW = 20  # different values below which round numbers may be exact, as 0.1 and 0.3 of three arms
EXACT_DECIMALS = 2  # of few values: 0.25 is taken for a quarter, 0.0294 for one in 34
DIGITS = 9  # that single precision is printed with, at most
SINGLE = 2.0**-24
WHOLE = 0.999  # of a density: one that is rounded by as much is hardly known
HEAD = 1000  # entries that most columns are told by
DECIMALS = 7  # up to which a column is taken for rounded


class Precision(NamedTuple):
    """Largest errors of a column of densities, or of their logarithms: absolute, and relative to an
    entry.
    """

    absolute: float = 0.0
    relative: float = 0.0
    log: bool = False

    def error(self, log_density: ArrayLike) -> Float[Array, " m"]:
        """The largest error of each log density, (m,)."""
        log_density = jnp.asarray(log_density)
        if self.log:
            return self.absolute + self.relative * jnp.abs(log_density)
        share = self.relative + self.absolute * jnp.exp(-log_density)
        return -jnp.log1p(-jnp.minimum(share, WHOLE))


def precision_of(values: Float[np.ndarray, " n"], single: bool, log: bool) -> Precision:
    """The precision of a column, of which these are some entries.

    `single`: whether it is kept in single precision; `log`: whether it holds log densities. Of a
    number of decimals and one of digits that both fit, the coarser counts.
    """
    values = np.unique(np.abs(values[np.isfinite(values) & (values != 0)]))
    inverse = float(np.mean(1 / values)) if len(values) else 0.0
    facts = len(values), decimals_of(values), _digits(values), inverse
    return precision_by(*facts, single=single, log=log)


def precision_by(
    different: int, decimals: float, digits: float, inverse: float, *, single: bool, log: bool
) -> Precision:
    """The precision of a column, by how many `different` entries it has, the `decimals` and
    `digits` that all of them have, and the mean `inverse` of their sizes.
    """
    if different < FEW and not log:
        decimals = max(decimals, EXACT_DECIMALS + 1)
    absolute, relative = 0.5 * 10.0**-decimals, 0.5 * 10.0 ** (1 - digits)
    if relative <= SINGLE:  # printed as short as single precision allows, which rounds once more
        relative = SINGLE * (1.0 if single else 2.0) * (single or relative > 0)
    coarser = not different or absolute * inverse >= relative
    return Precision(absolute, SINGLE * single, log) if coarser else Precision(0.0, relative, log)


def decimals_of(column: Float[np.ndarray, " n"]) -> float:
    """The decimals that all entries are rounded to, inf if more than `DECIMALS`.

    Entries may have been kept in single precision.
    """
    for decimals in range(DECIMALS + 1):
        if _is_rounded(column[:HEAD], decimals) and _is_rounded(column, decimals):
            return decimals
    return math.inf


def _is_rounded(column, decimals):
    scaled = column * 10.0**decimals
    slack = 1e-9 + 2.0**-24 * np.abs(scaled)
    return bool(np.all(np.abs(scaled - np.round(scaled)) <= np.minimum(slack, 0.1)))


def _digits(values):
    """The significant digits that all values have, inf if more than `DIGITS`."""
    shift = np.floor(np.log10(values))
    for digits in range(4, DIGITS + 1):
        scaled = values * 10.0 ** (digits - 1 - shift)
        if np.all(np.abs(scaled - np.round(scaled)) <= 1e-5 * (digits == DIGITS) + 1e-7):
            return digits
    return np.inf

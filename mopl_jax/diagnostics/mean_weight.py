"""The mean of the importance weights, which is 1 where densities and policies are right."""

import math
from typing import NamedTuple

from mopl_jax.diagnostics.weight_diagnostics import Diagnosis

SUSPICIOUS = 3  # standard errors between the mean weight and 1
NOISY = 0.25  # standard error of the mean at which a factor of 1.7 in the densities would pass
TOLERANCE = 1e-3  # of the mean weight: less is rounding of the densities in a file
EXACT = 1e-12  # of the mean weight: less is rounding of exp and log


class MeanWeight(NamedTuple):
    """The mean of the importance weights and what it says of the densities.

    `mean`: of w
    `standard_error`: of the mean, NaN for one unit
    `z`: (mean − 1) / standard_error
    `compatible`: whether it is with 1; None where that cannot be told
    `verdict`: the same in a sentence
    """

    mean: float
    standard_error: float
    z: float
    compatible: bool | None
    verdict: str


def mean_weight_of(diagnosis: Diagnosis, units: int) -> MeanWeight:
    """The check of a diagnosis of so many `units`."""
    mean = float(diagnosis.mean_weight)
    error = float(diagnosis.mean_weight_error) if units > 1 else math.nan
    gap = 0.0 if abs(mean - 1) <= EXACT else mean - 1
    if error <= EXACT * mean:
        error = 0.0
    z = 0.0 if gap == 0 else gap / error if error else math.copysign(math.inf, gap)
    mean = 1.0 if gap == 0 else mean
    return MeanWeight(mean, error, z, *compatibility(mean, error, z))


def compatibility(mean: float, standard_error: float, z: float) -> tuple[bool | None, str]:
    """Whether a mean weight is compatible with 1, None where it cannot be told; and a sentence."""
    if not math.isfinite(mean):
        return (
            False,
            "the weights overflow: the densities are not normalised; only snips can be used",
        )
    if math.isnan(standard_error):
        return None, "one row: the mean of the weights cannot be checked"
    if abs(z) > SUSPICIOUS and abs(mean - 1) > TOLERANCE:
        cover = ", or the logger does not cover the target" if mean < 1 else ""
        wrong = "should be 1 and is not: the propensities or the target densities are wrong"
        return False, wrong + cover
    if standard_error > NOISY:
        return True, "compatible with 1, but so noisy that wrong densities could go unnoticed"
    return True, "compatible with 1, as it should be"

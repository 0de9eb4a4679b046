"""The mean of the importance weights, which is 1 where densities and policies are right."""

import math
from typing import NamedTuple

from mopl_jax.diagnostics.verdicts import CAUTION_P_VALUE, REFUSE_P_VALUE
from mopl_jax.diagnostics.weight_diagnostics import Diagnosis

EXACT = 1e-12  # of the mean weight: less is rounding of exp and log
NOISY = 0.25  # standard error of the mean at which a factor of 1.7 in the densities would pass


class MeanWeight(NamedTuple):
    """The mean of the importance weights and what it says of the densities.

    `mean`: of w
    `standard_error`: of the mean, NaN for one unit
    `z`: (mean − 1) / standard_error, 0 within `rounding`
    `p_value`: of E w = 1, two-sided, by the empirical likelihood ratio
    `rounding`: what the rounding of densities may add to the mean or take from it
    `compatible`: whether the mean is compatible with 1; None where that cannot be told
    `verdict`: the same in a sentence
    """

    mean: float
    standard_error: float
    z: float
    p_value: float
    rounding: float
    compatible: bool | None
    verdict: str


def mean_weight_of(diagnosis: Diagnosis, units: int) -> MeanWeight:
    """The check of a diagnosis of so many `units`."""
    mean, rounding = float(diagnosis.mean_weight), float(diagnosis.rounding)
    error = float(diagnosis.mean_weight_error) if units > 1 else math.nan
    if abs(mean - 1) <= EXACT:
        mean = 1.0
    if error <= EXACT * mean:
        error = 0.0
    gap = 0.0 if abs(mean - 1) <= rounding else mean - 1
    z = 0.0 if gap == 0 else gap / error if error else math.copysign(math.inf, gap)
    p_value = float(diagnosis.mean_weight_p_value)
    return MeanWeight(mean, error, z, p_value, rounding, *compatibility(mean, error, p_value))


def compatibility(mean: float, error: float, p_value: float) -> tuple[bool | None, str]:
    """Whether a mean weight with this standard `error` is compatible with 1, None where it cannot
    be told; and a sentence.
    """
    if not math.isfinite(mean):
        return (
            False,
            "the weights overflow: the densities are not normalised; only snips can be used",
        )
    if math.isnan(error):
        return None, "one row: the mean of the weights cannot be checked"
    if p_value < REFUSE_P_VALUE:
        cover = ", or the logger does not cover the target" if mean < 1 else ""
        wrong = "should be 1 and is not: the propensities or the target densities are wrong"
        return False, wrong + cover
    if p_value < CAUTION_P_VALUE:
        return True, "doubtful: it should be 1"
    if error > NOISY:
        return True, "compatible with 1, but so noisy that wrong densities could go unnoticed"
    return True, "compatible with 1, as it should be"

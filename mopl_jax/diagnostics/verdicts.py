"""What numbers about a log mean, in sentences: reasons to distrust a value, or why nothing is
claimed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mopl_jax.estimators import ess
from mopl_jax.evaluation.evaluation import Evidence

# effective rows; below it `normal` covers 0.92 or less where 0.95 is nominal (reference world, d =
# 10)
FEW = 50
RARE = (
    10  # rewards that differ from the usual one: the rule of thumb for a nearly normal proportion
)
SUSPICIOUS = 3  # standard errors between the mean weight and 1
NOISY = (
    0.25  # standard error of the mean weight at which a factor of 1.7 in the densities would pass
)
TOLERANCE = (
    1e-3  # of the mean weight: less is rounding of the densities in the file, and of no consequence
)
EXACT = 1e-12  # of the mean weight: less is rounding of exp and log


def mean_weight(evidence: Evidence) -> dict[str, Any]:
    """Mean of w, its standard error (NaN for one unit), z = (mean − 1) / standard error, and what
    `judge` says.
    """
    mean = float(evidence.diagnosis.mean_weight)
    error = float(evidence.mean_weight_error) if evidence.units > 1 else math.nan
    gap = 0.0 if abs(mean - 1) <= EXACT else mean - 1
    if error <= EXACT * mean:
        error = 0.0
    z = 0.0 if gap == 0 else gap / error if error else math.copysign(math.inf, gap)
    numbers = {"mean": 1.0 if gap == 0 else mean, "standard_error": error, "z": z}
    return numbers | judge(**numbers)


def judge(mean: float, standard_error: float, z: float) -> dict[str, Any]:
    """Whether the importance weights are `compatible` with mean 1 (None: cannot be told), and a
    sentence, `verdict`.
    """
    if not math.isfinite(mean):
        return _judgement(
            False, "the weights overflow: the densities are not normalised; only snips can be used"
        )
    if math.isnan(standard_error):
        return _judgement(None, "one row: the mean of the weights cannot be checked")
    if abs(z) > SUSPICIOUS and abs(mean - 1) > TOLERANCE:
        cover = ", or the logger does not cover the target" if mean < 1 else ""
        return _judgement(
            False,
            f"should be 1 and is not: the propensities or the target densities are wrong{cover}",
        )
    if standard_error > NOISY:
        return _judgement(
            True, "compatible with 1, but so noisy that wrong densities could go unnoticed"
        )
    return _judgement(True, "compatible with 1, as it should be")


def _judgement(compatible, verdict):
    return {"compatible": compatible, "verdict": verdict}


def warnings(
    evidence: Evidence, entries: Sequence[Mapping[str, Any]], check: Mapping[str, Any]
) -> list[str]:
    """Reasons to distrust the intervals `entries`, or why they claim nothing; one sentence each."""
    found = (
        _few_rows(float(evidence.diagnosis.kish))
        or _nothing_claimed(evidence, entries)
        or _rare_rewards(evidence.unusual),
        (
            f"mean weight {check['mean']:.4g}: {check['verdict']}"
            if check["compatible"] is False
            else None
        ),
    )
    return [text for text in found if text]


def _few_rows(size):
    if size == 0:
        return (
            "no overlap: the target can play no logged action; the value means nothing, intervals"
            " are the whole line"
        )
    if size <= 1 / (1 - ess.ONE_ROW):
        return (
            "one row has all the weight (ESS = 1): no variance can be estimated, intervals are the"
            " whole line"
        )
    if size < 2:
        return (
            f"fewer than two effective rows (ESS = {size:.2f}): trust no interval, however narrow"
        )
    if size < FEW:
        return (
            f"few effective rows (ESS = {size:.1f}): normal, hc2, ess_bessel cover too rarely; see"
            " ess_exact, ess_safe"
        )
    return None


def _nothing_claimed(evidence, entries):
    names = [
        entry["name"] for entry in entries if not math.isfinite(entry["upper"] - entry["lower"])
    ]
    if not names:
        return None
    if evidence.unusual == 0:
        return (
            "all rewards are equal: no variance can be estimated, intervals made of one are the"
            " whole line"
        )
    return f"no finite interval from {', '.join(names)}"


def _rare_rewards(unusual):
    few = (
        f"only {unusual} rewards differ from the usual one: intervals made of a variance cover too"
        " rarely"
    )
    return few if unusual < RARE else None

"""Why the intervals of an evaluation cover too rarely, or claim nothing: one sentence each."""

import math
from collections.abc import Sequence

from mopl_jax.diagnostics.appearance import Values
from mopl_jax.diagnostics.mean_weight import MeanWeight
from mopl_jax.diagnostics.weight_diagnostics import Diagnosis
from mopl_jax.estimators.ess import ONE_ROW
from mopl_jax.intervals.interval import NamedInterval

FEW = 50  # effective rows below which `normal` covers 0.92 or less of 0.95 (reference, d = 10)
RARE = 10  # rewards unlike the modal one: the rule of thumb for a nearly normal proportion


def warnings_of(
    diagnosis: Diagnosis, intervals: Sequence[NamedInterval], check: MeanWeight
) -> tuple[str, ...]:
    """What to know of the `intervals`."""
    found = (
        _few_rows(float(diagnosis.kish))
        or _nothing_claimed(diagnosis, intervals)
        or _rare_rewards(int(diagnosis.num_not_modal)),
        f"mean weight {check.mean:.4g}: {check.verdict}" if check.compatible is False else None,
    )
    return tuple(text for text in found if text)


def undeclared_range(rewards: Values, reward_range: tuple[float, float] | None) -> tuple[str, ...]:
    """A warning where all rewards are 0 or 1 and no range is declared."""
    if reward_range is not None or not {*rewards.value} == {0.0, 1.0}:
        return ()
    return (
        "all rewards are 0 or 1, and no range is declared: --reward-range 0,1 (in Python"
        " reward_range=(0, 1)) makes the recommended interval narrower, and right where clicks are"
        " rare",
    )


def _few_rows(size):
    if size == 0:
        return (
            "no overlap: the target can play no logged action; the value means nothing, intervals "
            "are the whole line"
        )
    if size <= 1 / (1 - ONE_ROW):
        return (
            "one row has all the weight (ESS = 1): no variance can be estimated, intervals are the "
            "whole line"
        )
    if size < 2:
        return (
            f"fewer than two effective rows (ESS = {size:.2f}): trust no interval, however narrow"
        )
    if size < FEW:
        return (
            f"few effective rows (ESS = {size:.1f}): normal, hc2, ess_bessel cover too rarely; see "
            "ess_exact, ess_safe"
        )
    return None


def _nothing_claimed(diagnosis, intervals):
    names = [x.name for x in intervals if not math.isfinite(x.upper - x.lower)]
    if not names:
        return None
    if diagnosis.num_not_modal == 0:
        return (
            "all rewards are equal: no variance can be estimated, intervals made of one are the "
            "whole line"
        )
    return f"no finite interval from {', '.join(names)}"


def _rare_rewards(num_not_modal):
    if num_not_modal >= RARE:
        return None
    return (
        f"only {num_not_modal} rewards differ from the usual one: intervals made of a variance "
        "cover too rarely"
    )

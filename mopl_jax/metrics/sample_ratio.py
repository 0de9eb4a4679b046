"""The sample-ratio test: do the arms of an experiment have the users that were planned for them?

Fabijan et al., Diagnosing sample ratio mismatch in online controlled experiments (KDD 2019): the
χ² test, with a level far below 5 % because every experiment is tested.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

MISMATCH = 1e-4  # platforms are alarmed at 5e-4 to 1e-3; tables here hold hundreds of experiments


def p_value(users: Sequence[float], shares: Sequence[float] | None) -> float:
    """p-value of the χ² test that the arms have `users` by the planned `shares`, in any unit.

    Without shares equal ones were meant, most likely, where all are between half and twice the
    first; elsewhere nothing is tested, and the p-value is NaN.
    """
    n = np.asarray(users, float)
    if shares is None:
        if not ((n > n[0] / 2) & (n / 2 < n[0])).all():
            return math.nan
    share = np.ones(n.size) if shares is None else np.asarray(shares, float)
    share = np.ldexp(share, -np.frexp(share.max())[1])  # of which a sum is a number
    with np.errstate(over="ignore", divide="ignore"):  # a share that is next to nothing
        expected = n.sum() * share / share.sum()
        statistic = np.sum(np.square(n - expected) / expected)
    return float(stats.chi2.sf(statistic, n.size - 1))


def planned(
    experiment: str, arms: Sequence[str], column: Sequence[float | None], given: Mapping | None
) -> list[float] | None:
    """The planned shares of the arms: from the table's column, or those `given` by name."""
    if all(share is not None for share in column):
        return [float(share) for share in column if share is not None]
    if given is None:
        return None
    absent = [arm for arm in arms if arm not in given]
    if absent:
        raise ValueError(
            f"experiment {experiment!r}: expected a share of arm {absent[0]!r}, got those of"
            f" {', '.join(given)}; add it to --shares, or give a column share"
        )
    return [float(given[arm]) for arm in arms]


def read_shares(text: str | None) -> dict[str, float] | None:
    """NAME=SHARE,NAME=SHARE as a dictionary; shares > 0 in any unit."""
    if text is None:
        return None
    parts = [part.rpartition("=") for part in text.split(",")]
    try:
        shares = {name.strip(): float(share) for name, _, share in parts}
    except ValueError:
        shares = {}
    if not shares or "" in shares or not all(0 < x < math.inf for x in shares.values()):
        raise ValueError(
            f"--shares: expected NAME=SHARE for each arm, as control=0.9,variant=0.1; got {text!r}"
        )
    return shares

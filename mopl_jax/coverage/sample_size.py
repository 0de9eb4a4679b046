"""From how many rows on an interval holds, and how many times fewer than another one needs."""

import math
from collections.abc import Sequence
from typing import Any


def smallest_n(rows: Sequence[dict[str, Any]], level: float) -> int | None:
    """The smallest n of one interval's rows from which coverage stays ≥ `level` up to the largest
    n; None if it never does.
    """
    found = None
    for row in sorted(rows, key=lambda row: row["n"], reverse=True):
        if row["coverage"] < level:
            break
        found = row["n"]
    return found


def sample_size_ratio(
    baseline: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], level: float
) -> tuple[float, bool]:
    """How many times more rows the baseline interval needs to hold `level`, and whether the grid
    of n brackets that.

    Where the baseline never holds (its largest n stands in), or the interval already holds at
    the smallest n and the baseline does not, the ratio is a lower limit: False. (nan, False)
    where the interval itself never holds.
    """
    needed, reached = smallest_n(baseline, level), smallest_n(rows, level)
    if reached is None:
        return math.nan, False
    sizes = [row["n"] for row in baseline]
    bracketed = needed is not None and (reached > min(sizes) or needed == reached)
    return (needed or max(sizes)) / reached, bracketed

"""How often rows repeat, in little memory: by their hashes, of which those below a threshold are
kept.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt64

SKETCH = 2**20  # hashes kept


class Sketch:
    """How often rows repeat, from the rows whose hash is below a falling threshold: exact up to
    `SKETCH` distinct rows.
    """

    def __init__(self):
        self.hashes, self.counts = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self.threshold = np.uint64(2**64 - 1)

    def add(self, hashes: UInt64[np.ndarray, " n"]) -> None:
        """Count rows by their hashes."""
        values, counts = np.unique(hashes[hashes <= self.threshold], return_counts=True)
        both, where = np.unique(np.concatenate([self.hashes, values]), return_inverse=True)
        total = np.bincount(where, np.concatenate([self.counts, counts]), len(both)).astype(
            np.int64
        )
        if len(both) > SKETCH:
            self.threshold = both[SKETCH // 2]
            both, total = both[: SKETCH // 2], total[: SKETCH // 2]
        self.hashes, self.counts = both, total

    @property
    def repeated(self) -> float:
        """The share of rows that are the same as an earlier one."""
        return 1 - len(self.counts) / max(int(self.counts.sum()), 1)

    @property
    def pairs(self) -> float:
        """How many pairs of rows are the same, about."""
        kept = (float(self.threshold) + 1) / 2.0**64
        return float(np.sum(self.counts * (self.counts - 1) / 2)) / kept

    @property
    def distinct(self) -> float:
        """How many different rows there are, about."""
        return len(self.hashes) * (2.0**64 / (float(self.threshold) + 1))


def hashes_of(columns: Sequence[Any]) -> UInt64[np.ndarray, " n"]:
    """64 bits that mix all entries of each row."""
    mixed = np.full(len(columns[0]), 0x9E3779B97F4A7C15, np.uint64)
    for column in columns:
        for x in np.asarray(column, np.float64).reshape(len(mixed), -1).T:
            mixed = (mixed ^ (x + 0.0).view(np.uint64)) * np.uint64(0xFF51AFD7ED558CCD)
            mixed ^= mixed >> np.uint64(32)
    return mixed

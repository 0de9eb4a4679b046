"""What the checks of a log found."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mopl_jax.diagnostics.finding import Finding
from mopl_jax.diagnostics.verdicts import gravest


class Range(NamedTuple):
    """Smallest and largest entry of a column, (d,) each of the actions."""

    low: Any
    high: Any


@dataclasses.dataclass(frozen=True, repr=False)
class LogReport:
    """What the checks of a log found, and the numbers behind it.

    `log`: the name of the log.
    `findings`: of all checks, in their order.
    `n`: rows.
    `ranges`: of reward, action, log propensity and time, where the log has them.
    `repeated_rows`: the share of rows that are the same as an earlier one.
    `tested_rows`: the rows that the tests of the actions saw, the first of each user.
    `clusters`: users; None where their column is not named.
    """

    log: str
    findings: tuple[Finding, ...]
    n: int
    ranges: Mapping[str, Range]
    repeated_rows: float
    tested_rows: int
    clusters: int | None = None

    @property
    def verdict(self) -> str:
        """The gravest level."""
        return gravest(*(finding.level for finding in self.findings))

    def __repr__(self) -> str:
        found = f"{len(self.findings)} findings"
        return f"LogReport({self.log!r}, n={self.n:,}: {self.verdict}, {found})"

    def to_dict(self) -> dict[str, Any]:
        """Plain Python, as `mopl check --json` prints it."""
        ranges = {
            name: {end: np.asarray(entries).tolist() for end, entries in both._asdict().items()}
            for name, both in self.ranges.items()
        }
        clusters = {} if self.clusters is None else {"clusters": self.clusters}
        return {
            "log": self.log,
            "verdict": self.verdict,
            "findings": [finding._asdict() for finding in self.findings],
            "n": self.n,
            "ranges": ranges,
            "repeated_rows": self.repeated_rows,
            "tested_rows": self.tested_rows,
        } | clusters

    def to_arrow(self) -> pa.Table:
        """The findings as a table: check, level, found."""
        return pa.Table.from_pylist([finding._asdict() for finding in self.findings])

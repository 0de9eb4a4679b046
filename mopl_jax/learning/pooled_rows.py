"""Rows of logs that are pooled, as they certify: weighed by what their log knows of a policy."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from mopl_jax.evaluation.weighed_logs import weights_of_logs
from mopl_jax.io.log_reader import Part
from mopl_jax.logs import Logs


class PooledRows(NamedTuple):
    """Which log each row is of.

    `parts`: the logs
    `part` (n,): the number of each row's
    """

    parts: tuple[Part, ...]
    part: Int[np.ndarray, " n"]

    def at(self, kept: Bool[np.ndarray, " n"]) -> "PooledRows":
        """Of the rows that are kept."""
        return self._replace(part=self.part[kept])

    def weighed(self, rows: Logs, targets: Sequence[Any]) -> Logs:
        """The `rows` (n,), those of each log weighed as in `evaluate`; as they are where a log's
        policy is not known.
        """
        by_log = weights_of_logs(self.parts, targets)
        if by_log is None:
            return rows
        each = np.asarray(by_log)[self.part]
        if rows.sampling_weight is not None:
            each = each * np.asarray(rows.sampling_weight)
        return dataclasses.replace(rows, sampling_weight=each)

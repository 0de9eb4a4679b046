"""Several logs as one, by mixture weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mopl_jax.io.column_spec import ColumnSpec, action_columns
from mopl_jax.io.log_reader import LogReader, log_reader_of, logging_policy
from mopl_jax.io.sources import open_source, pooled
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy


def pool(
    sources: Sequence[Any], logging: Sequence[Policy | Path | str | None], **roles: Any
) -> LogReader:
    """Several logs as one: every row's propensity is Σ (n_k/n) π_k(a), whichever policy played it.

    The balance heuristic (Veach & Guibas, SIGGRAPH 1995; Agarwal et al., KDD 2017): the weights
    of the pool are those of one log drawn from the mixture, never larger than n/n_k times those
    of a part. Propensity columns then do not count. One policy for all, or no policy at all
    (then each row's own propensity column serves), changes nothing.
    """
    parts = [open_source(source) for source in sources]
    rows = pooled(parts) if len(parts) > 1 else parts[0]
    if len({str(part) for part in logging}) == 1:
        return log_reader_of(rows, ColumnSpec(**roles), logging[0])
    names = action_columns(rows, roles.get("action")) or ()
    policies = [policy for x in logging if (policy := logging_policy(x, names)) is not None]
    if len(policies) < len(logging):
        raise ValueError("expected a logging policy for every file, got none for some; add it")
    mixture = Mixture.of(np.array([part.count() for part in parts], float), policies)
    columns = ColumnSpec(**roles | {"propensity": None, "log_propensity": None})
    return log_reader_of(rows, columns, mixture)

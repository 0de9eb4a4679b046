"""Several logs as one: each row weighed by its own logging policy, or by the mixture of all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mopl_jax.io.column_spec import ColumnSpec, action_columns
from mopl_jax.io.log_reader import LogReader, Part
from mopl_jax.io.opening import log_reader_of, logging_policy, prepared
from mopl_jax.io.sources import open_source, pooled
from mopl_jax.policies.contextual import is_contextual
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy


def pool(
    sources: Sequence[Any],
    logging: Sequence[Policy | Path | str | None],
    *,
    mixture: bool = False,
    **roles: Any,
) -> LogReader:
    """Several logs as one, every row with its propensity under the policy that logged it.

    So policies are compared within each log: what changed between them for other reasons, a season,
    is the same for all. `mixture`: every row's propensity is Σ (n_k/n) π_k(a), whichever policy
    played it: the balance heuristic (Veach & Guibas, SIGGRAPH 1995; Agarwal et al., KDD 2017),
    whose weights are never larger than n/n_k times those of a part. It takes what changed between
    the logs for the work of their policies, so it is for policies that played at the same time.
    Propensity columns do not count where policies differ. One policy for all, or no policy at all
    (then each row's own propensity column serves), changes nothing.
    """
    spec = ColumnSpec(**roles)
    parts = [prepared(open_source(source), spec) for source in sources]
    if spec.aggregate and len(parts) > 1:
        raise ValueError("--aggregate: expected one log, got several; add up the users of each")
    if spec.fit_logging and len(parts) > 1:
        readers = [log_reader_of(part, spec, x) for part, x in zip(parts, logging, strict=True)]
        parts, logging = [x.source for x in readers], [x.logging for x in readers]
        spec = spec.replace(fit_logging=False)
    rows = pooled(parts) if len(parts) > 1 else parts[0]
    if len({str(part) for part in logging}) == 1:
        reader = log_reader_of(rows, spec, logging[0])
        named = tuple(Part(part.name) for part in parts)
        return reader._replace(parts=named) if len(parts) > 1 else reader
    names = action_columns(rows, spec.action) or ()
    policies = [policy for x in logging if (policy := logging_policy(x, names)) is not None]
    if len(policies) < len(logging):
        bare = next(each.name for each, own in zip(parts, logging, strict=True) if own is None)
        raise ValueError(f"expected a logging policy for every file, got none for {bare}; add it")
    for part, policy in zip(parts, policies, strict=True):
        if is_contextual(policy):
            raise ValueError(
                f"{part.name}: expected a logging policy that is the same for all rows, as other"
                " files have other policies, got one by context; leave logging out of every file,"
                " and store what each row was played with in a column log_propensity"
            )
    both = Mixture.of(np.array([part.count() for part in parts], float), policies)
    own_densities = spec.replace(propensity=None, log_propensity=None)
    reader = log_reader_of(rows, own_densities, both)
    own = tuple(
        Part(part.name, policy, jax.jit(jax.vmap(policy.log_density)))
        for part, policy in zip(parts, policies, strict=True)
    )
    return reader._replace(mixed=own) if mixture else reader._replace(parts=own)

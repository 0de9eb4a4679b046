"""Draws of a policy: the weights to serve, with the log densities that a server must log."""

import io
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from mopl_jax.io.files import write_atomically
from mopl_jax.io.policy_json import read_policy
from mopl_jax.io.storage import write_table
from mopl_jax.numerics import random
from mopl_jax.numerics.check import check_count, check_seed
from mopl_jax.policies.contextual import Level, is_contextual, level
from mopl_jax.policies.policy import check_policy, sample_with_density

MOST = 10**7  # draws that one table holds
DENSITY = "log_propensity"


def draw(
    policy: Any,
    n: int = 1,
    seed: int | None = None,
    context: Mapping[str, Any] | None = None,
) -> pa.Table:
    """`n` draws of a policy, or of the one in a file: a column for each weight, by its name where
    the file has `objectives`, else `action_1`, …; and `log_propensity`. Of a policy that depends on
    the context they are for one request, of which `context` has the values of the columns; these
    are columns of the draws as well, since they are to be logged.

    The same seed gives the same draws; without one they are new each time, as a server needs them.
    ValueError for n < 1 or more than a table holds, and for a policy without a density, which
    cannot be logged, for draws or densities that are no finite numbers, and for names that are no
    columns beside the density.
    """
    check_count(n, MOST, "--n", "draw in parts, each by its own seed")
    path = isinstance(policy, str | Path)
    made, document = read_policy(policy) if path else (check_policy(policy, "policy"), {})
    names = document.get("objectives") or [f"action_{k + 1}" for k in range(made.dim)]
    _check_names(names, policy)
    own, seen = _of_request(made, context, policy if path else "policy")
    number = secrets.randbits(32) if seed is None else check_seed(seed)
    keys = random.row_keys(jax.random.key(number), n)
    action, log_density = jax.jit(jax.vmap(lambda key: sample_with_density(own, key)))(keys)
    columns = dict(zip(names, np.asarray(action).T, strict=True))
    columns |= {DENSITY: np.asarray(log_density)}
    _check_finite(columns, policy if path else "policy")
    return pa.table({name: pa.array([value] * n) for name, value in seen.items()} | columns)


def _of_request(made, context, name) -> tuple[Any, dict[str, Level]]:
    """The policy of one request, and what is known of it."""
    if not is_contextual(made):
        if context:
            raise ValueError(
                f"{name}: context: expected a policy that depends on it, got one that is the same"
                " for all requests: leave it out"
            )
        return made, {}
    if context is None:
        asked = ",".join(f"{column}=…" for column in made.columns)
        raise ValueError(
            f"{name}: its weights depend on {', '.join(made.columns)}: say of which request they"
            f" are drawn: --context {asked} (in Python policy.at({asked.replace(',', ', ')}))"
        )
    return made.at(**context), {column: level(context.get(column)) for column in made.columns}


def _check_finite(columns, policy):
    wrong = ~np.isfinite(np.stack(list(columns.values()), axis=1))
    if wrong.any():
        row, k = np.argwhere(wrong)[0]
        name, drawn = list(columns.items())[k]
        raise ValueError(
            f"{policy}: draw {row + 1}: expected finite numbers, got {name} {drawn[row]}, which"
            " cannot be logged; the policy's numbers are too large or too small: choose others"
        )


def _check_names(names, policy):
    for name in names:
        if name in ("", DENSITY) or not name.isprintable():
            raise ValueError(
                f"{policy}: key 'objectives': expected names of columns beside {DENSITY!r}, got"
                f" {name!r}; rename the weight"
            )


def as_csv(table: pa.Table) -> str:
    """The draws as text, a header first."""
    written = io.BytesIO()
    csv.write_csv(table, written)
    return written.getvalue().decode()


def write(path: Path, table: pa.Table) -> Path:
    """The draws in a file: CSV where its name says so, else Parquet."""
    if path.suffix.lower() == ".csv":
        return write_atomically(path, lambda temporary: temporary.write_text(as_csv(table)))
    return write_table(path, table)

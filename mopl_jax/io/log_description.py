"""Logs described in TOML: which files, which columns, which logging policy.

path = "week.parquet"     # or several: [[files]] with path and logging each; mixture = true
                          # where their policies played at the same time
action = "w_"             # a prefix, one list column, or a list of names
reward = "retained"
logging = "logging.json"  # or log_propensity = "column"
cluster = "user"
"""

import tomllib
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from mopl_jax.io import documents
from mopl_jax.io.column_spec import ROLES, ColumnSpec
from mopl_jax.io.log_reader import LogReader
from mopl_jax.io.pooling import pool
from mopl_jax.io.refusals import within
from mopl_jax.policies.policy import Policy


class LogFile(documents.Entry):
    """`path` and `logging` of a file, as seen from the folder of the description."""

    path: str
    logging: str | None = None


class LogDescription(ColumnSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Columns, and one file at `path` or several `files`; `mixture` as in `pool`."""

    path: str | None = None
    files: Annotated[list[LogFile], Meta(min_length=1)] | None = None
    logging: str | None = None
    mixture: bool = False


def described_log(path: Path, logging: Policy | Path | str | None, roles: dict) -> LogReader:
    """The log that a TOML file describes; `logging` and `roles` come before what it says."""
    refusal = "expected a log described in TOML, got something else ({})"
    content = documents.load(path, tomllib.loads, refusal)
    with within(str(path)):
        description = documents.fit(content, LogDescription)
        if (description.path is None) == (description.files is None):
            raise ValueError("expected one of the keys 'path' and 'files'; add or drop one")
        files = description.files or [LogFile(path=description.path)]
        columns = {role: getattr(description, role) for role in ROLES} | roles
        policies = [_policy(path, file.logging or description.logging, logging) for file in files]
        paths = [path.parent / file.path for file in files]
        return pool(paths, policies, mixture=description.mixture, **columns)


def _policy(path, described, given):
    if given is not None or described is None:
        return given
    return path.parent / described

"""Logs described in TOML: which files, which columns, which logging policy.

path = "week.parquet"     # or several: [[files]] with path and logging each; mixture = true
                          # where their policies played at the same time
action = "w_"             # a prefix, one list column, or a list of names
reward = "retained"
logging = "logging.json"  # or log_propensity = "column"
cluster = "user"
"""

import tomllib
from os.path import isdir  # False where a path cannot be looked at
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from mopl_jax.io import documents
from mopl_jax.io.column_spec import ROLES, ColumnSpec
from mopl_jax.io.refusals import within
from mopl_jax.policies.policy import Policy

Name = Annotated[str, Meta(min_length=1)]  # an empty one would be the folder itself


class LogFile(documents.Entry, kw_only=False):
    """`path` and `logging` of a file, as seen from the folder of the description."""

    path: Name
    logging: str | None = None


class LogDescription(ColumnSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Columns, and one file at `path` or several `files`; `mixture` as in `pool`."""

    path: Name | None = None
    files: Annotated[list[LogFile], Meta(min_length=1)] | None = None
    logging: str | None = None
    mixture: bool = False


class Pool(NamedTuple):
    """A log as `pool` takes it."""

    sources: list[Path]
    logging: list[Policy | Path | str | None]
    mixture: bool
    roles: dict[str, Any]


def described_log(path: Path, logging: Policy | Path | str | None, roles: dict) -> Pool:
    """The log that a TOML file describes; `logging` and `roles` come before what it says."""
    description, files = _described(path)
    roles = {role: getattr(description, role) for role in ROLES} | roles
    policies = [_policy(path, file.logging, logging) for file in files]
    return Pool([path.parent / x.path for x in files], policies, description.mixture, roles)


def files_of(path: Path) -> list[Path]:
    """Every file that is read where `path` is that of a log: a file, a folder or a description."""
    if path.suffix.lower() == ".toml":
        files = [entry for file in _described(path)[1] for entry in (file.path, file.logging)]
        parts = [found for entry in files if entry for found in files_of(path.parent / entry)]
        return [path, *parts]
    return [file for file in path.rglob("*") if file.is_file()] if isdir(path) else [path]


def _described(path) -> tuple[LogDescription, list[LogFile]]:
    """The description, and its files, each with its logging policy."""
    refusal = "expected a log described in TOML, got something else ({})"
    content = documents.load(path, tomllib.loads, refusal)
    with within(str(path)):
        description = documents.fit(content, LogDescription)
        if (description.path is None) == (description.files is None):
            raise ValueError("expected one of the keys 'path' and 'files'; add or drop one")
    files = description.files or [LogFile(path=str(description.path))]
    return description, [LogFile(each.path, each.logging or description.logging) for each in files]


def _policy(path, described, given):
    if given is not None or described is None:
        return given
    return path.parent / described

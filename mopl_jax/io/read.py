"""Logs in: from a path or a table and the columns' names, or from a TOML file that says both.

`open_log` makes a `LogReader`, `read_logs` reads all of it as `Logs`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mopl_jax.io.column_spec import ROLES, ColumnSpec
from mopl_jax.io.half import Half, table_halves
from mopl_jax.io.log_description import described_log
from mopl_jax.io.log_reader import LogReader, Rows, room, whole
from mopl_jax.io.opening import log_reader_of
from mopl_jax.io.pooling import pool
from mopl_jax.io.refusals import within
from mopl_jax.io.sources import open_source
from mopl_jax.logs import Logs, check_shapes
from mopl_jax.policies.policy import Policy


def open_log(source: Any, *, logging: Policy | Path | str | None = None, **roles: Any) -> LogReader:
    """A log from a path, a table, a `Source` or `Logs`; `roles` as in `ColumnSpec`.

    A path is a file, a folder, or a TOML that describes one. Without a propensity role the column
    `log_propensity` or `propensity` serves if there is one; then `logging`, a policy or the path
    of its JSON document (`check_densities` compares the two). `Logs` know their columns, users
    included. ValueError for columns that are not there, or densities from nowhere.
    """
    given = {role: name for role, name in roles.items() if name not in (None, False)}
    if isinstance(source, LogReader | Logs) and given:
        raise ValueError(
            f"expected no columns for a log that is open, got {', '.join(given)}; give its path"
        )
    if isinstance(source, LogReader):
        return source
    if isinstance(source, Logs):
        table, given = table_of(check_shapes(source))
        return log_reader_of(open_source(table), ColumnSpec(**given), logging)
    if isinstance(source, str | Path) and Path(source).suffix.lower() == ".toml":
        log = described_log(Path(source), logging, given)
        with within(str(source)):
            return pool(log.sources, log.logging, mixture=log.mixture, **log.roles)
    return log_reader_of(open_source(source), ColumnSpec(**given), logging)


def table_of(logs: Logs) -> tuple[pa.Table, dict[str, Any]]:
    """The columns that logs in memory have as a table, and the names of their roles."""
    names = [name for name in ROLES if hasattr(logs, name)]
    present = {
        name: np.asarray(getattr(logs, name)) for name in names if getattr(logs, name) is not None
    }
    table = pa.table({name: _arrow(x) for name, x in present.items()})
    return table, {name: name for name in present}


def _arrow(column):
    if column.ndim == 1:
        return pa.array(column)
    return pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), column.shape[1])


def read_logs(source: Any, *, logging: Policy | Path | str | None = None, **roles: Any) -> Logs:
    """All rows of a log as `Logs`, numpy float64, clusters numbered from 0; arguments and errors
    as in `open_log`.

    read_logs("week.parquet", action="w_", reward="retained", logging="logging.json",
    cluster="user")
    """
    reader = open_log(source, logging=logging, **roles)
    if reader.columns.action is None:
        raise ValueError(
            f"{reader.source.name}: no action columns; name them, for instance action='w_'"
        )
    return logs_of(whole(reader))


def sample_of(reader: LogReader, most: int, seed: int = 0) -> Logs:
    """All rows of a log, or of one with more than `most` a sample of about so many, by users."""
    n, most = reader.source.count(), room(reader, most)
    return read_logs(reader) if n <= most else halves(reader, most / n, seed)[0]


def halves(reader: LogReader, share: float, seed: int) -> tuple[Logs, LogReader]:
    """A sample of a log's users (of its rows, without users), about `share` of the rows, in memory;
    and the log of all others, to be read in passes or to stay in its engine.
    """
    half = Half(share, seed)
    if reader.source.table is not None:
        sample, others = table_halves(reader.source, reader.columns, half)
        logs = read_logs(reader._replace(source=sample))
        return logs, _without(reader, logs)._replace(source=others)
    logs = read_logs(reader._replace(half=half))
    left = reader.source.count() - len(logs.reward)
    source = reader.source._replace(count=lambda: left)
    others = _without(reader, logs)
    return logs, others._replace(half=half._replace(others=True), source=source)


def _without(reader: LogReader, logs: Logs) -> LogReader:
    """The reader, whose sampling weights have a mean of one over the rows not in `logs`."""
    sampling = reader.sampling
    if sampling is None or logs.sampling_weight is None:
        return reader
    n = reader.source.count()
    mean = (n - np.sum(logs.sampling_weight)) / (n - len(logs.reward))
    own = sampling._replace(
        mean=sampling.mean * mean, low=sampling.low / mean, high=sampling.high / mean
    )
    return reader._replace(sampling=own)


def logs_of(rows: Rows) -> Logs:
    """Rows that were read, as `Logs`."""
    columns = rows.action, rows.log_propensity, rows.reward, rows.context, rows.cluster, rows.time
    sampling = None if rows.log_sampling is None else np.exp(rows.log_sampling)
    return Logs(*columns, sampling)  # pyright: ignore[reportArgumentType]  (numpy columns)

"""Studies of many logs that are made in pieces: what an earlier run stored is kept, and a run ends
in time.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow.parquet as pq


def more(
    options,
    name: str,
    keys: Sequence[str],
    logs: Iterable[tuple],
    rows_of: Callable[..., Iterable[dict]],
) -> Iterator[dict]:
    """The rows stored as `name` in the folder `options.out`, then those of the `logs` that are
    missing there, until `options.seconds` are over.

    A log is known by its values of all `keys` but the last.
    """
    began, there = time.monotonic(), stored(options, name)
    yield from there
    width = len(keys) - 1
    done = {tuple(row[key] for key in keys[:width]) for row in there}
    for log in logs:
        if time.monotonic() - began > options.seconds:
            return
        if log not in done:
            yield from rows_of(*log)


def stored(options, name: str) -> list[dict]:
    """The rows that are stored as `name` in the folder `options.out`, if any."""
    path = options.out / f"{name}.parquet"
    return pq.read_table(path).to_pylist() if path.exists() else []

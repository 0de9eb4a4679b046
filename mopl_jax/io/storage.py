"""Results on disk: finished batches as they come, then tidy Parquet with provenance. Every write is
atomic.
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mopl_jax.io.files import write_atomically

_KEY = b"mopl_jax"


def fingerprint(description: Any) -> str:
    """Twelve hexadecimal digits that change with anything that changes numbers."""
    return hashlib.sha256(
        json.dumps(description, sort_keys=True, default=str).encode()
    ).hexdigest()[:12]


def provenance(**more: Any) -> dict[str, Any]:
    """Versions and device, with whatever the caller adds (config, seed, seconds)."""
    import jax
    import jax.numpy as jnp

    versions = {name: metadata.version(name) for name in ("jax", "jaxlib", "numpy", "mopl_jax")}
    device = jax.devices()[0]
    return {
        "versions": versions | {"python": platform.python_version()},
        "device": f"{len(jax.devices())} x {device.device_kind} ({device.platform})",
        "cores": os.cpu_count(),
        "dtype": str(jnp.zeros(()).dtype),
    } | more


def write_results(path: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> Path:
    """Tidy Parquet: one row per cell; `about` goes into the file's metadata as JSON."""
    table = pa.Table.from_pylist([dict(row) for row in rows])
    table = table.replace_schema_metadata({_KEY: json.dumps(about, default=str).encode()})
    return write_table(path, table)


def write_table(path: Path, table: pa.Table) -> Path:
    """Write Parquet."""
    return write_atomically(
        path, lambda temporary: pq.write_table(table, temporary, compression="zstd")
    )


def read_results(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and provenance of a results file; ValueError if it is absent or not one of ours."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(
            f"{path}: cannot be read as Parquet ({error}); run the study that makes it"
        ) from None
    if _KEY not in (table.schema.metadata or {}):
        raise ValueError(
            f"{path}: not a results file of mopl_jax (no provenance); run the study again"
        )
    return table.to_pylist(), json.loads(table.schema.metadata[_KEY])

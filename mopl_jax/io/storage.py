"""Results on disk: finished batches as they come, then tidy Parquet with provenance. Every write is atomic."""

import glob
import hashlib
import json
import os
import platform
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mopl_jax.coverage.results import Cell, Replicates, concatenate, count

_FIELDS = ("value", "ess", "lower", "upper")
_KEY = b"mopl_jax"
SECONDS_BETWEEN_PARTS = 5.0


def prepare(folder: Path) -> Path:
    """Create `folder`, or raise ValueError in one line if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written ({error.strerror}); choose another folder with --out") from None
    return folder


def write_atomically(path: Path, write) -> Path:
    """Call `write(temporary path)`, then move the file into place: readers see all of it or none."""
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def fingerprint(description: Any) -> str:
    """Twelve hexadecimal digits that change with anything that changes numbers."""
    return hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode()).hexdigest()[:12]


class Parts:
    """Finished batches of one world in `folder`: a killed sweep resumes from them, whatever its batch size was."""

    def __init__(self, folder: Path, world: str, mark: str):
        self.folder, self.stem = folder, f"{world}-{mark}"

    def done(self) -> list[tuple[int, int]]:
        """Ranges of replicates that are stored, ascending."""
        return sorted(self._span(path) for path in self.folder.glob(f"{glob.escape(self.stem)}-*-*.npz"))

    def collect(self, start: int, batches: Iterable[Mapping[Cell, Replicates]]) -> None:
        """Store batches that follow one another from `start`, every few seconds, and what is there on interruption."""
        pending, since = [], time.monotonic()
        try:
            for batch in batches:
                pending.append(batch)
                if time.monotonic() - since > SECONDS_BETWEEN_PARTS:
                    start, pending, since = self._flush(start, pending), [], time.monotonic()
        finally:
            self._flush(start, pending)

    def _flush(self, start, pending):
        if not pending:
            return start
        joined = concatenate(pending)
        self.save((start, start + count(joined)), joined)
        return start + count(joined)

    def save(self, span: tuple[int, int], results: Mapping[Cell, Replicates]) -> None:
        """Store the replicates of one span."""
        arrays = {f"{i}.{name}": getattr(cell, name) for i, cell in enumerate(results.values()) for name in _FIELDS}
        arrays["cells"] = np.array([list(cell) for cell in results])
        path = self.folder / f"{self.stem}-{span[0]}-{span[1]}.npz"
        write_atomically(path, lambda temporary: np.savez(temporary, **arrays))

    def load(self, span: tuple[int, int]) -> dict[Cell, Replicates]:
        """The batch stored for `span`."""
        path = self.folder / f"{self.stem}-{span[0]}-{span[1]}.npz"
        try:
            with np.load(path) as arrays:
                cells = [(str(a), str(b)) for a, b in arrays["cells"]]
                return {cell: Replicates(*(arrays[f"{i}.{name}"] for name in _FIELDS)) for i, cell in enumerate(cells)}
        except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile):
            raise ValueError(f"{path}: damaged; delete it, and the same command computes it again") from None

    def _span(self, path):
        start, stop = path.stem.removeprefix(f"{self.stem}-").split("-")
        return int(start), int(stop)


def provenance(**more: Any) -> dict[str, Any]:
    """Versions and device, with whatever the caller adds (config, seed, seconds)."""
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
    return write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def read_results(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and provenance of a results file; ValueError if it is absent or not one of ours."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path}: cannot be read as Parquet ({error}); run the study that makes it") from None
    if _KEY not in (table.schema.metadata or {}):
        raise ValueError(f"{path}: not a results file of mopl_jax (no provenance); run the study again")
    return table.to_pylist(), json.loads(table.schema.metadata[_KEY])

"""Finished batches of a sweep on disk: a killed sweep resumes from them."""

import glob
import time
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from mopl_jax.coverage.replicates import Cell, Replicates, concatenate, count
from mopl_jax.io.files import write_atomically

_FIELDS = ("value", "ess", "lower", "upper")


SECONDS_BETWEEN_PARTS = 5.0


class Parts:
    """Finished batches of one world in `folder`: a killed sweep resumes from them, whatever its
    batch size was.
    """

    def __init__(self, folder: Path, world: str, mark: str):
        self.folder, self.stem = folder, f"{world}-{mark}"

    def done(self) -> list[tuple[int, int]]:
        """Ranges of replicates that are stored, ascending."""
        return sorted(
            self._span(path) for path in self.folder.glob(f"{glob.escape(self.stem)}-*-*.npz")
        )

    def collect(self, start: int, batches: Iterable[Mapping[Cell, Replicates]]) -> None:
        """Store batches that follow one another from `start`, every few seconds, and what is there
        on interruption.
        """
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
        arrays = {
            f"{i}.{name}": getattr(cell, name)
            for i, cell in enumerate(results.values())
            for name in _FIELDS
        }
        arrays["cells"] = np.array([list(cell) for cell in results])
        path = self.folder / f"{self.stem}-{span[0]}-{span[1]}.npz"
        write_atomically(path, lambda temporary: np.savez(temporary, **arrays))

    def load(self, span: tuple[int, int]) -> dict[Cell, Replicates]:
        """The batch stored for `span`."""
        path = self.folder / f"{self.stem}-{span[0]}-{span[1]}.npz"
        try:
            with np.load(path) as arrays:
                cells = [(str(a), str(b)) for a, b in arrays["cells"]]
                return {
                    cell: Replicates(*(arrays[f"{i}.{name}"] for name in _FIELDS))
                    for i, cell in enumerate(cells)
                }
        except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile):
            raise ValueError(
                f"{path}: damaged; delete it, and the same command computes it again"
            ) from None

    def _span(self, path):
        start, stop = path.stem.removeprefix(f"{self.stem}-").split("-")
        return int(start), int(stop)

"""Finished batches of a sweep on disk: a killed sweep resumes from them.

A part says inside what it is of: study, world, seed, program, and which replicates. What its name
says must be the same; a part of something else, damaged, or that overlaps another is refused by
name and never mixed with others. Every array has the checksum of its zip file.
"""

import glob
import json
import re
import time
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mopl_jax.coverage.replicates import Cell, Replicates, concatenate, count
from mopl_jax.io.files import write_atomically
from mopl_jax.io.storage import fingerprint

_FIELDS = ("value", "ess", "lower", "upper")
_SPAN = re.compile(r"-(\d+)-(\d+)\.npz")
_BROKEN = (ValueError, OSError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile)

SECONDS_BETWEEN_PARTS = 5.0

Span = tuple[int, int]


class Parts:
    """Finished batches of one world in `folder`: a killed sweep resumes from them, whatever its
    batch size was.

    `about` is all that changes their numbers, the `seed` among it; `program` computes them.
    """

    def __init__(self, folder: Path, world: str, about: Mapping[str, Any], program: str):
        self.folder = folder
        self.about = {**about, "world": world}
        self.program = program
        name = re.sub(r"[^\w.-]", "_", world)[:60]
        self.stem = f"{name}-{fingerprint(self.about)}"

    def done(self) -> list[Span]:
        """Ranges of replicates that are stored, ascending; ValueError for a part that cannot be
        used.
        """
        spans = sorted(map(self._span, self.folder.glob(f"{glob.escape(self.stem)}-*.npz")))
        for span in spans:
            self.load(span)
        for first, second in zip(spans, spans[1:], strict=False):
            if second[0] < first[1]:
                raise ValueError(
                    f"{self._path(first)} and {self._path(second).name}: both hold replicate"
                    f" {second[0]}; delete one of them, and the same command computes what lacks"
                )
        return spans

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

    def save(self, span: Span, results: Mapping[Cell, Replicates]) -> None:
        """Store the replicates of one span."""
        arrays = {
            f"{i}.{name}": getattr(cell, name)
            for i, cell in enumerate(results.values())
            for name in _FIELDS
        }
        arrays["cells"] = np.array([list(cell) for cell in results])
        arrays["about"] = np.array(json.dumps(self._header(span), default=str))
        write_atomically(self._path(span), lambda temporary: np.savez(temporary, **arrays))

    def load(self, span: Span) -> dict[Cell, Replicates]:
        """The batch stored for `span`; ValueError for a part that is damaged or of something
        else.
        """
        path = self._path(span)
        try:
            header, found = _read(path)
        except _BROKEN:
            raise self._refused(path, "damaged") from None
        for key, wanted in self._header(span).items():
            if header.get(key) != wanted:
                raise self._refused(path, f"of {key} {header.get(key)}, not of {wanted}")
        if any(len(x) != span[1] - span[0] for cell in found.values() for x in vars(cell).values()):
            raise self._refused(path, "damaged")
        return found

    def _header(self, span):
        described = {name: self.about[name] for name in ("world", "seed")}
        described |= {"program": self.program, "replicates": f"{span[0]} to {span[1] - 1}"}
        return described | {"study": fingerprint(self.about)}

    def _refused(self, path, what):
        return ValueError(f"{path}: {what}; delete it, and the same command computes it again")

    def _path(self, span):
        return self.folder / f"{self.stem}-{span[0]}-{span[1]}.npz"

    def _span(self, path):
        numbers = _SPAN.fullmatch(path.name.removeprefix(self.stem))
        if numbers is None or int(numbers[1]) >= int(numbers[2]):
            raise self._refused(path, "not named as a part of this study")
        return int(numbers[1]), int(numbers[2])


def _read(path) -> tuple[dict[str, Any], dict[Cell, Replicates]]:
    """What a part says of itself, and its arrays."""
    with zipfile.ZipFile(path) as file:
        if file.testzip() is not None:  # a checksum that does not fit
            raise ValueError
    with np.load(path) as arrays:
        cells = [(str(a), str(b)) for a, b in arrays["cells"]]
        found = {
            cell: Replicates(*(arrays[f"{i}.{name}"] for name in _FIELDS))
            for i, cell in enumerate(cells)
        }
        return dict(json.loads(str(arrays["about"]))), found

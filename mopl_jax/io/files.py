"""Files and folders that are written: all of a file or none of it."""

import json
import os
from pathlib import Path
from typing import Any


def prepare(folder: Path) -> Path:
    """Create `folder`, or raise ValueError in one line if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder with --out"
        ) from None
    return folder


def write_json(path: Path, document: Any) -> Path:
    """Write a document of finite numbers."""
    text = json.dumps(document, indent=1, allow_nan=False, default=str) + "\n"
    return write_atomically(path, lambda temporary: temporary.write_text(text))


def write_atomically(path: Path, write) -> Path:
    """Call `write(temporary path)`, then move the file into place: readers see all of it or
    none.
    """
    if not path.parent.is_dir():
        raise ValueError(f"{path}: no such folder; make it, or give another path")
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path

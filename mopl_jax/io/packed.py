"""Text files as a stream of UTF-8, however they are packed and encoded."""

import contextlib
import zipfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pyarrow as pa

PACKED = (".gz", ".bz2", ".zst", ".zip")
HEAD = 2**16  # bytes by which an encoding, or a separator, is told
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def name_of(path: Path) -> str:
    """The name that says what a file holds: without the suffix of a packed one, or that of the one
    file in an archive.
    """
    if path.suffix.lower() == ".zip" and path.is_file():
        return _member(path)
    return path.stem if path.suffix.lower() in PACKED else path.name


def _member(path) -> str:
    with zipfile.ZipFile(path) as archive:
        files = [name for name in archive.namelist() if not name.endswith("/")]
    if len(files) != 1:
        raise ValueError(f"{path}: expected an archive of one file, got {len(files)}; unpack it")
    return files[0]


@contextlib.contextmanager
def unpacked(path: Path) -> Generator[Any, None, None]:
    """The bytes of a file, unpacked."""
    if path.suffix.lower() == ".zip":
        name = _member(path)
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            yield pa.PythonFile(member, mode="r")
    else:
        with pa.input_stream(str(path), compression="detect") as stream:
            yield stream


def head_of(path: Path) -> bytes:
    """The first bytes of a file, unpacked."""
    with unpacked(path) as stream:
        return stream.read(HEAD)


def encoding_of(head: bytes) -> str:
    """UTF-16 where it is marked, or every other byte is zero; else UTF-8."""
    zeros = [head[start::2].count(0) > len(head) / 4 for start in (0, 1)]
    if head[:2] in MARKS or not any(zeros):
        return MARKS.get(head[:2], "utf-8")
    return "utf-16-be" if zeros[0] else "utf-16-le"


@contextlib.contextmanager
def text_of(path: Path) -> Generator[Any, None, None]:
    """A file as UTF-8, unpacked."""
    encoding = encoding_of(head_of(path))
    with unpacked(path) as stream:
        if encoding != "utf-8":
            stream = pa.transcoding_input_stream(stream, encoding, "utf-8")
        yield stream

"""Files and folders that are written: all of a file or none of it, and a folder by one run at a
time.

A file is written in a hidden folder of its own beside its place, then moved there; what a killed
process leaves behind, the next one that writes there removes. Locks are the system's, on the folder
itself: they end with the process that holds them, however it ends. Windows and some network file
systems have none.
"""

import contextlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: nothing is locked
    fcntl = None

_UNFINISHED = ".mopl-unfinished-"  # folders of files under way begin so
_YOUNG = 2.0  # seconds in which a process has locked the folder that it made


def prepare(folder: Path, option: str = "--out") -> Path:
    """Create `folder`, or raise ValueError in one line if it cannot be written."""
    with _refusal(folder, f"choose another folder with {option}"):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder).cleanup()
    return folder


@contextlib.contextmanager
def claimed(
    folder: Path | str | None,
    names: Sequence[str] = (),
    inputs: Sequence[Path] = (),
    option: str = "--out",
    lock: bool = True,
) -> Generator[Path | None, None, None]:
    """`folder`, prepared, for this process alone until the end of the block; None for None.

    `names` of what will be written there, of which folders end in a slash, are looked at as by
    `check_output`. ValueError if another process has the folder. `lock=False` is for processes
    that do not write.
    """
    if folder is None:
        yield None
        return
    place = prepare(Path(folder), option)
    for name in names:
        if name.endswith("/"):
            _check_link(place / name, option)
        else:
            _check_file(place / name, option, inputs)
    with _locked(place) if lock else contextlib.nullcontext(True) as free:
        if free is False:
            raise ValueError(
                f"{place}: another run is writing there; wait for its end, or choose another folder"
                f" with {option}"
            )
        yield place


def check_output(path: Path, option: str, inputs: Sequence[Path] = ()) -> Path:
    """`path` of a file that can be written, in a folder that is made if need be.

    ValueError, before anything is computed, for a folder, a device, a link that leads out of its
    folder, or one of the `inputs`, which would be lost.
    """
    _check_file(path, option, inputs)
    prepare(path.parent, option)
    return path


def write_json(path: Path, document: Any) -> Path:
    """Write a document of finite numbers."""
    text = json.dumps(document, indent=1, allow_nan=False, default=str) + "\n"
    return write_atomically(path, lambda temporary: temporary.write_text(text))


def finite(value: Any) -> Any:
    """`value` as JSON can hold it: records by their `to_dict`, arrays as lists, and None for every
    number that is not finite.
    """
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomically(path: Path, write: Callable[[Path], Any]) -> Path:
    """Call `write(temporary path)`, then move the file into place: readers see all of it or
    none.

    ValueError in one line where that cannot be, and then nothing is changed.
    """
    _check_file(path, "output")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: no such folder; make it, or give another path")
    with _refusal(path, "free space or choose another path; nothing was changed"):
        _tidy(path.parent)
        with _own_folder(path.parent) as own:
            write(own / path.name)
            os.replace(own / path.name, path)
    return path


@contextlib.contextmanager
def _refusal(path, remedy):
    """What the system says, in one line."""
    try:
        yield
    except OSError as error:
        words = error.strerror or str(error).partition("\n")[0]
        raise ValueError(f"{path}: cannot be written ({words}); {remedy}") from None
    except NotImplementedError as error:  # of Arrow: a type that a format does not have
        words = str(error).partition("\n")[0]
        raise ValueError(f"{path}: cannot be written ({words}); convert that column") from None


def _check_file(path, option, inputs=()):
    with _refusal(path, "choose another path"):
        _check_place(path, option, inputs)


def _check_place(path, option, inputs):
    if (name := str(path)) != name.encode(errors="replace").decode():
        raise ValueError(f"{option}: expected a name in UTF-8, got {name}; choose another path")
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a device"
        raise ValueError(f"{option}: expected a file to write, got {path}, {what}; name a file")
    _check_link(path, option)
    if path.exists() and any(given.exists() and path.samefile(given) for given in inputs):
        raise ValueError(
            f"{option}: expected a file of its own, got {path}, which is read; choose another path"
        )


def _check_link(path, option):
    if path.is_symlink() and path.parent.resolve() not in path.resolve().parents:
        raise ValueError(
            f"{option}: {path} is a link that leads out of its folder, to {path.resolve()}; remove"
            " it, or name that path"
        )


# Locks, and files under way.


@contextlib.contextmanager
def _own_folder(parent):
    """A new hidden folder, locked and only this user's."""
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=parent) as name, _locked(name):
        yield Path(name)


def _tidy(parent):
    """Remove the folders of processes that were killed."""
    for left in parent.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError), _locked(left) as free:
            if free and time.time() - left.stat().st_mtime > _YOUNG:
                shutil.rmtree(left)


@contextlib.contextmanager
def _locked(folder) -> Generator[bool | None, None, None]:
    """Lock a folder until the end of the block; False: another process has it, None: the system
    has no such locks.
    """
    if fcntl is None:
        yield None
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor):
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # pyright: ignore[reportOptionalMemberAccess]
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True

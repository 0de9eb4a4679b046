"""Compiled functions kept in the user's cache folder, so that a command compiles only once.

What is read there is run: only a folder that nobody else can write is used.

JAX reads these settings when it is imported, so nothing here imports it.
"""

import os
import sys
import warnings
from pathlib import Path

SECONDS = 0.0  # every function: writing costs nothing that can be measured, reading half of `plan`
LARGEST = 2**29  # bytes of the folder; beyond, the oldest functions are forgotten

kept: Path | None = None  # the folder that `keep` has found, for what JAX does not keep itself


def keep(wanted: bool) -> None:
    """Keep compiled functions if `wanted`; no trouble with the folder is worth a word.

    A folder that JAX_COMPILATION_CACHE_DIR names is the user's own affair, and so is a JAX that
    has been imported already.
    """
    global kept
    if "jax" in sys.modules:
        return
    if not wanted:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    elif "JAX_COMPILATION_CACHE_DIR" not in os.environ and (kept := prepared()):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(kept)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(SECONDS))
        warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def folder() -> Path:
    """The platform's folder for what can be made again, and ours in it."""
    home = Path.home()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    return Path(base) / "mopl_jax" / "compiled"


def prepared() -> Path | None:
    """The folder, its oldest files beyond `LARGEST` bytes removed; None if it cannot be written, or
    others may write it.
    """
    try:
        path = folder()
        for made in (path.parent, path):
            made.mkdir(0o700, parents=True, exist_ok=True)
            if not _private(made.stat()):
                return None
        _forget(path, LARGEST)
        return path if os.access(path, os.W_OK) else None
    except (OSError, RuntimeError):  # no such folder to be had, or no home
        return None


def _private(stat):
    """Whether a folder is this user's, to write for no other; Windows keeps that elsewhere."""
    return os.name == "nt" or (stat.st_uid == os.geteuid() and not stat.st_mode & 0o022)


def _forget(path, room):
    """Remove the oldest files, so that the others fit in `room` bytes."""
    about = sorted(((file.stat(), file) for file in path.iterdir()), key=_age)
    for stat, file in about:
        room -= stat.st_size
        if room < 0:
            file.unlink(missing_ok=True)


def _age(entry):
    return -entry[0].st_mtime

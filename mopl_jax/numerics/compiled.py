"""Compiled functions kept in the user's cache folder, so that a command compiles only once.

JAX reads these settings when it is imported, so nothing here imports it.
"""

import os
import sys
import warnings
from pathlib import Path

SECONDS = 0.1  # a function that compiles faster is not kept: reading it back takes as long
LARGEST = 2**29  # bytes of the folder; beyond, the oldest functions are forgotten


def keep(wanted: bool) -> None:
    """Keep compiled functions if `wanted`; no trouble with the folder is worth a word.

    A folder that JAX_COMPILATION_CACHE_DIR names is the user's own affair, and so is a JAX that
    has been imported already.
    """
    if "jax" in sys.modules:
        return
    if not wanted:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    elif "JAX_COMPILATION_CACHE_DIR" not in os.environ and _prepared(path := folder()):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(path)
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


def _prepared(path):
    """Whether the folder can be written; the oldest files beyond `LARGEST` bytes are removed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        room = LARGEST
        for file in sorted(path.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True):
            room -= file.stat().st_size
            if room < 0:
                file.unlink(missing_ok=True)
    except OSError:
        return False
    return os.access(path, os.W_OK)

"""Executables in the user's cache folder, under all that they were compiled from: a command that
comes again loads them and traces nothing.

JAX keeps compiled functions by their lowered program, which takes half a second to make; these are
found by the source of the package, the function's name, what is static, and the shapes of the rest.
"""

import hashlib
import io
import math
import os
import pickle
import platform
import tempfile
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from types import FunctionType
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable
from jax.stages import Compiled, Lowered

from mopl_jax.numerics import compiled
from mopl_jax.numerics.program import program

# What is described in full by its name, given the versions in `program`; not what a user wrote.
KNOWN = "mopl_jax", "jax", "jaxlib", "numpy", "builtins"


def call(jitted: Any, name: str, traced: dict[str, Any], fixed: Hashable) -> Any:
    """`jitted(traced, fixed)`; by a command from the folder of compiled functions, if it is there.

    `name`: of the function that was jitted
    `traced`: pytrees of arrays
    `fixed`: what is static; without a key where it holds functions that are not of the package
    """
    folder = compiled.kept
    key = folder and _key(name, traced, fixed)
    if not folder or not key:
        return jitted(traced, fixed)
    if key not in _here:
        path = folder / f"{key}-executable"
        _here[key] = _loaded(path) or _made(path, jitted.lower(traced, fixed))
    return _here[key](traced)


_here: dict[str, Compiled] = {}  # by key, for the life of the process


def _key(name, traced, fixed) -> str | None:
    leaves, tree = jax.tree.flatten(traced)
    types = [str(jax.typeof(x)) for x in leaves]
    settings = sorted((name, str(value)) for name, value in jax.config.values.items())
    machine = _processor(), os.environ.get("XLA_FLAGS"), settings
    written = io.BytesIO()
    try:
        _Named(written).dump((program(), machine, name, types, tree, fixed))
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    return hashlib.sha256(written.getvalue()).hexdigest()


def _processor() -> tuple[str, ...]:
    """What code is made for: several machines may share the folder."""
    flags = ""
    with suppress(OSError), open("/proc/cpuinfo") as file:
        lines = file.read(8192).splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return platform.node(), platform.machine(), flags


class _Named(pickle.Pickler):
    """Writes functions and classes by name, and refuses those that a name does not describe."""

    def reducer_override(self, obj):
        if obj is str or not isinstance(obj, FunctionType | type):
            return NotImplemented
        name = f"{obj.__module__}.{obj.__qualname__}"
        if "<" in name or name.split(".")[0] not in KNOWN:
            raise pickle.PicklingError(name)
        return str, (name,)


def _loaded(path: Path) -> Compiled | None:
    """None for a file that is not there, or damaged."""
    with suppress(Exception):
        data = path.read_bytes()
        if b"lapack" in data:  # whose functions are there once any of them has been lowered
            jax.jit(jax.lax.linalg.cholesky).lower(np.eye(1))
        return serialize_executable.deserialize_and_load(*pickle.loads(data))


def _made(path: Path, lowered: Lowered) -> Compiled:
    """Compiled, and written if that can be done."""
    executable = _compiled(lowered)
    with suppress(Exception):
        data = pickle.dumps(serialize_executable.serialize(executable))
        descriptor, part = tempfile.mkstemp(dir=path.parent)
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(part, path)
    return executable


def _compiled(lowered: Lowered) -> Compiled:
    """Kept by us alone: what JAX has read from its own files lacks functions when written again."""
    name = "jax_persistent_cache_min_compile_time_secs"
    least = jax.config.values[name]
    jax.config.update(name, math.inf)
    try:
        return lowered.compile()
    finally:
        jax.config.update(name, least)

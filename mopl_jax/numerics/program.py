"""Which program this is: its version and its source."""

import functools
import hashlib
from importlib import metadata
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


@functools.cache
def program() -> str:
    """This version of the program, to the last character of its source, and JAX's."""
    source = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        source.update(path.read_bytes())
    versions = (f"{name} {metadata.version(name)}" for name in ("mopl_jax", "jax", "jaxlib"))
    return f"{', '.join(versions)}, source {source.hexdigest()[:12]}"

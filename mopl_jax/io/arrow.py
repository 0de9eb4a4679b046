"""`kernels`: the functions of pyarrow.compute, imported when the first of them is used.

The import takes a third of jax's, and most logs need none of them.
"""

import importlib
from typing import Any


class _Kernels:
    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("pyarrow.compute"), name)


kernels = _Kernels()

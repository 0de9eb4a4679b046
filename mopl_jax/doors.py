"""Names of a package that import their module when they are first asked for (PEP 562)."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def opened(package: str, doors: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable]:
    """`__getattr__` and `__dir__` of `package`: `doors` gives the module that defines each name.

    A name whose module ends in the name itself is that module: "logs": "mopl_jax.logs". What was
    asked for once is kept in the package.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in doors:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(doors[name])
        found = module if is_module(name, doors[name]) else getattr(module, name)
        setattr(sys.modules[package], name, found)
        return found

    return __getattr__, lambda: sorted(doors)


def is_module(name: str, path: str) -> bool:
    """Whether the door `name` is the module `path` itself, not something that it defines."""
    return path.rpartition(".")[2] == name

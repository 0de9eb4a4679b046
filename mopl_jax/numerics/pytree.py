"""Frozen dataclasses that are also JAX pytrees."""

import dataclasses
from typing import dataclass_transform

import jax


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def pytree_dataclass(*, static: tuple[str, ...] = ()):
    """A decorator to a frozen dataclass registered with JAX; fields named in `static` are metadata.

    All other fields are data: arrays, or pytrees of arrays.
    """

    def decorate(cls):
        cls = dataclasses.dataclass(frozen=True)(cls)
        names = [field.name for field in dataclasses.fields(cls)]
        data = [name for name in names if name not in static]
        return jax.tree_util.register_dataclass(cls, data_fields=data, meta_fields=list(static))

    return decorate

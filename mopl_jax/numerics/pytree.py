"""Frozen dataclasses that are also JAX pytrees."""

import dataclasses
import operator
from typing import Any, dataclass_transform

import jax
import jax.numpy as jnp


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


def stacked(records: Any, axis: int = 0) -> Any:
    """Records of one kind as one: their arrays side by side along a new `axis`."""
    return jax.tree.map(lambda *x: jnp.stack(x, axis=axis), *records)


def entries(record: Any, index: Any) -> Any:
    """The record whose arrays are those of `record` at `index`."""
    return jax.tree.map(operator.itemgetter(index), record)

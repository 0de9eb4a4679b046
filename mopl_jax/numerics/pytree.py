"""Frozen dataclasses that are also JAX pytrees."""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp

Record = TypeVar("Record")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def pytree_dataclass(*, static: tuple[str, ...] = ()) -> Callable[[type[Record]], type[Record]]:
    """A decorator to a frozen dataclass registered with JAX; fields named in `static` are metadata.

    All other fields are data: arrays, or pytrees of arrays.

    Not by `jax.tree_util.register_dataclass`: in jaxlib 0.10.2 the structures of two such classes
    with as many fields are equal, so that `jit`, where their hashes fall together, runs for a
    `Uniform` what it compiled for a `Gaussian`.
    """

    def decorate(cls: Any) -> Any:
        cls = dataclasses.dataclass(frozen=True)(cls)
        names = [field.name for field in dataclasses.fields(cls)]
        data = tuple(name for name in names if name not in static)
        keys = tuple(map(jax.tree_util.GetAttrKey, data))

        def flatten(record):
            children = tuple(getattr(record, name) for name in data)
            return children, tuple(getattr(record, name) for name in static)

        def flatten_with_keys(record):
            children, metadata = flatten(record)
            return tuple(zip(keys, children, strict=True)), metadata

        def unflatten(metadata, children):
            return cls(**dict(zip(data + static, (*children, *metadata), strict=True)))

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
        return cls

    return decorate


def stacked(records: Any, axis: int = 0) -> Any:
    """Records of one kind as one: their arrays side by side along a new `axis`."""
    return jax.tree.map(lambda *x: jnp.stack(x, axis=axis), *records)


def where(condition: Any, yes: Any, no: Any) -> Any:
    """The arrays of one of two records of one kind."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), yes, no)


def entries(record: Any, index: Any) -> Any:
    """The record whose arrays are those of `record` at `index`."""
    return jax.tree.map(operator.itemgetter(index), record)

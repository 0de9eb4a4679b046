"""Records as pytrees: no two kinds are taken for each other, and nothing is lost on the way."""

import dataclasses
import importlib
import itertools
import pkgutil

import jax
import jax.numpy as jnp
import pytest

import mopl_jax
from mopl_jax.numerics.pytree import pytree_dataclass


def records():
    """One record of every kind in the package that is a pytree, its fields all 0."""
    found = pkgutil.walk_packages(mopl_jax.__path__, "mopl_jax.")
    modules = [importlib.import_module(m.name) for m in found if not m.name.endswith("__main__")]
    classes = {
        x
        for module in modules
        for x in vars(module).values()
        if isinstance(x, type) and dataclasses.is_dataclass(x) and x.__module__ == module.__name__
    }
    for cls in sorted(classes, key=lambda x: (x.__module__, x.__qualname__)):
        record = object.__new__(cls)
        for field in dataclasses.fields(cls):
            object.__setattr__(record, field.name, 0.0)
        if not jax.tree_util.treedef_is_leaf(jax.tree.structure(record)):
            yield record


def test_no_two_kinds_have_the_same_structure():
    """Else `jit` may run for a uniform policy what it compiled for a normal one."""
    structures = {type(record): jax.tree.structure(record) for record in records()}
    assert len(structures) > 30
    for (a, one), (b, other) in itertools.combinations(structures.items(), 2):
        assert one != other, (a, b)


@pytree_dataclass(static=("name",))
class Named:
    """Two arrays and a name."""

    low: jax.Array
    name: str
    high: jax.Array


def test_fields_metadata_and_paths_survive():
    """Data in the order of the fields, whatever stands between them; metadata tell kinds apart."""
    made = Named(jnp.zeros(2), "a", jnp.ones(3))
    paths, structure = jax.tree_util.tree_flatten_with_path(made)
    assert [jax.tree_util.keystr(path) for path, _ in paths] == [".low", ".high"]
    again = jax.tree.unflatten(structure, [leaf for _, leaf in paths])
    assert (again.low is made.low, again.name, again.high is made.high) == (True, "a", True)
    assert structure != jax.tree.structure(dataclasses.replace(made, name="b"))
    assert jax.jit(lambda x: x)(made).name == "a"
    with pytest.raises(dataclasses.FrozenInstanceError):
        again.name = "b"

"""The doors of the package: every name opens, and opening none of them imports JAX."""

import subprocess
import sys
from importlib import import_module

import pytest

import mopl_jax
from mopl_jax import coverage, metrics, simulation
from mopl_jax.doors import is_module

PACKAGES = (mopl_jax, coverage, metrics, simulation)
EVERY = [(package, name) for package in PACKAGES for name in package.DOORS]


@pytest.mark.parametrize(("package", "name"), EVERY, ids=lambda x: getattr(x, "__name__", x))
def test_every_door_opens(package, name):
    """The name is the one that its module defines, or the module itself."""
    module = import_module(package.DOORS[name])
    inside = module if is_module(name, package.DOORS[name]) else getattr(module, name)
    assert getattr(package, name) is inside
    assert name in dir(package)
    assert inside.__doc__


def test_all_is_the_doors():
    assert sorted(mopl_jax.__all__) == sorted(mopl_jax.DOORS)


def test_a_verb_has_no_module_of_its_name():
    """`mopl.plan` would be one or the other, by the order of imports."""
    verbs = [(p, name) for p, name in EVERY if not is_module(name, p.DOORS[name])]
    for package, name in verbs:
        with pytest.raises(ModuleNotFoundError):
            import_module(f"{package.__name__}.{name}")


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        mopl_jax.evalute  # noqa: B018


def test_importing_the_package_imports_no_library():
    code = "import sys, mopl_jax; print([x for x in ('jax', 'numpy') if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"

"""The doors of the package: every name opens, and opening none of them imports JAX."""

import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
from scipy import stats

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


def memory(**changed):
    """Logs of 60 rows in two weights, with some columns spoilt."""
    action = np.random.default_rng(0).normal(size=(60, 2))
    columns = {"action": action, "log_propensity": stats.norm.logpdf(action).sum(axis=1)}
    return mopl_jax.Logs(**columns | {"reward": action[:, 0]} | changed)


def normal(d):
    """A target in d weights."""
    return mopl_jax.Gaussian.diagonal(np.zeros(d), 0.7)


def bounded(low):
    """Learning between bounds."""
    return mopl_jax.learn(memory(), constraints=mopl_jax.constraints.box(low, 1))


REFUSED = {
    "weights for a policy": (lambda: mopl_jax.evaluate(memory(), [0.1, 0.2]), "Deterministic"),
    "a pair for a policy": (lambda: mopl_jax.evaluate(memory(), (normal(2), {})), "got a tuple"),
    "one of two": (lambda: mopl_jax.compare(memory(), [normal(2), [0.1, 0.2]]), "got a list"),
    "who logged": (lambda: mopl_jax.evaluate(memory(), normal(2), logging=[0.1, 0.2]), "logging"),
    "short column": (
        lambda: mopl_jax.evaluate(memory(reward=np.ones(59)), normal(2)),
        "reward with 60 rows",
    ),
    "few users": (lambda: mopl_jax.check_log(memory(cluster=np.arange(5))), "cluster with 60 rows"),
    "bounds of three": (lambda: bounded(np.zeros(3)), "bounds for 2 weights"),
    "certified in three": (
        lambda: mopl_jax.certify(normal(3), memory(), np.zeros(3)),
        "policy of 2 weights",
    ),
    "no spread": (lambda: mopl_jax.Gaussian.diagonal([0.1, 0.2], 0.0), "deviations > 0, got 0"),
    "one unknown name": (lambda: mopl_jax.evaluate(memory(), normal(2), interval="no"), "'no'"),
    "no folder": (lambda: mopl_jax.write_policy("nowhere/new.json", normal(2)), "no such folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_input_is_a_value_error_of_one_line(case):
    """In Python too, whatever is called."""
    call, expected = REFUSED[case]
    with pytest.raises(ValueError, match=expected) as refused:
        call()
    assert len(str(refused.value).splitlines()) == 1

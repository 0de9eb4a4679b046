"""Tests that notice: every mutant of `mutants.toml`, a wrong sign, factor, level or cap in the
core, makes one of its tests fail.

A mutant is put into a copy of the tree, where its tests run until the first that fails; one at
a time, `pytest tests/mutation --nightly -k 'name'`. All that lasts hours of one core.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = tomllib.loads((HERE / "mutants.toml").read_text())
FAILED = 1  # what pytest ends with where tests failed; other numbers say that none could run


class Mutant(NamedTuple):
    """The text `was` of the `file` below mopl_jax becomes another, which the `tests` notice."""

    file: str
    tests: str
    name: str
    was: str
    becomes: str


def _mutants():
    for file, found in FILES.items():
        for name, was, becomes, *own in found["mutants"]:
            yield Mutant(file, own[0] if own else found["tests"], name, was, becomes)


MUTANTS = list(_mutants())
TESTS = sorted({name for mutant in MUTANTS for name in mutant.tests.split()})


def test_every_mutant_applies_once():
    """The text that it changes stands in its file, once."""
    counts = {x.name: _text(ROOT, x).read_text().count(x.was) for x in MUTANTS}
    assert {name: count for name, count in counts.items() if count != 1} == {}
    assert len(counts) == len(MUTANTS) >= 60


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """A copy of what tests read."""
    copy = tmp_path_factory.mktemp("mutants")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for folder in ("mopl_jax", "tests", "benchmarks"):
        shutil.copytree(ROOT / folder, copy / folder)
    return copy


@pytest.mark.nightly
def test_without_a_mutant_all_pass(tree, request):
    assert _run(tree, request.config, TESTS) == 0


@pytest.mark.nightly
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_dies(tree, request, mutant):
    path = _text(tree, mutant)
    text = path.read_text()
    try:
        _write(path, text.replace(mutant.was, mutant.becomes))
        assert _run(tree, request.config, mutant.tests.split()) == FAILED
    finally:
        _write(path, text)


def _text(tree, mutant):
    return tree / "mopl_jax" / mutant.file


def _write(path, text):
    """What Python compiled of the file is told by second and size: it would be taken again."""
    path.write_text(text)
    Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)


def _run(tree, config, tests):
    """The exit code of some files of tests; compiled functions are kept between runs."""
    options = ["-x", "-q", "-p", "no:xdist", "-o", f"cache_dir={config.cache.mkdir('mutants')}"]
    program = [sys.executable, "-m", "pytest", *options, *(f"tests/{name}" for name in tests)]
    path = os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(program, cwd=tree, env=os.environ | {"PYTHONPATH": path}, timeout=1200)
    return done.returncode

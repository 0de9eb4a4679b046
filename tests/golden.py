"""Golden numbers: what commands said of the log that `mopl example` writes, in `golden.json`.

The right values are elsewhere, as closed forms and identities; these notice what moved that was not
meant to. They hold to 1e-6, relatively, and to 1e-3 where a search found them: the compiler's
levels change the last digit alone, other machines and versions of JAX sum in another order and so
may end a search a little elsewhere, and a change of a formula is seldom as small.

`PYTHONPATH=tests python tests/golden.py compare` says how far the installed package is from them,
as `.ci/release` does at the floor versions and at the newest. After a change that is meant:
`PYTHONPATH=.:tests python tests/golden.py` takes all of them anew.
"""

import functools
import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest
from command import document, mopl

FILE = Path(__file__).with_name("golden.json")
GOLDEN = json.loads(FILE.read_text())  # by command, then by the place in its document
RELATIVE, SEARCHED = 1e-6, 1e-3  # of what a search has found, where it ends on any machine


def numbers(command, said):
    """The numbers of a document at the places that are kept, as `intervals.0.lower`."""
    return {place: functools.reduce(_entry, place.split("."), said) for place in GOLDEN[command]}


def _entry(inner, key):
    return inner[int(key) if isinstance(inner, list) else key]


def assert_golden(command, said):
    expected = pytest.approx(GOLDEN[command], rel=tolerance(command), abs=0)
    assert numbers(command, said) == expected


def tolerance(command):
    return SEARCHED if command.startswith("learn") else RELATIVE


def _said():
    """The numbers that all commands say now."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        assert mopl("example", "--out", "ex").code == 0
        return {each: numbers(each, document(*each.split())) for each in GOLDEN}


def _compare():
    """The largest relative deviation of each command, with its place; fails beyond a tolerance."""
    print(", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy", "scipy")))
    far = {}
    for command, said in _said().items():
        golden = GOLDEN[command]
        apart = {place: abs(said[place] / golden[place] - 1) for place in golden}
        place = max(apart, key=lambda place: apart[place])
        print(f"{command}: {apart[place]:.1e} at {place}, of {tolerance(command):.0e}")
        far |= {place: x for place, x in apart.items() if not x <= tolerance(command)}
    sys.exit(f"beyond the tolerance: {far}" if far else 0)


def _update():
    FILE.write_text(json.dumps(_said(), indent=1) + "\n")


if __name__ == "__main__":
    _compare() if sys.argv[1:] == ["compare"] else _update()

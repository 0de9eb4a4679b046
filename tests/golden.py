"""Golden numbers: what commands said of the log that `mopl example` writes, in `golden.json`.

The right values are elsewhere, as closed forms and identities; these notice what moved that was not
meant to. They hold to 1e-6, relatively, and to 1e-3 where a search found them: the compiler's
levels change the last digit alone, other machines and versions of JAX sum in another order and so
may end a search a little elsewhere, and a change of a formula is seldom as small.

After a change that is meant: `PYTHONPATH=.:tests python tests/golden.py` takes all of them anew.
"""

import functools
import json
import os
import tempfile
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
    close = SEARCHED if command.startswith("learn") else RELATIVE
    assert numbers(command, said) == pytest.approx(GOLDEN[command], rel=close, abs=0)


def _update():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        assert mopl("example", "--out", "ex").code == 0
        kept = {each: numbers(each, document(*each.split())) for each in GOLDEN}
    FILE.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    _update()

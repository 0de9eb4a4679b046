"""The claims page: what it says to run is there, and no stored study is missing from it."""

import re

from benchmarks import _study

ROOT = _study.HERE.parent
ABOUT_THE_CODE = {"house"}  # studies of the repository and not of a claim
TEXT = (ROOT / "docs" / "claims.md").read_text()


def test_every_stored_study_shows_a_claim():
    named = set(re.findall(r"python -m benchmarks (\w+)", TEXT))
    studies = _study.studies()
    assert named <= set(studies)
    assert {name for name, study in studies.items() if study.stored()} <= named | ABOUT_THE_CODE


def test_every_test_that_shows_a_claim_is_there():
    paths = re.findall(r"`pytest (tests[\w/.]*)", TEXT)
    assert len(paths) > 8
    assert [path for path in paths if not (ROOT / path).exists()] == []

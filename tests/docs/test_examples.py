"""The scripts of examples/ run, and say what they are there to say."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.nightly
def test_from_a_log_to_weights(tmp_path, capsys):
    runpy.run_path(str(EXAMPLES / "log_to_weights.py"))["main"](tmp_path)
    said = capsys.readouterr().out
    assert "the log: trust" in said
    assert (tmp_path / "new.json").exists() == ("serve" in said)
    assert ("keep" in said.splitlines()[-1]) != ("serve" in said)


def test_how_often_an_interval_covers(capsys):
    """On skewed rewards `normal` misses more often than `recommended`."""
    runpy.run_path(str(EXAMPLES / "how_often_it_covers.py"))["main"](100)
    lines = [line.split(" covers ") for line in capsys.readouterr().out.splitlines()]
    shares = {name.strip(): float(rest.split()[0]) for name, rest in lines}
    assert shares["normal"] < shares["recommended"]
    assert shares["recommended"] >= 0.9

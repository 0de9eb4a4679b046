"""The verb `simulate`: the rounds of the loop, and what only a simulation knows beside them."""

import json
from unittest import mock

import jax
import numpy as np
import pytest
from command import mopl as command
from test_replay import kuairand, write

import mopl_jax as mopl
from mopl_jax.io import storage
from mopl_jax.simulation import closed_loop, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("loop")


@pytest.fixture(scope="module")
def found(folder):
    """In float32, as the command runs it: the strict settings are for the library's parts."""
    table = write(folder / "log.csv", kuairand())
    with jax.enable_x64(False):
        return mopl.simulate(2, explore=2000, test=200, replay=table, seed=3, out=folder)


def test_document_is_json_and_the_file_has_its_rows(found, folder):
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False, default=str))
    rows, about = storage.read_results(folder / "rounds.parquet")
    assert document["rounds"] == rows
    assert [row["round"] for row in rows] == [1, 2]
    assert about["study"]["seed"] == 3
    assert document["provenance"]["metric"] is None
    assert found.to_arrow().to_pylist() == rows


def test_rounds_are_those_of_the_closed_loop(found):
    """The true gain is of the weights after a round: 0 as long as they are the first ones."""
    assert {*closed_loop.Round._fields} <= found.rounds[0].to_dict().keys()
    for played in found.rounds:
        kept = np.array_equal(played.done.production, found.provenance["production"])
        assert (played.true_gain == 0) == kept
        if played.done.adopted:
            assert played.true_gain == played.true_proposal
    assert len(repr(found)) < 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"explore": 10**11}, "--explore: expected at most 100,000,000, got 100,000,000,000"),
        ({"test": 10}, "--test: expected at least 100, got 10"),
        ({"seed": 10**25}, "--seed: expected a whole number from"),
        ({"replay": "rounds.parquet"}, "--out: expected a file of its own, got .*rounds.parquet"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(options, words, tmp_path, monkeypatch):
    """Numbers beyond any machine; a table that would be written over."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "rounds.parquet", kuairand())
    with pytest.raises(ValueError, match=words):
        mopl.simulate(**options, out=tmp_path)


def test_a_long_run_is_announced_before_it_starts(tmp_path):
    """4 rounds of 10⁸ and twice 50,000 users at 100,000 a second: 67 minutes."""
    refused = mock.patch.object(run, "simulate", side_effect=ValueError("here it would run"))
    with refused:
        ended = command("simulate", "--explore", 10**8, "--out", tmp_path)
        short = command("simulate", "--quick", "--out", tmp_path)
    first, last = ended.err.splitlines()
    assert first.startswith("mopl: 400,400,000 users in 4 rounds: about 67 minutes on a core")
    assert (ended.code, last) == (2, "mopl: here it would run")
    assert short.err == "mopl: here it would run\n"

"""The verb `coverage_study`: the same rows with and without a folder, and a summary of them."""

import json

import pytest

import mopl_jax as mopl
from mopl_jax.coverage.results import LEVEL
from mopl_jax.coverage.run import custom_world
from mopl_jax.io import storage

SMALL = {"n": [8, 64], "replicates": 48, "intervals": ["normal", "ess_exact"]}


@pytest.fixture(scope="module")
def found():
    return mopl.coverage_study(world=custom_world(d=[2]), **SMALL)


def test_rows_are_the_same_with_a_folder(found, tmp_path):
    """Stored in parts and read again, to the last bit; a second call computes nothing."""
    told = []
    for _ in range(2):
        stored = mopl.coverage_study(
            world=custom_world(d=[2]), out=tmp_path, **SMALL, advance=lambda *x: told.append(x)
        )
        assert stored.rows == found.rows
    assert storage.read_results(tmp_path / "results.parquet")[0] == list(found.rows)
    assert told[-2:] == [("custom d=2", 0, 48), ("custom d=2", 48, 48)]


def test_summary_is_of_the_rows(found):
    """Holds from the smallest n whose coverage, and every later one, is at `LEVEL` or more."""
    assert [line.interval for line in found.summaries] == ["normal", "ess_exact"]
    for line in found.summaries:
        rows = [row for row in found.rows if row["interval"] == line.interval]
        assert (line.first, line.last) == (rows[0], rows[-1])
        assert line.worst["coverage"] == min(row["coverage"] for row in rows)
        holding = [row["n"] for row in rows if row["coverage"] >= LEVEL]
        assert line.holds_from == (min(holding) if rows[-1]["n"] in holding else None)
    assert found.best.ratio == max(line.ratio for line in found.summaries)


def test_document_is_json_and_table_is_the_rows(found):
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False, default=str))
    assert set(document) == {"provenance", "rows", "summary"}
    assert document["provenance"]["study"]["replicates"] == 48
    assert found.to_arrow().num_rows == len(found.rows) == 4
    assert repr(found) == "CoverageStudy(1 worlds, 2 intervals)"


def test_a_world_of_ones_own_needs_one_number():
    """None if nothing is said; the mean reward suits the noise."""
    assert custom_world() is None
    assert custom_world(target_mean=0.0)["target"]["target"] == {"mean": 0.0, "scale": 0.5}
    assert custom_world(noise="bernoulli")["reward"]["kind"] == "cosine"
    assert custom_world(logging="uniform", logging_mean=1.0)["logging"]["low"] == 0.0

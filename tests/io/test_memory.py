"""Memory is bounded by what a row holds and by options, not by how well a file was packed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from mopl_jax.io import json_lines
from mopl_jax.io.log_reader import chunks, room
from mopl_jax.io.read import open_log
from mopl_jax.io.sources import open_source

ROWS, WIDE = 2**17, 500
STATUS = Path("/proc/self/status")  # `getrusage` would count the process that started this one
PEAK = """
import sys
{}
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0], file=sys.stderr)
"""
SCAN = """
from mopl_jax.io.sources import open_source
source = open_source(sys.argv[1])
assert sum(piece.rows.num_rows for piece in source.scan(source.schema.names, ())) == 2**17
"""
ANSWER = """
from mopl_jax.cli import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, 3)
"""


def lists():
    """Half a gigabyte of lists, of which nothing is left when they are packed."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(ROWS * WIDE)), WIDE)


def texts():
    """Three gigabytes of names, of which four are different."""
    words = pa.array([letter * 2**15 for letter in "abcd"])
    return pa.DictionaryArray.from_arrays(pa.array(np.arange(ROWS) % 4, pa.int32()), words)


measured = pytest.mark.skipif(not STATUS.exists(), reason="no /proc to measure memory by")


def peak(script, *arguments):
    """The largest memory, in MiB, of a process of its own that ends well."""
    program = [sys.executable, "-c", PEAK.format(script), *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.splitlines()[-1]) / 1024


@measured
@pytest.mark.parametrize("column", [lists, texts])
def test_a_row_group_is_read_in_batches_of_bounded_size(column, tmp_path):
    """A file of 20 kilobytes in one row group; a batch of 2¹⁷ rows was all of it at once."""
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"x": column()}), path, row_group_size=ROWS, compression="zstd")
    assert path.stat().st_size < 2**18
    assert pq.read_metadata(path).num_row_groups == 1
    assert peak(SCAN, path) < 400


def log_of(path, width=WIDE, rows=ROWS):
    zeros = np.zeros(rows)
    action = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows * width)), width)
    table = {"w": action, "reward": np.arange(rows) % 2.0, "log_propensity": zeros}
    pq.write_table(pa.table(table), path, row_group_size=rows, compression="zstd")
    return path


def test_fewer_rows_are_held_of_a_log_that_is_wide(tmp_path):
    """As many numbers as of 32 columns, whether they are columns or lists."""
    reader = open_log(log_of(tmp_path / "log.parquet", 253, 100), action="w")
    assert room(reader, 80) == 80 * 32 // (253 + 3)
    assert [len(rows.reward) for rows in chunks(reader, 80)] == 10 * [10]
    assert room(open_log(log_of(tmp_path / "usual.parquet", 29, 100), action="w"), 80) == 80
    table = {f"w_{k}": np.zeros(9) for k in range(62)} | {"reward": np.zeros(9)}
    reader = open_log(pa.table(table | {"log_propensity": np.zeros(9)}), action="w_")
    assert (room(reader, 80), room(reader, 1), room(reader, 0)) == (40, 1, 0)


@measured
@pytest.mark.nightly
@pytest.mark.parametrize("verb", ["check", "evaluate --target policy.json"])
def test_the_memory_of_a_verb_is_bounded(verb, tmp_path, monkeypatch):
    """What was four times half a gigabyte, and a quarter for the program itself."""
    monkeypatch.chdir(tmp_path)
    log_of(tmp_path / "log.parquet")
    mean = ", ".join(WIDE * ["0"])
    (tmp_path / "policy.json").write_text(
        f'{{"mopl_policy": 1, "kind": "normal", "mean": [{mean}], "scale": 1}}'
    )
    command, *options = verb.split()
    assert peak(ANSWER, command, "log.parquet", "--action", "w", *options) < 1000


def test_record_batches_are_cut_where_rows_are_wide(tmp_path):
    """And hold only the columns that are asked for, in whatever order."""
    rows = 2**14
    table = pa.table({"a": np.arange(rows), "x": lists().slice(0, rows), "b": np.arange(rows)})
    feather.write_feather(table, tmp_path / "log.feather", chunksize=rows)
    pieces = list(open_source(tmp_path / "log.feather").scan(["b", "x"], ()))
    assert [piece.rows.schema.names for piece in pieces] == [["b", "x"]] * 2
    assert np.concatenate([piece.rows["b"] for piece in pieces]).tolist() == list(range(rows))


def test_json_lines_are_read_by_their_bytes(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f'{{"x": {k}}}\n\n' for k in range(100)))
    monkeypatch.setattr(json_lines, "BATCH", 80)
    pieces = list(open_source(path).scan(["x"], ()))
    assert [piece.first_row for piece in pieces] == [0, 9, *range(18, 100, 8)]
    assert np.concatenate([piece.rows["x"] for piece in pieces]).tolist() == list(range(100))
    path.write_text('{"x": 1}\n{"x": "' + "x" * json_lines.LONGEST + '"}\n')
    with pytest.raises(ValueError, match="log.jsonl: line 2: expected an object of less than"):
        open_source(path)

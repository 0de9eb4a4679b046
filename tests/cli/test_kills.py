"""Whenever a command that writes is killed, what it has written is whole, and the same command
then writes, to the last bit, what it writes undisturbed.
"""

import json
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from command import MAIN, end, mopl, start

KILLS = 13  # of each of eight commands: more than a hundred in all
ROWS = 2000
COMMANDS = {
    "example": "example --seed 3 --out {to}/example --force",
    "draw": "draw {log}/target.json --n 20000 --seed 1 --out {to}/draws.parquet --force",
    "draw as text": "draw {log}/target.json --n 20000 --seed 1 --out {to}/draws.csv --force",
    "learn": "learn {log}/log.toml --production 1,2,5,0.5 --report {to}/report"
    " --out {to}/learnt.json --force",
    "metric": "metric {log}/past.parquet --north-star days --out {to}/metric.json --force",
    "rewarded": "metric {log}/metric.json --apply {log}/log.parquet"
    " --rewarded {to}/rewarded.parquet --force",
    "coverage": "coverage --replicates 2000 --n 8,64,512 --d 2 --interval normal --out {to}/study",
    "simulate": "simulate --rounds 1 --explore 20000 --test 2000 --experiments 8 --out {to}/loop",
}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """The example, of fewer rows."""
    folder = tmp_path_factory.mktemp("log")
    assert mopl("example", "--out", folder).code == 0
    table = pq.read_table(folder / "log.parquet")
    pq.write_table(table.slice(0, ROWS), folder / "log.parquet")
    asked = "metric", folder / "scorecards.csv", "--north-star", "days"
    assert mopl(*asked, "--out", folder / "metric.json").code == 0
    return folder


def written(folder):
    """What is in the files of a folder, but parts, files under way, and how long it took."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: content(path, str(folder))
        for name, path in found.items()
        if "/parts/" not in name and ".mopl-unfinished-" not in name
    }


def content(path, folder):
    """Rows of a table, a document, or bytes."""
    if path.suffix == ".parquet":
        return pq.read_table(path).replace_schema_metadata(None)
    if path.suffix == ".json":
        return json.loads(path.read_text().replace(folder, ""))
    return path.read_bytes().replace(folder.encode(), b"")


@pytest.mark.nightly
@pytest.mark.parametrize("name", COMMANDS)
def test_whatever_a_kill_leaves_is_whole(name, log, tmp_path):
    def begin(to):
        to.mkdir(exist_ok=True)
        return start(MAIN, *COMMANDS[name].format(log=log, to=to).split())

    assert end(begin(tmp_path / "warm")).code == 0
    since = time.monotonic()
    assert end(begin(tmp_path / "whole")).code == 0
    seconds, whole = time.monotonic() - since, written(tmp_path / "whole")
    rng, place, killed = np.random.default_rng(0), tmp_path / "killed", 0
    for _ in range(4 * KILLS):  # of which some are over before
        process = begin(place)
        time.sleep(rng.uniform(0.3, 1) * seconds)
        process.kill()
        killed += end(process).code == -9
        for path, found in written(place).items():
            assert found == whole[path], path
        if killed == KILLS:
            break
    assert killed == KILLS
    assert end(begin(place)).code == 0
    assert written(place) == whole
    time.sleep(2)  # folders that are younger may be another run's
    assert end(begin(place)).code == 0
    assert not list(place.rglob(".mopl-unfinished-*"))

"""What is written holds no path, user or host of the machine but what was typed: every verb that
writes, in a folder, with a home, user and host of names that stand nowhere else.
"""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

MARK = "qzmark"  # within no word, and no likely run of packed bytes
ROOT = Path(__file__).parents[2]
SCRIPT = f"""
import json, os, platform, socket, sys
from unittest import mock

host = "{MARK}host"
uname = os.uname()
named = os.uname_result((uname[0], host, *uname[2:]))
socket.gethostname = socket.getfqdn = lambda *_: host
platform.node, os.uname = (lambda: host), (lambda: named)

from mopl_jax.cli import main

for words in json.loads(sys.argv[1]):
    print("$", *words)
    with mock.patch.object(sys, "argv", words):
        try:
            main()
        except SystemExit as end:
            assert end.code in (0, 3), words
"""
LOG = "--action w_ --cluster user"
VERBS = (
    "example --out ex",
    f"check ex/log.parquet {LOG} --reward retained --json",
    "evaluate ex/log.toml --target ex/target.json --json",
    "compare ex/log.toml logging ex/target.json --json",
    "learn ex/log.toml --production ex/production.json --out learnt.json --report report",
    "learn ex/log.toml --context platform --out context.json",
    "draw learnt.json --n 3 --seed 1 --out drawn.parquet",
    "draw learnt.json --n 3 --seed 1 --out drawn.csv --json",
    "metric ex/past.parquet --north-star days --out metric.json --json",
    "metric metric.json --apply ex/log.parquet --rewarded rewarded.parquet --json",
    "monitor ex/running.csv --planned 1e5 --north-star days --json",
    "plan --pilot ex/log.toml --step 0.1 --json",
    "coverage --n 8,64 --d 2 --replicates 8 --interval normal --out sweep --json",
    "simulate --rounds 1 --explore 2000 --test 200 --experiments 8 --out loop --json",
    "evaluate duckdb://#ex/log.parquet --action w_ --reward retained --target ex/target.json"
    " --logging ex/logging.json --json",  # its SQL, which is no artifact, has the path of the table
)
WRITTEN = {".parquet", ".csv", ".json", ".toml", ".html", ".png", ".svg", ".npz"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder after all verbs ran there, with what they said in a file."""
    made = tmp_path_factory.mktemp("traces") / f"{MARK}path"
    home = made.parent / f"{MARK}home"
    made.mkdir(), home.mkdir()
    own = dict.fromkeys(("USER", "LOGNAME", "USERNAME", "HOSTNAME"), f"{MARK}user")
    own |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "MOPL_NO_CACHE": "1"}
    words = json.dumps([["mopl", *verb.split()] for verb in VERBS])
    program = [sys.executable, "-c", SCRIPT, words]
    done = subprocess.run(program, cwd=made, env=os.environ | own, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    (made / "said.txt").write_bytes(done.stdout + done.stderr)
    return made


def pieces(path):
    """The bytes of a file, and what is packed in it."""
    whole = path.read_bytes()
    yield whole
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        yield repr((table.schema.metadata, table.to_pylist())).encode()
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            yield b"".join(arrays[name].tobytes() for name in arrays)
    if path.suffix == ".png":
        yield b"".join(text_of(whole))


def text_of(png):
    """The packed texts of a picture."""
    for kind in (b"zTXt", b"iTXt"):
        for part in png.split(kind)[1:]:
            start = part.find(b"\x78")
            if start >= 0:
                yield zlib.decompressobj().decompress(part[start:])


@pytest.mark.nightly
def test_nothing_of_the_machine_is_written(place):
    files = [path for path in place.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= WRITTEN
    told = [path.name for path in files for piece in pieces(path) if MARK.encode() in piece]
    assert told == []


@pytest.mark.nightly
def test_what_is_typed_is_kept(place):
    """As it was typed: a path below a folder that has the mark in its name."""
    about = json.loads((place / "learnt.json").read_text())["provenance"]
    assert about["log"] == "ex/log.parquet"

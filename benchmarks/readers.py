"""Would a query engine read text files as our own readers do, and faster? Small files, each with
the rows that are right or a fault that must be named, and one long log in three forms.

Ours; DuckDB as it guesses by itself; and the address `duckdb://#log.csv`, whose options look at all
rows first. A file is read right if every number and every user is; a fault is named if the words of
the refusal say where it is. Seconds are of a log of four columns, all numbers fetched, in turns.
"""

import bz2
import gzip
import json
import os
import re
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from benchmarks import _study
from mopl_jax.io.sources import open_source
from mopl_jax.io.table import read_columns
from mopl_jax.warehouse.connection import open_table

NEEDS = {"duckdb": "pip install 'mopl_jax[warehouse]'"}
SIZES = {"n": 2_000_000, "rounds": 3}
QUICK = {"n": 2000, "rounds": 1}
RESULTS = ("readers", "readers_seconds")

TEXT = "w,reward,user\n0.5,1.5,a\n2.0,0,b\n-0.5,-2.25,a\n"
ROWS = {"w": [0.5, 2.0, -0.5], "reward": [1.5, 0.0, -2.25], "user": ["a", "b", "a"]}
GERMAN = TEXT.replace(",", ";").replace(".", ",")
LARGE = ("9007199254740993", "9007199254740992")
LONG = 30_000  # rows before a surprise
OBJECTS = [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]


def _lines(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _after(rows: int, last: str, header: str = "w,reward,user") -> bytes:
    return (header + "\n" + rows * "1,2,7\n" + last).encode()


def _zipped(text: str) -> Callable[[Path], Any]:
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("log.csv", text)

    return write


def _repeated(last_w: float, last_reward: float, last_user: str) -> dict[str, list]:
    """The columns of `_after`."""
    return {
        "w": [1.0] * LONG + [last_w],
        "reward": [2.0] * LONG + [last_reward],
        "user": ["7"] * LONG + [last_user],
    }


class Case(NamedTuple):
    """Files by name and the columns that are in them; of a fault, words that say where it is.

    `log`: the path, if not the only file.
    """

    files: dict[str, bytes | Callable[[Path], Any]]
    expected: dict[str, list] | str
    log: str = ""


RIGHT = {
    "gzip": Case({"log.csv.gz": gzip.compress(TEXT.encode())}, ROWS),
    "bzip2": Case({"log.csv.bz2": bz2.compress(TEXT.encode())}, ROWS),
    "zip": Case({"log.csv.zip": _zipped(TEXT)}, ROWS),
    "tabs": Case({"log.tsv": TEXT.replace(",", "\t").encode()}, ROWS),
    "semicolons": Case({"log.csv": TEXT.replace(",", ";").encode()}, ROWS),
    "semicolons and decimal commas": Case({"log.csv": GERMAN.encode()}, ROWS),
    "byte order mark": Case({"log.csv": TEXT.encode("utf-8-sig")}, ROWS),
    "UTF-16": Case({"log.csv": TEXT.encode("utf-16")}, ROWS),
    "UTF-16, big end first, no mark": Case({"log.csv": TEXT.encode("utf-16-be")}, ROWS),
    "users padded with zeros": Case(
        {"log.csv": b"w,reward,user\n1,2,007\n1,2,7\n"},
        {"w": [1.0, 1.0], "reward": [2.0, 2.0], "user": ["007", "7"]},
    ),
    "users beyond 2⁵³ and fractions": Case(
        {"log.csv": f"w,reward,user\n1,2,{LARGE[0]}\n1,2,{LARGE[1]}\n1,2,0.5\n".encode()},
        {"w": [1.0] * 3, "reward": [2.0] * 3, "user": [*LARGE, "0.5"]},
    ),
    "whole numbers, fractions after 30,000 rows": Case(
        {"log.csv": _after(LONG, "1.5,0.5,7\n")}, _repeated(1.5, 0.5, "7")
    ),
    "users in numbers, in words after 30,000 rows": Case(
        {"log.csv": _after(LONG, "1,2,abc\n")}, _repeated(1.0, 2.0, "abc")
    ),
    "a column that nobody asks for changes its type": Case(
        {"log.csv": _after(LONG, "1,2,7,x\n", "w,reward,user,id").replace(b",7\n", b",7,1\n")},
        _repeated(1.0, 2.0, "7"),
    ),
    "an unquoted NA is missing": Case(
        {"log.csv": b"w,reward,user\n1,NA,a\n2,3,b\n"},
        {"w": [1.0, 2.0], "reward": [None, 3.0], "user": ["a", "b"]},
    ),
    "a user named NA, in quotes": Case(
        {"log.csv": b'w,reward,user\n1,2,"NA"\n2,3,b\n'},
        {"w": [1.0, 2.0], "reward": [2.0, 3.0], "user": ["NA", "b"]},
    ),
    "line breaks in quotes, empty lines": Case(
        {"log.csv": b'w,reward,user,note\n1,2,a,"x\ny"\n\n2,3,b,z\n'},
        {"w": [1.0, 2.0], "reward": [2.0, 3.0], "user": ["a", "b"]},
    ),
    "folders named by key and value": Case(
        {f"user={x}/log.csv": f"w,reward\n1,{k}\n".encode() for k, x in enumerate(("07", "7"))},
        {"w": [1.0, 1.0], "reward": [0.0, 1.0], "user": ["07", "7"]},
        ".",
    ),
    "JSON lines": Case({"log.jsonl": _lines(OBJECTS)}, ROWS),
    "JSON lines, gzip": Case({"log.jsonl.gz": gzip.compress(_lines(OBJECTS))}, ROWS),
    "JSON lines, fractions after 30,000 rows": Case(
        {"log.jsonl": _lines([{"w": 1, "reward": 2, "user": "7"}] * LONG)
                      + _lines([{"w": 1.5, "reward": 0.5, "user": "7"}])},
        _repeated(1.5, 0.5, "7"),
    ),
    "JSON lines, an id of two types": Case(
        {"log.jsonl": _lines([x | {"id": k or "x"} for k, x in enumerate(OBJECTS)])}, ROWS
    ),
}  # fmt: skip
FAULTS = {
    "a quote that is not closed": Case(
        {"log.csv": b'w,reward,user\n1,2,"a\n2,3,b\n3,4,c\n'}, "line 2"
    ),
    "a quote that swallows a row": Case(
        {"log.csv": b'w,reward,user,note\n1,2,a,"x\n2,3,b,"y"\n3,4,c,z\n'}, "line 2"
    ),
    "a line cut short": Case({"log.csv": b"w,reward,user\n1,2,a\n2,3\n3,4,c\n"}, "line 3"),
    "a word among numbers": Case(
        {"log.csv": _after(LONG, "1,oops,7\n")}, "(?i)line:? 30002|row 30,?001"
    ),
    "a word among a few numbers": Case(
        {"log.csv": b"w,reward,user\n1,2,a\n2,oops,b\n"}, "'reward'.*'oops'|line 3|row 2"
    ),
    "a gzip file cut off": Case({"log.csv.gz": gzip.compress(TEXT.encode())[:-12]}, "log.csv.gz"),
    "an empty file": Case({"log.csv": b""}, "log.csv"),
    "a column named twice": Case({"log.csv": b"w,reward,reward,user\n1,2,3,a\n"}, "'reward'"),
    "a file of a folder without the column": Case(
        {"a.csv": TEXT.encode(), "b.csv": TEXT.replace("reward", "rewards").encode()}, "b.csv", "."
    ),
    "JSON lines, one that is none": Case(
        {"log.jsonl": _lines(OBJECTS) + b'{"w": 1, "rew\n'}, "line 4"
    ),
    "JSON lines, a word among numbers": Case(
        {"log.jsonl": _lines(OBJECTS) + b'{"w": 1, "reward": "oops", "user": "a"}\n'},
        "'reward'.*'oops'|line 4|row 4",
    ),
}


def ours(path: Path) -> pa.Table:
    """Two numbers, and users as text, by our own readers."""
    source, users = open_source(path), ["user"]
    numbers = [source.column(x) for x in ("w", "w_1", "reward") if x in source.schema.names]
    pieces = source.scan([*numbers, *users], users)
    table = pa.Table.from_batches([piece.rows for piece in pieces])
    if any(pa.types.is_string(table[name].type) for name in numbers):
        read_columns(path, numbers, users)  # says in which row there is text
    return table


def by_duckdb(path: Path) -> pa.Table:
    """The same by DuckDB, whose types are its guesses."""
    import duckdb

    reader = duckdb.read_json if ".jsonl" in str(path) else duckdb.read_csv
    table = reader(_files(path))
    return table.select(*_asked(table.columns)).to_arrow_table()


def by_address(path: Path) -> pa.Table:
    """The same by the address of the files."""
    table = open_table(f"duckdb://#{_files(path)}")
    return table.select(_asked(table.columns)).to_pyarrow()


def _asked(names):
    return [name for name in names if name in ("w", "w_1", "reward", "user")]


def _files(path):
    return f"{path}/**/*.csv" if path.is_dir() else str(path)


READERS = {"ours": ours, "duckdb": by_duckdb, "address": by_address}


def outcome(reader: Callable, path: Path, case: Case) -> str:
    """What a reader makes of a case."""
    right = isinstance(case.expected, dict)
    try:
        table = reader(path)
        found = {name: [_number(x) for x in table[name].to_pylist()] for name in ("w", "reward")}
        found["user"] = table["user"].cast(pa.string()).to_pylist()
    except Exception as error:
        where = not right and re.search(str(case.expected), str(error))
        return "refused" if right else "refused, and where" if where else "refused, not where"
    return "not noticed" if not right else "right" if found == case.expected else "wrong"


def _number(x):
    return None if x is None else float(x)


def cases() -> Iterator[dict]:
    """What each makes of each case."""
    for name, case in (RIGHT | FAULTS).items():
        with tempfile.TemporaryDirectory() as folder:
            for file, content in case.files.items():
                path = Path(folder) / file
                path.parent.mkdir(exist_ok=True)
                content(path) if callable(content) else path.write_bytes(content)
            log = Path(folder) / (case.log or next(iter(case.files)))
            found = {key: outcome(reader, log, case) for key, reader in READERS.items()}
        yield {"case": name, "kind": "log" if name in RIGHT else "fault"} | found


# One long log.


def _csv(path, table):
    csv.write_csv(table, path)


def _packed(path, table):
    with gzip.open(path, "wb", compresslevel=1) as file:
        csv.write_csv(table, file)


def _json(path, table):
    path.write_bytes(_lines(table.to_pylist()))


FORMS = {"log.csv": _csv, "log.csv.gz": _packed, "log.jsonl": _json}


def seconds(n: int, rounds: int) -> Iterator[dict]:
    """The fastest of some rounds, in turns."""
    rng = np.random.default_rng(0)
    table = pa.table({name: rng.standard_normal(n) for name in ("w", "w_1", "reward")})
    table = table.append_column("user", pa.array(rng.integers(n // 4 + 1, size=n)))
    for form, write in FORMS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / form
            write(path, table)
            took = [{name: _took(reader, path) for name, reader in READERS.items()}
                    for _ in range(rounds)]  # fmt: skip
            mib = path.stat().st_size / 2**20
        fastest = {name: min(each[name] for each in took) for name in READERS}
        yield {"form": form, "rows": n, "mib": round(mib)} | fastest


def _took(reader, path):
    started = time.perf_counter()
    assert reader(path).num_rows
    return time.perf_counter() - started


def run(options) -> Iterator[_study.Rows]:
    """The cases, then the seconds."""
    yield _study.Rows(cases())
    yield _study.Rows(seconds(options.n, options.rounds), cores=os.cpu_count())

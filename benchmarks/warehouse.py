"""Is a log evaluated where it lies, in DuckDB, as fast as by our own passes over the same Parquet,
and in as little memory? And in Spark?

Logs of d = 10 weights, a reward and a user of three rows each, made by DuckDB itself and deleted
afterwards. Each run is a process of its own, `mopl evaluate` with a target policy, of rows or of
users, and `mopl learn`, which certifies where the rows lie; ours and DuckDB's take turns. Spark
runs in one machine, as two worker processes of one core each, whose memory is not measured.
"""

import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp

from benchmarks import _study
from benchmarks._process import MOPL, measured
from mopl_jax.io.policy_json import write_policy
from mopl_jax.policies import Gaussian

NEEDS = {"ibis": "pip install 'ibis-framework[duckdb]'"}
SIZES = {
    "n": (1_000_000, 10_000_000, 100_000_000),
    "users": (10_000_000, 30_000_000),
    "spark": (5_000_000, 20_000_000),
    "repeats": 2,
}
QUICK = {"n": (20_000,), "users": (20_000,), "spark": (), "repeats": 1}
EACH = 3  # rows of a user
D = 10
NORMAL = "sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())"
SPARK = """
import sys
import ibis
import jax
from pyspark.sql import SparkSession
jax.config.update("jax_enable_x64", True)
import mopl_jax as mopl
builder = SparkSession.builder.master("local-cluster[2,1,2048]")
session = builder.config("spark.ui.enabled", False).getOrCreate()
log = ibis.pyspark.connect(session).read_parquet(sys.argv[1])
made = mopl.evaluate(log, sys.argv[2], logging=sys.argv[3])
print('{"value": %r}' % made.value)
session.stop()
"""


def generate(path: Path, n: int) -> None:
    """Weights from N(0, 1), a reward that is the mean weight and noise."""
    import duckdb

    names = [f"action_{k}" for k in range(D)]
    weights = ", ".join(f"{NORMAL} AS {name}" for name in names)
    reward = f"({' + '.join(names)}) / {D} + 0.5 * {NORMAL} AS reward"
    with duckdb.connect() as connection:
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(
            f"COPY (SELECT *, {reward} FROM (SELECT {weights}, range // {EACH} AS user"
            f" FROM range({n})))"
            f" TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 262144)"
        )


def run(options) -> _study.Rows:
    """One row for each run."""
    options.spark = _spark(options.spark)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_policy(folder / "logging.json", Gaussian.diagonal(jnp.zeros(D), 1.0))
        write_policy(folder / "target.json", Gaussian.diagonal(jnp.full(D, 0.1), 0.8))
        sizes = sorted({*options.n, *options.users, *options.spark})
        rows = [row for n in sizes for row in _of_log(folder, n, options)]
    return _study.Rows(rows, d=D, dtype="float64", cores=os.cpu_count())


def _spark(sizes) -> tuple[int, ...]:
    """The sizes, if Spark is installed; else none, with a word."""
    if sizes and not importlib.util.find_spec("pyspark"):
        print("Spark is not measured: pip install 'mopl_jax[spark]', and Java", file=sys.stderr)
        return ()
    return sizes


def _of_log(folder, n, options) -> Iterator[dict]:
    log = folder / f"log-{n}.parquet"
    generate(log, n)
    target = ("--target", "target.json")
    verbs = {
        "evaluate": (target, options.repeats, options.n),
        "evaluate users": ((*target, "--cluster", "user"), 1, options.users),
        "learn": (("--out", "learnt.json", "--force"), 1, options.n),
    }
    for name, (arguments, repeats, sizes) in verbs.items():
        verb = name.split()[0]
        for repeat in range(repeats if n in sizes else 0):
            for engine, address in (("ours", log.name), ("duckdb", f"duckdb://#{log.name}")):
                program = [*MOPL, verb, address, *arguments, "--logging", "logging.json", "--json"]
                yield _row(name, engine, n, repeat, log, measured(program, folder))
    if n in options.spark:
        program = [sys.executable, "-c", SPARK, log.name, "target.json", "logging.json"]
        of_client = _row("evaluate", "spark", n, 0, log, measured(program, folder))
        yield of_client | {"peak_mib": None}  # Spark's own processes are not its children
    log.unlink()


def _row(verb, engine, n, repeat, log, done):
    value = json.loads(done.output.strip().splitlines()[-1])["value"]
    return {
        "verb": verb,
        "engine": engine,
        "n": n,
        "repeat": repeat,
        "file_mib": round(log.stat().st_size / 2**20),
        "seconds": round(done.seconds, 1),
        "peak_mib": round(done.peak_mib),
        "value": value,
    }


def table(rows: list[dict]) -> str:
    """Seconds and peak memory of each run."""
    return _study.columns(
        rows, ("verb", "engine", "n", "repeat", "file_mib", "seconds", "peak_mib")
    )

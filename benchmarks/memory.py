"""Is the memory of the commands bounded by the row group, not by the file?
Peak RSS at 2 and 20 million rows.

Logs of d = 10 weights and a reward in Parquet, row groups of 2¹⁸ rows, each command in a process
of its own; the smaller log as gzipped CSV as well. And the bootstrap: 10,000 resamples of 100,000
rows, whose numbers alone would fill 4 GB.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from benchmarks import _study
from benchmarks._process import MOPL, measured
from mopl_jax.io.policy_json import write_policy
from mopl_jax.policies import Gaussian

SIZES = {"n": (2_000_000, 20_000_000), "resamples": 10_000, "packed": 2_000_000}
QUICK = {"n": (20_000,), "resamples": 100, "packed": 20_000}
D, GROUP = 10, 2**18
TARGET = ("--target", "target.json")
COMMANDS = {
    "evaluate": ("evaluate", *TARGET),
    "evaluate doubly_robust": ("evaluate", *TARGET, "--estimator", "doubly_robust"),
    "compare": ("compare", "logging", "target.json"),
    "check": ("check",),
    "learn": ("learn", "--force"),
}
PACKED = ("evaluate", "check", "learn")


def generate(path: Path, n: int) -> None:
    """Weights from N(0, 1), a reward that is the mean weight and noise; written a row group at a
    time.
    """
    rng = np.random.default_rng(0)
    names = [f"action_{i}" for i in range(D)]
    schema = pa.schema([(name, pa.float64()) for name in [*names, "reward"]])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n, GROUP):
            action = rng.standard_normal((min(GROUP, n - start), D))
            reward = action.mean(axis=1) + 0.5 * rng.standard_normal(len(action))
            writer.write_table(pa.table([*action.T, reward], schema=schema), row_group_size=GROUP)


def pack(log: Path) -> Path:
    """The same rows as gzipped CSV."""
    path = log.with_suffix(".csv.gz")
    with pq.ParquetFile(log) as file, pa.CompressedOutputStream(str(path), "gzip") as out:
        with csv.CSVWriter(out, file.schema_arrow) as writer:
            for batch in file.iter_batches(GROUP):
                writer.write_batch(batch)
    return path


BOOTSTRAP = """
import sys
import jax
from mopl_jax.estimators.importance import snips
from mopl_jax.intervals.bootstrap import percentile
resamples = int(sys.argv[1])
x = jax.random.normal(jax.random.key(0), (2, 100_000))
made = jax.jit(lambda x: percentile(snips(x[0], x[1]), 0.05, resamples=resamples))(x)
print(f'{{"value": {float(made.width)}}}')
"""


def run(options) -> _study.Rows:
    """One row for each command and size, and one for the bootstrap."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_policy(folder / "logging.json", Gaussian.diagonal(jnp.zeros(D), 1.0))
        write_policy(folder / "target.json", Gaussian.diagonal(jnp.full(D, 0.1), 0.8))
        rows = [row for n in options.n for row in _of_log(folder, n, options.packed)]
        program = [sys.executable, "-c", BOOTSTRAP, str(options.resamples)]
        label = f"percentile, {options.resamples:,} resamples"
        rows.append(_row(label, 100_000, None, measured(program, folder)))
    return _study.Rows(rows, d=D, row_group=GROUP, dtype="float64")  # the commands turn it on


def _of_log(folder, n, packed) -> Iterator[dict]:
    log = folder / f"log-{n}.parquet"
    generate(log, n)
    yield from _commands(log, n, "{}", COMMANDS)
    if n == packed:
        yield from _commands(pack(log), n, "{} of gzipped CSV", PACKED)
    log.unlink()


def _commands(log, n, label, names) -> Iterator[dict]:
    size = round(log.stat().st_size / 2**20)
    for name in names:
        verb, *arguments = COMMANDS[name]
        program = [*MOPL, verb, log.name, *arguments, "--logging", "logging.json", "--json"]
        yield _row(label.format(name), n, size, measured(program, log.parent))


def _row(name, n, file_mib, done):
    document = json.loads(done.output)
    return {
        "command": name,
        "n": n,
        "file_mib": file_mib,
        "exit_code": done.exit_code,
        "seconds": round(done.seconds, 1),
        "peak_mib": round(done.peak_mib),
        "value": document.get("value"),
        "verdict": document.get("verdict") if "value" not in document else None,
    }


def table(rows: list[dict]) -> str:
    """Peak memory and seconds."""
    return _study.columns(rows, ("command", "n", "file_mib", "peak_mib", "seconds"))

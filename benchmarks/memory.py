"""Is the memory of `mopl evaluate` and `mopl check` bounded by the row group, not by the file? Peak RSS at 2 and 20 million rows.

Logs of d = 10 weights and a reward in Parquet, row groups of 2¹⁸ rows, each command in a process of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mopl_jax import storage
from mopl_jax.artifact import write_policy
from mopl_jax.policies import Gaussian

RESULTS = Path(__file__).parent / "results"
ROWS = (2_000_000, 20_000_000)
D, GROUP = 10, 2**18
COMMANDS = {
    "evaluate": ("evaluate", "--target", "target.json"),
    "evaluate doubly_robust": ("evaluate", "--target", "target.json", "--estimator", "doubly_robust"),
    "compare": ("compare", "logging", "target.json"),
    "check": ("check",),
}


def generate(path: Path, n: int) -> None:
    """Weights from N(0, 1), a reward that is the mean weight and noise; written a row group at a time."""
    rng = np.random.default_rng(0)
    names = [f"action_{i}" for i in range(D)]
    schema = pa.schema([(name, pa.float64()) for name in [*names, "reward"]])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n, GROUP):
            action = rng.standard_normal((min(GROUP, n - start), D))
            reward = action.mean(axis=1) + 0.5 * rng.standard_normal(len(action))
            writer.write_table(pa.table([*action.T, reward], schema=schema), row_group_size=GROUP)


def measure(command: tuple[str, ...], log: Path) -> dict:
    """Seconds and peak resident MiB of one command, and its document."""
    name, *options = command
    program = [sys.executable, "-c", "from mopl_jax.cli import main; main()", name, log.name, *options]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([*program, "--logging", "logging.json", "--json"], cwd=log.parent, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        out.seek(0)
        return {
            "exit_code": process.returncode,
            "seconds": round(seconds, 1),
            "peak_mib": round(usage.ru_maxrss / 1024),
            "document": json.load(out),
        }


def main() -> None:
    """Print the table, and write results/memory.json."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_policy(Path(folder) / "logging.json", Gaussian.diagonal(jnp.zeros(D), 1.0))
        write_policy(Path(folder) / "target.json", Gaussian.diagonal(jnp.full(D, 0.1), 0.8))
        for n in ROWS:
            log = Path(folder) / f"log-{n}.parquet"
            generate(log, n)
            size = log.stat().st_size / 2**20
            for name, command in COMMANDS.items():
                found = measure(command, log)
                document = found.pop("document")
                value = document.get("value", document.get("verdict"))
                rows.append({"command": name, "n": n, "file_mib": round(size)} | found | {"said": value})
                print(
                    f"{name:24} n={n:>11,} file {size:6.0f} MiB  peak {found['peak_mib']:5} MiB  {found['seconds']:6.1f} s"
                )
            log.unlink()
    RESULTS.mkdir(exist_ok=True)
    about = storage.provenance(d=D, row_group=GROUP, dtype="float64")  # the commands turn it on
    (RESULTS / "memory.json").write_text(json.dumps({"provenance": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

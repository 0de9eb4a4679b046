"""Is the memory of `mopl evaluate` and `mopl check` bounded by the row group, not by the file?
Peak RSS at 2 and 20 million rows.

Logs of d = 10 weights and a reward in Parquet, row groups of 2¹⁸ rows, each command in a process
of its own. And the bootstrap: 10,000 resamples of 100,000 rows, whose numbers alone would fill 4
GB.
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

from mopl_jax.io import storage
from mopl_jax.io.policy_json import write_policy
from mopl_jax.policies import Gaussian

RESULTS = Path(__file__).parent / "results"
ROWS = (2_000_000, 20_000_000)
D, GROUP = 10, 2**18
COMMANDS = {
    "evaluate": ("evaluate", "--target", "target.json"),
    "evaluate doubly_robust": (
        "evaluate",
        "--target",
        "target.json",
        "--estimator",
        "doubly_robust",
    ),
    "compare": ("compare", "logging", "target.json"),
    "check": ("check",),
}


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


BOOTSTRAP = """
import jax
from mopl_jax.estimators import snips
from mopl_jax.intervals import percentile
x = jax.random.normal(jax.random.key(0), (2, 100_000))
made = jax.jit(lambda x: percentile(snips(x[0], x[1]), 0.05, resamples=10_000))(x)
print(f'{{"value": {float(made.width)}}}')
"""


def measure(command: tuple[str, ...], log: Path) -> dict:
    """`measured` for a command of `mopl` on a log."""
    program = [
        sys.executable,
        "-c",
        "from mopl_jax.cli import main; main()",
        command[0],
        log.name,
        *command[1:],
    ]
    return measured([*program, "--logging", "logging.json", "--json"], log.parent)


def measured(program: list[str], folder: Path) -> dict:
    """Seconds and peak resident MiB of one process, and the document that it prints."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(program, cwd=folder, stdout=out)
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


def row(name: str, n: int, found: dict) -> dict:
    """One line, printed."""
    document = found.pop("document")
    print(
        f"{name:28} n={n:>11,}  peak {found['peak_mib']:5} MiB  {found['seconds']:6.1f} s",
        flush=True,
    )
    return (
        {"command": name, "n": n} | found | {"said": document.get("value", document.get("verdict"))}
    )


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
                rows.append(row(name, n, measure(command, log)) | {"file_mib": round(size)})
            log.unlink()
        rows.append(
            row(
                "percentile, 10,000 resamples",
                100_000,
                measured([sys.executable, "-c", BOOTSTRAP], Path(folder)),
            )
        )
    RESULTS.mkdir(exist_ok=True)
    about = storage.provenance(d=D, row_group=GROUP, dtype="float64")  # the commands turn it on
    (RESULTS / "memory.json").write_text(
        json.dumps({"provenance": about, "rows": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()

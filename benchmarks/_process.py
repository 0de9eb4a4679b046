"""Commands in processes of their own: seconds, peak memory and what they print."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

MOPL = (sys.executable, "-c", "from mopl_jax.cli import main; main()")


class Done(NamedTuple):
    """One process that ended."""

    exit_code: int
    seconds: float
    peak_mib: float
    output: str


def measured(
    program: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Done:
    """Run a program in a folder; its complaints are shown, its output is kept."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            program, cwd=folder, stdout=out, env={**os.environ, **(environment or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        out.seek(0)
        return Done(process.returncode, seconds, usage.ru_maxrss / 1024, out.read())

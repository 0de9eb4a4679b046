"""What does a sweep cost? Time against replicates × n, peak memory, compile time, and one device
against two.

One world (d = 5, SNIPS, the normal interval and `ess_exact`). Time is fitted by a power of the
rows drawn over more than three decades; memory is the process's peak after each size; scaling
compares one device on one core with two on two, of one process and of two that are joined, round
by round. `ceiling` is what the machine allows: two one-device processes that know nothing of one
another.
"""

import functools
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks import _one_cell, _study
from mopl_jax.coverage import engine, study
from mopl_jax.coverage.world import Grid
from mopl_jax.numerics import devices

SIZES = {"replicates": (64, 256, 1024, 4096, 16384, 65536), "rounds": 5, "batches": 12}
QUICK = {"replicates": (8, 16), "rounds": 1, "batches": 1}
RESULTS = ("scaling", "scaling_compile", "scaling_devices")
GRID = Grid(tuple(2**k for k in range(5, 15)), ("snips",), ("normal", "ess_exact"), 0.05)
WAYS = ("one_process", "two_processes", "ceiling")


def run(options) -> Iterator[list[dict]]:
    """Cost of rows, compiling the default study, two devices; these first, on a machine at rest."""
    rounds = [{"round": i} | _scaling_round(options.batches) for i in range(options.rounds)]
    mesh = devices.start("2")
    compiled = list(compile_default(mesh))
    yield list(cost(mesh, options.replicates))
    yield compiled
    yield rounds


def seconds(mesh: Mesh, replicates: int, size: int) -> float:
    """Wall time of a sweep whose functions are compiled."""
    key, started = jax.random.key(0), time.perf_counter()
    for _ in engine.run(key, _one_cell.world(), GRID, (0, replicates), size, mesh):
        pass
    return time.perf_counter() - started


def _batch(mesh):
    most = SIZES["replicates"][-1]
    return engine.batch_size([_one_cell.world()], GRID, most, _one_cell.MEMORY, mesh)


def cost(mesh: Mesh, replicates: tuple[int, ...]) -> Iterator[dict]:
    """Seconds and peak memory against rows."""
    size = _batch(mesh)
    seconds(mesh, size, size)
    for count in replicates:
        rounds = 5 if count < 2048 else 1
        took = statistics.median(seconds(mesh, count, size) for _ in range(rounds))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        yield {"rows": count * GRID.n[-1], "seconds": took, "peak_mib": peak}


def slope(rows: list[dict]) -> float:
    """Of log time on log rows."""
    x, y = (np.log([row[key] for row in rows]) for key in ("rows", "seconds"))
    return float(np.polyfit(x, y, 1)[0])


def compile_default(mesh: Mesh) -> Iterator[dict]:
    """Seconds that the default study spends compiling: first batch of each world less a second
    one.
    """
    plan = study.build(study.read(study.DEFAULT))
    size = engine.batch_size(plan.worlds, plan.grid, plan.replicates, 0, mesh)
    for world in plan.worlds:
        first, second = (_batch_seconds(world, plan.grid, size, mesh) for _ in range(2))
        yield {"world": f"{world.name} d={world.d}", "seconds": first - second}


def _batch_seconds(world, grid, size, mesh):
    started = time.perf_counter()
    next(engine.run(jax.random.key(0), world, grid, (0, size), size, mesh))
    return time.perf_counter() - started


# One device on one core against two on two, in processes of their own.


def _scaling_round(batches):
    (alone,), (both,) = (_finish([_start(range(k), batches, str(k))]) for k in (1, 2))
    address = f"localhost:{_free_port()}"
    joined = _finish([_start([i], batches, "1", address, str(i)) for i in (0, 1)])
    apart = _finish([_start([i], batches, "1") for i in (0, 1)])
    ratios = (alone / both, alone / max(joined), sum(alone / each for each in apart))
    return dict(zip(WAYS, ratios, strict=True))


def _free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def _start(cores, *arguments):
    """A new process on these cores; `timed` takes the arguments."""
    command = [sys.executable, "-m", "benchmarks.scaling", *map(str, arguments)]
    limit = functools.partial(os.sched_setaffinity, 0, cores)
    return subprocess.Popen(
        command, preexec_fn=limit, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _finish(processes):
    """Median seconds of a replicate in each."""
    return [float(process.communicate()[0]) for process in processes]


def timed(batches: str, count: str, address: str | None = None, process: str = "0") -> float:
    """Median seconds of a replicate, in whole batches, on so many devices of this process, or of
    two that meet.
    """
    job: dict[str, Any] = (
        {} if address is None else {"coordinator": address, "processes": 2, "process": int(process)}
    )
    mesh = devices.start(count, **job)
    size = _batch(mesh)
    rows = int(batches) * size
    seconds(mesh, size, size)
    return statistics.median(seconds(mesh, rows, size) for _ in range(5)) / rows


def table(rows: list[dict], compiled: list[dict], ratios: list[dict]) -> str:
    """The three, and what they come to."""
    total = sum(row["seconds"] for row in compiled)
    return (
        f"{_study.plain(rows)}\n\nTime grows as rows^{slope(rows):.3f}.\n\n"
        f"{_study.plain(compiled)}\n\nThe default study compiles in {total:.1f} s.\n\n"
        f"{_study.plain(ratios)}\n\nTwo devices over one, medians: {_medians(ratios)}."
    )


def _medians(ratios):
    columns = {way: [row[way] for row in ratios if row[way] is not None] for way in WAYS}
    found = {way: statistics.median(some) for way, some in columns.items() if some}
    return ", ".join(f"{way.replace('_', ' ')} {x:.2f} ×" for way, x in found.items())


if __name__ == "__main__":
    print(timed(*sys.argv[1:]))

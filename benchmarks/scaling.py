"""What does a sweep cost? Time against replicates × n, peak memory, compile time, and one device
against two.

One world (d = 5, SNIPS, the normal interval and `ess_exact`). Time is fitted by a power of the
rows drawn over more than three decades; memory is the process's peak after each size; scaling
compares one device on one core with two on two, of one process and of two that are joined, round
by round.
"""

import functools
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks import speed
from mopl_jax.coverage import engine, study
from mopl_jax.coverage.world import Grid
from mopl_jax.io import storage
from mopl_jax.numerics import devices

RESULTS = Path(__file__).parent / "results"
GRID = Grid(tuple(2**k for k in range(5, 15)), ("snips",), ("normal", "ess_exact"), 0.05)
REPLICATES = (64, 256, 1024, 4096, 16384, 65536)
ROUNDS, BATCHES = 5, 12
MEMORY = 48 * 2**20  # bytes for a batch, as the command's default on CPU


def seconds(mesh: Mesh, replicates: int, size: int) -> float:
    """Wall time of a sweep whose functions are compiled."""
    started = time.perf_counter()
    for _ in engine.run(jax.random.key(0), speed.world(), GRID, (0, replicates), size, mesh):
        pass
    return time.perf_counter() - started


def _batch(mesh):
    return engine.batch_size([speed.world()], GRID, REPLICATES[-1], MEMORY, mesh)


def cost(mesh: Mesh) -> dict:
    """Seconds and peak memory against rows, and the slope of log time on log rows."""
    size = _batch(mesh)
    seconds(mesh, size, size)
    points = []
    for replicates in REPLICATES:
        rounds = 5 if replicates < 2048 else 1
        took = statistics.median(seconds(mesh, replicates, size) for _ in range(rounds))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        points.append({"rows": replicates * GRID.n[-1], "seconds": took, "peak_mib": peak})
        print(f"{points[-1]['rows']:>14,} rows {took:8.3f} s  peak {peak:,.0f} MiB", flush=True)
    x, y = (np.log([point[key] for point in points]) for key in ("rows", "seconds"))
    return {"points": points, "slope": float(np.polyfit(x, y, 1)[0])}


def strong_scaling() -> dict:
    """Time of one device on one core over that of two devices on two cores, round by round.

    `one_process` has both devices; `two_processes` have one each and are joined through
    `jax.distributed`; `ceiling` is what the machine allows: two one-device processes that know
    nothing of one another.
    """
    rounds = [_scaling_round() for _ in range(ROUNDS)]
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]} | {
        "rounds": rounds
    }


def _scaling_round():
    (alone,), (both,) = (_finish([_start(range(cores), str(cores))]) for cores in (1, 2))
    address = f"localhost:{_free_port()}"
    joined = _finish([_start([i], "1", address, str(i)) for i in (0, 1)])
    apart = _finish([_start([i], "1") for i in (0, 1)])
    return {
        "one_process": alone / both,
        "two_processes": alone / max(joined),
        "ceiling": sum(alone / each for each in apart),
    }


def _free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def _start(cores, *arguments):
    """A new process on these cores; `_timed` takes the arguments."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--timed", *arguments]
    limit = functools.partial(os.sched_setaffinity, 0, cores)
    return subprocess.Popen(
        command, preexec_fn=limit, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _finish(processes):
    """Median seconds of a replicate in each."""
    return [float(process.communicate()[0]) for process in processes]


def _timed(count, address=None, process="0"):
    """Median seconds of a replicate, in whole batches, on so many devices of this process, or of
    two that meet.
    """
    job: dict[str, Any] = (
        {} if address is None else {"coordinator": address, "processes": 2, "process": int(process)}
    )
    mesh = devices.start(count, **job)
    size = _batch(mesh)
    seconds(mesh, size, size)
    return statistics.median(seconds(mesh, BATCHES * size, size) for _ in range(5)) / (
        BATCHES * size
    )


def compile_default(mesh: Mesh) -> dict:
    """Seconds that the default study spends compiling: first batch of each world less a second
    one.
    """
    plan = study.build(study.read(study.DEFAULT))
    size = engine.batch_size(plan.worlds, plan.grid, plan.replicates, 0, mesh)
    took = {}
    for world in plan.worlds:
        first, second = (_batch_seconds(world, plan.grid, size, mesh) for _ in range(2))
        took[f"{world.name} d={world.d}"] = first - second
    return took | {"total": sum(took.values())}


def _batch_seconds(world, grid, size, mesh):
    started = time.perf_counter()
    next(engine.run(jax.random.key(0), world, grid, (0, size), size, mesh))
    return time.perf_counter() - started


def main() -> None:
    """Write results/scaling.json."""
    if sys.argv[1:2] == ["--timed"]:
        print(_timed(*sys.argv[2:]))
        return
    document: dict[str, Any] = {"two_devices": strong_scaling()}
    mesh = devices.start("2")
    document |= {"compile_seconds": compile_default(mesh), "cost": cost(mesh)}
    print(f"default study compiles in {document['compile_seconds']['total']:.1f} s")
    two = document["two_devices"]
    print(
        f"time grows as rows^{document['cost']['slope']:.3f}; two devices of one process"
        f" {two['one_process']:.2f} × one, of two processes {two['two_processes']:.2f} × (two that"
        f" are not joined {two['ceiling']:.2f} ×)"
    )
    (RESULTS / "scaling.json").write_text(
        json.dumps(storage.provenance() | document, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()

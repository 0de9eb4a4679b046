"""The devices that work runs on, of this process or of many, as a mesh with one axis "r".

A sweep splits its replicates over the mesh, a simulated platform its users. Entry points call
`start` before anything is computed; the library never does, and takes `one_device` where it is
given no mesh. Processes find one another through `jax.distributed`, which knows SLURM,
Kubernetes and cloud TPUs and GPUs.
"""

import os
import sys

import jax
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all
from jax.sharding import Mesh


def start(
    devices: str | None = None,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    distributed: bool = False,
) -> Mesh:
    """The mesh of `devices` of this process and as many of each other process of the job.

    `devices` is a number, or "all" or None: all, on CPU one for each core. `coordinator`
    HOST:PORT, `processes` and `process` name the job by hand; `distributed` lets the cluster tell
    them. ValueError for a device count that is not to be had.
    """
    _check(coordinator, processes, process)
    _split_cpu(_cores() if devices in (None, "all") else _count(devices))
    if distributed or coordinator is not None:
        _reserve_stdout()
        jax.distributed.initialize(coordinator, processes, process)
    wanted = (
        len(jax.devices()) if devices in (None, "all") else _count(devices) * jax.process_count()
    )
    if wanted > len(jax.devices()):
        raise ValueError(
            f"--devices: expected at most {len(jax.devices())}, what this machine has, got"
            f" {devices}"
        )
    return Mesh(np.array(jax.devices()[:wanted]), ("r",))


def one_device() -> Mesh:
    """The mesh of the default device alone."""
    return Mesh(jax.devices()[:1], ("r",))


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    return jax.process_index() == 0


def agree(values: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The first process's list of pairs, on every process."""
    if jax.process_count() == 1:
        return values
    count = int(broadcast_one_to_all(np.int32(len(values))))
    local = np.zeros((count, 2), np.int32)
    local[: len(values)] = np.reshape(values[:count], (-1, 2)) if values else local[: len(values)]
    return [(int(a), int(b)) for a, b in broadcast_one_to_all(local)]


def _reserve_stdout():
    """Send what native libraries print to standard error; standard output is for results.

    Gloo, which connects the processes on CPU, announces its peers.
    """
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


def _check(coordinator, processes, process):
    given = [
        name
        for name, value in zip(_JOB, (coordinator, processes, process), strict=True)
        if value is not None
    ]
    if given and len(given) < len(_JOB):
        raise ValueError(f"expected {', '.join(_JOB)} together, got only {', '.join(given)}")


_JOB = ("--coordinator", "--processes", "--process")


def _count(devices):
    if not str(devices).isdecimal() or not 1 <= int(devices) <= _MOST:
        raise ValueError(
            f"--devices: expected 'all' or a number from 1 to {_MOST}, got {devices!r}"
        )
    return int(devices)


_MOST = 1024  # of one process: each is a thread pool where the CPU is split


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _split_cpu(count):
    """Make the CPU `count` devices, unless it is in use already or XLA_FLAGS says otherwise."""
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        try:
            jax.config.update("jax_num_cpu_devices", count)
        except RuntimeError:  # in use: the mesh is made of what there is
            return

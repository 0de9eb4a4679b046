"""How much of an accelerator does a sweep use, and are its numbers those of a CPU? Five minutes at
most, in one run.

The sweep beside its own draws (aim: at most 1.5 times their time) and beside the stored speed of
torch and numba on two cores (aim: 100 times, on a GPU); words of JAX's generators, the default one
and two others, and the roofs of `roofline`; a step of learning on n rows of ten weights. The same
seed twice must give the same bits; the first device and the CPU the same intervals, to a thousandth
of their half width. On a machine without an accelerator all of it runs on the CPU and says so.
"""

import argparse
import functools
import re
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks import _by_hand, _one_cell, _study, roofline, sharded
from mopl_jax.coverage import engine
from mopl_jax.evaluation.sharded import spread
from mopl_jax.numerics import devices
from mopl_jax.policies import Gaussian

SIZES = {"replicates": 16_384, "n": 10**7, "rounds": 5}
QUICK = {"replicates": 32, "n": 10**4, "rounds": 1}
ON_DEMAND = True  # for a machine with an accelerator; on a CPU with smaller sizes
GENERATORS = ("threefry2x32", "rbg", "unsafe_rbg")
TOLERANCE = 1e-3  # of an interval's half width, between devices of two kinds


def _bits(impl, key, n):
    words = jnp.tile(jax.random.key_data(key), 1 if impl == "threefry2x32" else 2)
    return jax.random.bits(jax.random.wrap_key_data(words, impl=impl), (roofline.D, n), jnp.uint32)


def sweep(options) -> list[dict]:
    """Replicates a second of the sweep and of its draws alone, interleaved."""
    contenders = (_one_cell.mopl, _one_cell.draws_only)
    took = [
        [_one_cell.seconds(each, options.replicates, seed)[0] for each in contenders]
        for seed in range(options.rounds + 1)
    ][1:]
    whole, draws = (statistics.median(column) for column in zip(*took, strict=True))
    rows = options.replicates * _by_hand.SIZES[-1] / whole / 1e6
    return [
        _row("sweep", options.replicates / whole, "replicates a second"),
        _row("its draws alone", options.replicates / draws, "replicates a second"),
        _row("sweep over its draws", statistics.median(a / b for a, b in took), "×", "≤ 1.5"),
        _row("sweep over torch + numba, two cores, stored", rows / _by_kernel(), "×", "≥ 100"),
    ]


def _by_kernel():
    """The stored million rows a second of the best kernel by hand."""
    speeds = {row["contender"]: row for row in _study.read("speed")}
    return speeds["torch + numba"]["million_rows_per_second"]


def generators(mesh: Mesh, rounds: int) -> list[dict]:
    """10⁹ words a second of each generator of JAX; the engine's own is of the roofs."""
    rates = {
        impl: roofline.rate(functools.partial(_bits, impl), roofline.D, mesh, rounds)
        for impl in GENERATORS
    }
    return [_row(f"jax.random.bits, {x}", y / 1e9, "10⁹ a second") for x, y in rates.items()]


def roofs(options, drawn: float) -> list[dict]:
    """The tasks of `roofline`, and what they and the sweep's draws, so many replicates a second,
    make of both roofs: the generator's arithmetic and the traffic of memory.
    """
    found = roofline.run(options)
    rates = {x["task"]: x["numbers_per_second"] for x in found}
    rows = [_row(task, rate / 1e9, "10⁹ a second") for task, rate in rates.items()]
    asked = {name: rates[name] for name in (*STORED, "jax.random.bits, stored")}
    asked |= {"the sweep's draws": drawn * _by_hand.SIZES[-1] * roofline.D}
    for name, rate in asked.items():
        for roof, most in ROOFS.items():
            rows.append(_row(f"{name}: share of {roof}", rate / rates[most], ""))
    return [*rows, _row("integer operations", found.about["operations"] / 1e9, "10⁹ a second")]


STORED = "words, stored", "normals, stored"
ROOFS = {"generator arithmetic": "words, folded", "memory traffic": "zeros, stored"}


def learning(options, mesh: Mesh) -> list[dict]:
    """Milliseconds of a bound with its gradient, and of reading its log once."""
    log = spread(sharded.log(options.n), mesh)
    policy = Gaussian.diagonal(jnp.full(sharded.D, 0.1), 0.8)
    return [
        _row(
            f"{name}, log of {options.n:,} rows", _fastest(task, log, policy, options.rounds), "ms"
        )
        for name, task in sharded.TASKS.items()
    ]


def _fastest(task, log, policy, rounds):
    took = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        jax.block_until_ready(task(log, policy))
        took.append(time.perf_counter() - started)
    return 1e3 * min(took[1:])


def agreement(mesh: Mesh) -> list[dict]:
    """The same seed twice, on all devices and on the first one, and on the CPU."""
    one, cpu = Mesh(mesh.devices[:1], ("r",)), Mesh(jax.devices("cpu")[:1], ("r",))
    first, again, alone, there = map(_cell, (mesh, mesh, one, cpu))
    half, pairs = (there.upper - there.lower) / 2, zip(_ends(alone), _ends(there), strict=True)
    worst = max(np.max(np.abs(a - b) / half) for a, b in pairs)
    return [
        _row("numbers that differ, the same seed twice", _different(first, again), "", "0"),
        _row("… all devices and one", _different(first, alone), "", "0"),
        _row("largest difference from the CPU", float(worst), "half widths", f"≤ {TOLERANCE}"),
    ]


def _cell(mesh):
    """One batch of the reference cell."""
    size = 64 * mesh.size
    with jax.default_device(mesh.devices.flat[0]):
        run = engine.run(jax.random.key(0), _one_cell.world(), _one_cell.GRID, (0, 64), size, mesh)
        (cell,) = next(run).values()
    return cell


def _ends(cell):
    return cell.value[..., None], cell.lower, cell.upper


def _different(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(int(np.sum(x != y)) for x, y in pairs)


def _row(what, measured, unit, aim=""):
    return {"what": what, "measured": float(measured), "unit": unit, "aim": aim}


def run(options: argparse.Namespace) -> _study.Rows:
    """One row for each number, and the name of the card."""
    mesh = devices.start()
    swept = sweep(options)
    drawn = swept[1]["measured"]
    rows = swept + generators(mesh, options.rounds) + roofs(options, drawn)
    rows += learning(options, mesh) + agreement(mesh)
    backend = jax.default_backend()
    return _study.Rows(rows, card=_card(mesh), backend=backend, devices=mesh.size)


def _card(mesh):
    """The name of the device; JAX calls every processor "cpu"."""
    kind, models = mesh.devices.flat[0].device_kind, Path("/proc/cpuinfo")
    if kind == "cpu" and models.exists():
        return re.findall(r"model name\s*: (.*)", models.read_text())[0]
    return kind


def table(rows: _study.Rows) -> str:
    """The numbers, and where they were measured."""
    about = rows.about
    where = f"{about['devices']} × {about['card']} ({about['backend']})"
    return f"{_study.plain(rows)}\n\nMeasured on {where}; sizes {about['sizes']}."

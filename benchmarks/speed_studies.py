"""How fast are whole studies, against what the best kernel by hand would need cell by cell?

The kernel is torch's generator and a fused numba loop (`pip install mopl_jax[speed]`). It is
credited with all sample sizes in one pass, and charged one pass, drawing included, for each
target or difference and interval; every interval at the price of the normal one.
"""

import statistics
import time

import jax
import jax.numpy as jnp

from benchmarks._by_hand import ALPHA, SCALE, D, torch_numba
from benchmarks._by_hand import SIZES as N
from benchmarks._one_cell import MEMORY, seconds, world
from mopl_jax import intervals
from mopl_jax.coverage import engine, study
from mopl_jax.coverage.world import Grid
from mopl_jax.numerics import devices
from mopl_jax.policies import Gaussian

SIZES = {"rounds": 7, "replicates": 256}
QUICK = {"rounds": 1, "replicates": 32}
NEEDS = dict.fromkeys(("torch", "numba"), "pip install mopl_jax[speed]")


def studies() -> dict[str, study.Study]:
    """The default study, and one with eight targets and every interval that is a formula in the
    sums.
    """
    default = study.build(study.read(study.DEFAULT))
    targets = {f"{i}": Gaussian.diagonal(jnp.full(D, 0.05 * i), SCALE) for i in range(1, 9)}
    names = tuple(intervals.WALD)
    many = (world()._replace(targets=targets),)
    grid = Grid(N, ("snips",), names, ALPHA)
    return {"default": default, "many targets": default._replace(worlds=many, grid=grid)}


def run(options) -> list[dict]:
    """Seconds of a study here and of the kernel cell by cell, interleaved, for so many replicates
    of every world.
    """
    return [_row(name, plan, options) for name, plan in studies().items()]


def _row(name, plan, options):
    took = [
        (_ours(plan, options.replicates, i), _kernel(plan, options.replicates, i))
        for i in range(options.rounds + 1)
    ][1:]
    ours, theirs = zip(*took, strict=True)
    return {
        "study": name,
        "cells": sum(_cells(plan)),
        "seconds": statistics.median(ours),
        "kernel_seconds": statistics.median(theirs),
        "times_faster": statistics.median(b / a for a, b in took),
        "replicates": options.replicates,
    }


def _cells(plan):
    return [len(each.estimands) * len(plan.grid.intervals) for each in plan.worlds]


def _ours(plan, replicates, seed):
    mesh = devices.start()
    size = engine.batch_size(plan.worlds, plan.grid, replicates, MEMORY, mesh)
    started = time.perf_counter()
    for each in plan.worlds:
        for _ in engine.run(jax.random.key(seed), each, plan.grid, (0, replicates), size, mesh):
            pass
    return time.perf_counter() - started


def _kernel(plan, replicates, seed):
    passes = [
        seconds(_of(each.d, plan.grid.n), replicates, seed)[0] * cells
        for each, cells in zip(plan.worlds, _cells(plan), strict=True)
    ]
    return sum(passes)


def _of(d, sizes):
    return lambda replicates, seed: torch_numba(replicates, seed, d=d, sizes=sizes)

"""How fast is one cell, against what people write by hand? Million logged rows a second,
interleaved in one run.

The cell: d = 5, SNIPS with its normal interval, coverage at n = 2⁵ … 2¹⁴. One sample is one
logged row. Whole studies, with many targets and intervals, are compared with what the best
kernel by hand would need for them cell by cell. The notebook-style loop (python over replicates
and n, scipy densities) draws a log for each n and is credited with all of those rows; the others
draw each replicate once and evaluate its prefixes. Compile time is apart. numpy is always
measured; torch, and torch's generator with a fused two-thread numba kernel, if they are
installed (`pip install mopl_jax[speed]`).
"""

import argparse
import importlib.util
import json
import statistics
import time
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax import intervals
from mopl_jax.coverage import engine, study
from mopl_jax.coverage.world import Grid, World
from mopl_jax.io import storage
from mopl_jax.numerics import devices
from mopl_jax.policies import Gaussian
from mopl_jax.simulation.environments import Environment, Linear, Normal

RESULTS = Path(__file__).parent / "results"
D, SIZES, ALPHA = 5, tuple(2**k for k in range(5, 15)), 0.05
MEAN, SCALE, NOISE, TRUTH = 0.3, 0.5, 0.25, 0.3
GRID = Grid(SIZES, ("snips",), ("normal",), ALPHA)
Z = 1.959963984540054


def world() -> World:
    """The reference world in five dimensions."""
    environment = Environment(
        Linear(jnp.full(D, 1 / D), jnp.asarray(0.0)), Normal(jnp.asarray(NOISE))
    )
    target = Gaussian.diagonal(jnp.full(D, MEAN), SCALE)
    return World("speed", D, environment, Gaussian.diagonal(jnp.zeros(D), 1.0), {"target": target})


# Every contender: (replicates, seed) -> hits at each n, and how many rows it was asked for.


def mopl(replicates, seed):
    """This package, on a mesh of one device a core."""
    mesh = devices.start()
    size = 2 * engine.chunk(SIZES[-1]) * mesh.size
    batches = engine.run(jax.random.key(seed), world(), GRID, (0, replicates), size, mesh)
    hits = [_hits(cell) for batch in batches for cell in batch.values()]
    return np.sum(hits, axis=0), replicates * SIZES[-1]


def _hits(cell):
    return ((cell.lower <= TRUTH) & (cell.upper >= TRUTH)).sum(axis=0)[:, 0]


def notebook(replicates, seed):
    """A python loop over replicates and n with scipy densities, as in a notebook."""
    from scipy.stats import multivariate_normal

    rng, hits = np.random.default_rng(seed), np.zeros(len(SIZES))
    logging, target, density = np.zeros(D), np.full(D, MEAN), cast(Any, multivariate_normal.pdf)
    for _ in range(replicates):
        for j, n in enumerate(SIZES):
            action = rng.multivariate_normal(logging, np.eye(D), n)
            reward = action.mean(axis=1) + NOISE * rng.normal(size=n)
            propensity = density(action, logging, np.eye(D))
            w = density(action, target, SCALE**2 * np.eye(D)) / propensity
            value = np.sum(w * reward) / np.sum(w)
            variance = np.sum((w / np.sum(w)) ** 2 * (reward - value) ** 2) * n / (n - 1)
            hits[j] += abs(value - TRUTH) <= Z * np.sqrt(variance)
    return hits, replicates * sum(SIZES)


def _numpy_hits(log_weight, reward):
    hits = []
    for n in SIZES:
        w = np.exp(log_weight[:, :n] - log_weight[:, :n].max(axis=1, keepdims=True))
        p, r = w / w.sum(axis=1, keepdims=True), reward[:, :n]
        value = (p * r).sum(axis=1)
        variance = (p**2 * (r - value[:, None]) ** 2).sum(axis=1) * n / (n - 1)
        hits.append((np.abs(value - TRUTH) <= Z * np.sqrt(variance)).sum())
    return np.array(hits)


def vectorised_numpy(replicates, seed, size=16):
    """Arrays over replicates and rows in float32."""
    rng, hits = np.random.default_rng(seed), np.zeros(len(SIZES))
    for _ in range(replicates // size):
        action = rng.standard_normal((size, SIZES[-1], D), np.float32)
        reward = action.mean(axis=2) + np.float32(NOISE) * rng.standard_normal(
            (size, SIZES[-1]), np.float32
        )
        whitened = (action - np.float32(MEAN)) / np.float32(SCALE)
        hits += _numpy_hits(0.5 * ((action**2).sum(axis=2) - (whitened**2).sum(axis=2)), reward)
    return hits, replicates * SIZES[-1]


def vectorised_torch(replicates, seed, size=16):
    """The same in torch on all cores."""
    import torch

    generator, hits = torch.Generator().manual_seed(seed), np.zeros(len(SIZES))
    for _ in range(replicates // size):
        action = torch.randn((D, size, SIZES[-1]), generator=generator)
        reward = action.mean(dim=0) + NOISE * torch.randn((size, SIZES[-1]), generator=generator)
        log_weight = 0.5 * ((action**2).sum(dim=0) - (((action - MEAN) / SCALE) ** 2).sum(dim=0))
        for j, n in enumerate(SIZES):
            p, r = torch.softmax(log_weight[:, :n], dim=1), reward[:, :n]
            value = (p * r).sum(dim=1)
            variance = (p**2 * (r - value[:, None]) ** 2).sum(dim=1) * n / (n - 1)
            hits[j] += int(((value - TRUTH).abs() <= Z * variance.sqrt()).sum())
    return hits, replicates * SIZES[-1]


def _numba_kernel(d=D):
    import numba

    @numba.njit(parallel=True, fastmath=True)
    def kernel(z, sizes, hits):
        for i in numba.prange(z.shape[0]):
            s1 = s2 = sr = s2r = s2rr = 0.0
            j = 0
            for row in range(z.shape[2]):
                squares = whitened = total = np.float32(0)
                for k in range(d):
                    a = z[i, k, row]
                    squares += a * a
                    whitened += ((a - np.float32(MEAN)) / np.float32(SCALE)) ** 2
                    total += a
                r = total / np.float32(d) + np.float32(NOISE) * z[i, d, row]
                w = np.exp(np.float32(0.5) * (squares - whitened))
                s1, sr = s1 + w, sr + w * r
                s2, s2r, s2rr = s2 + w * w, s2r + w * w * r, s2rr + w * w * r * r
                if row + 1 == sizes[j]:
                    n, value = row + 1, sr / s1
                    variance = (
                        (s2rr - 2 * value * s2r + value * value * s2) / (s1 * s1) * n / (n - 1)
                    )
                    hits[i, j] = abs(value - TRUTH) <= Z * np.sqrt(max(variance, 0.0))
                    j += 1

    return kernel


_KERNELS = {}


def torch_numba(replicates, seed, size=16, d=D, sizes=SIZES):
    """torch's generator and a fused parallel numba kernel with running sums: the best by hand."""
    import torch

    if d not in _KERNELS:
        _KERNELS[d] = _numba_kernel(d)
    hits, ends = np.zeros(len(sizes)), np.array(sizes)
    z = torch.empty((size, d + 1, sizes[-1]))
    generators = torch.Generator().manual_seed(seed)
    for _ in range(replicates // size):
        z.normal_(generator=generators)
        found = np.zeros((size, len(sizes)))
        _KERNELS[d](z.numpy(), ends, found)
        hits += found.sum(axis=0)
    return hits, replicates * sizes[-1]


def draws_only(replicates, seed):
    """The normals of this package's sweep, drawn and thrown away: the floor under its time."""
    mesh = devices.start()
    size, n = 2 * engine.chunk(SIZES[-1]) * mesh.size, SIZES[-1]
    for start in range(0, replicates, size):
        keys = engine.batch_keys(jax.random.key(seed), start, size, mesh)
        action = engine.draw_batch(keys, world().logging, n, mesh)
        jax.block_until_ready(
            (action, engine.reward_batch(keys, world().environment, action, mesh))
        )
    return None, replicates * n


CONTENDERS = {  # name: (function, replicates, needs)
    "mopl_jax": (mopl, 512, ()),
    "mopl_jax draws only": (draws_only, 512, ()),
    "scipy notebook loop": (notebook, 8, ("scipy",)),
    "numpy vectorised": (vectorised_numpy, 128, ()),
    "torch vectorised": (vectorised_torch, 128, ("torch",)),
    "torch + numba": (torch_numba, 512, ("torch", "numba")),
}


def measure(rounds: int) -> dict:
    """Medians over interleaved rounds of rows a second, and of the ratio to each contender within a
    round.
    """
    present = {
        name: entry
        for name, entry in CONTENDERS.items()
        if all(map(importlib.util.find_spec, entry[2]))
    }
    devices.start()
    first = {name: _seconds(*entry[:2], seed=0)[0] for name, entry in present.items()}
    speeds = {name: [] for name in present}
    covered = {}
    for seed in range(1, rounds + 1):
        for name, (function, replicates, _) in present.items():
            seconds, hits, rows = _seconds(function, replicates, seed)
            speeds[name].append(rows / seconds / 1e6)
            if hits is not None:
                covered.setdefault(name, []).append(hits / replicates)
    return {
        name: {
            "million_rows_per_second": statistics.median(speed),
            "mopl_jax_times_faster": statistics.median(
                a / b for a, b in zip(speeds["mopl_jax"], speed, strict=True)
            ),
            "first_call_seconds": first[name],
            "coverage": (
                np.mean(covered[name], axis=0).round(4).tolist() if name in covered else None
            ),
        }
        for name, speed in speeds.items()
    }


# Whole studies. The kernel is credited with all sample sizes in one pass, and charged one pass,
# drawing included, for each target or difference and interval; every interval at the price of the
# normal one.


def studies() -> dict[str, study.Study]:
    """The default study, and one with eight targets and every interval that is a formula in the
    sums.
    """
    default = study.build(study.read(study.DEFAULT))
    base = world()
    targets = {f"{i}": Gaussian.diagonal(jnp.full(D, 0.05 * i), SCALE) for i in range(1, 9)}
    names = tuple(name for name, f in intervals.WALD.items() if isinstance(f, intervals.Wald))
    grid = Grid(SIZES, ("snips",), names, ALPHA)
    return {
        "default": default,
        "many targets": default._replace(worlds=(base._replace(targets=targets),), grid=grid),
    }


def by_study(rounds: int, replicates: int = 256) -> dict:
    """Seconds of a study here and of the kernel cell by cell, interleaved, for so many replicates
    of every world.
    """
    found = {}
    for name, plan in studies().items():
        took = [
            (_study_seconds(plan, replicates, i), _kernel_seconds(plan, replicates, i))
            for i in range(rounds + 1)
        ]
        ours, theirs = zip(*took[1:], strict=True)
        ratio = statistics.median(b / a for a, b in took[1:])
        cells = sum(len(each.estimands) for each in plan.worlds) * len(plan.grid.intervals)
        found[name] = {
            "cells": cells,
            "seconds": statistics.median(ours),
            "kernel_seconds": statistics.median(theirs),
        }
        found[name] |= {"times_faster": ratio, "replicates": replicates}
    return found


def _study_seconds(plan, replicates, seed):
    mesh = devices.start()
    size = engine.batch_size(plan.worlds, plan.grid, replicates, 48 * 2**20, mesh)
    started = time.perf_counter()
    for each in plan.worlds:
        for _ in engine.run(jax.random.key(seed), each, plan.grid, (0, replicates), size, mesh):
            pass
    return time.perf_counter() - started


def _kernel_seconds(plan, replicates, seed):
    one_cell = [_seconds(_kernel(each.d, plan.grid.n), replicates, seed)[0] for each in plan.worlds]
    cells = [len(each.estimands) * len(plan.grid.intervals) for each in plan.worlds]
    return sum(a * b for a, b in zip(one_cell, cells, strict=True))


def _kernel(d, sizes):
    return lambda replicates, seed: torch_numba(replicates, seed, d=d, sizes=sizes)


def _seconds(function, replicates, seed):
    started = time.perf_counter()
    hits, rows = function(replicates, seed)
    return time.perf_counter() - started, hits, rows


def main() -> None:
    """Print the table and write results/speed.json."""
    parser = argparse.ArgumentParser(
        description="How fast is one cell, against what people write by hand?"
    )
    parser.add_argument("--rounds", type=int, default=7)
    options, _ = parser.parse_known_args()
    table = measure(options.rounds)
    print(f"{'contender':22} {'M rows/s':>9} {'mopl_jax is':>12}  first call (s)")
    for name, row in table.items():
        ratio = f"{row['mopl_jax_times_faster']:.2f} ×"
        print(
            f"{name:22} {row['million_rows_per_second']:9.2f} {ratio:>12} "
            f" {row['first_call_seconds']:.2f}"
        )
    document = storage.provenance(
        cell={"d": D, "n": SIZES, "interval": "normal"}, rounds=options.rounds
    ) | {"speed": table}
    if "torch + numba" in table:
        document["studies"] = by_study(options.rounds)
        for name, row in document["studies"].items():
            print(
                f"{name} study, {row['cells']} cells: {row['times_faster']:.1f} × the kernel cell"
                " by cell"
            )
    (RESULTS / "speed.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()

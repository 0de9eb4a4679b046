"""Is float32 enough? Coverage of the same logs evaluated in float32 and in float64, up to n = 2²².

Draws have float32 resolution in both, so the logs are the same and any difference is the
arithmetic's. Each precision runs `mopl coverage` in a process of its own. Up to n = 2²² the ends
of a few replicates' intervals are compared one by one, in widths.
"""

import functools
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _one_cell
from benchmarks._process import MOPL, measured
from mopl_jax.coverage import engine
from mopl_jax.coverage.world import Grid

SIZES = {"n": (64, 4096, 65536, 1048576), "replicates": 200}
SIZES |= {"apart_n": (2**6, 2**12, 2**17, 2**22), "apart_replicates": 16}
QUICK = {"n": (64, 512), "replicates": 50, "apart_n": (2**6, 2**9), "apart_replicates": 4}
RESULTS = ("precision", "precision_apart")
INTERVALS = ("normal", "ess_exact", "ess_safe")


def run(options) -> Iterator[list[dict]]:
    """Coverage in both precisions, then the ends one by one."""
    yield covered(options)
    yield apart(options.apart_n, options.apart_replicates)


def covered(options) -> list[dict]:
    """Both coverages with their standard error."""
    single, double = (_coverage(options, *precision) for precision in ((), ("--x64",)))
    return [
        {
            "n": a["n"],
            "interval": a["interval"],
            "float32": a["coverage"],
            "float64": b["coverage"],
            "se": a["coverage_se"],
        }
        for a, b in zip(single, double, strict=True)
    ]


def _coverage(options, *precision):
    sizes = ("--n", ",".join(map(str, options.n)), "--replicates", str(options.replicates))
    named = itertools.chain.from_iterable(("--interval", name) for name in INTERVALS)
    with tempfile.TemporaryDirectory() as folder:
        program = [*MOPL, "coverage", "--d", "5", *sizes, *named, *precision]
        done = measured([*program, "--out", folder, "--json"], Path(folder))
    return json.loads(done.output)["rows"]


def apart(sizes: tuple[int, ...], replicates: int) -> list[dict]:
    """How far values and interval ends in float32 and float64 lie apart, in widths: the largest of
    the replicates.
    """
    grid = Grid(sizes, ("snips",), INTERVALS, 0.05)
    with jax.enable_x64(True):
        single, double = (_cell(dtype, grid, replicates) for dtype in (jnp.float32, jnp.float64))
    width = double.upper - double.lower
    ends = np.maximum(np.abs(single.lower - double.lower), np.abs(single.upper - double.upper))
    value = np.abs(single.value - double.value)[..., None]
    far = {name: np.max(x / width, axis=0) for name, x in (("ends", ends), ("value", value))}
    return [
        {"n": n, "interval": name} | {what: float(x[j, i]) for what, x in far.items()}
        for j, n in enumerate(sizes)
        for i, name in enumerate(INTERVALS)
    ]


def _cell(dtype, grid, replicates):
    cast = functools.partial(jax.tree.map, lambda x: jnp.asarray(x, dtype))
    world = _one_cell.world()
    parts = {key: cast(getattr(world, key)) for key in ("environment", "logging", "targets")}
    key = jax.random.key(1)
    (batch,) = engine.run(key, world._replace(**parts), grid, (0, replicates), replicates)
    return jax.tree.map(lambda x: x.astype(float), batch["target", "snips"])

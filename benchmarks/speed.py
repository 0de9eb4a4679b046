"""How fast is one cell, against what people write by hand? Million logged rows a second,
interleaved in one run.

The cell: d = 5, SNIPS with its normal interval, coverage at n = 2⁵ … 2¹⁴. One sample is one
logged row. The notebook-style loop (python over replicates and n, scipy densities) draws a log
for each n and is credited with all of those rows; the others draw each replicate once and
evaluate its prefixes. Compile time is apart. numpy is always measured; torch, and torch's
generator with a fused two-thread numba kernel, if they are installed (`pip install
mopl_jax[speed]`); another version of this package, of which `--before` names a checkout, in a
process of its own. Whole studies: `python -m benchmarks speed_studies`.
"""

import functools
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import _by_hand, _study
from benchmarks._one_cell import draws_only, mopl, seconds
from mopl_jax.numerics import devices

SIZES = {"rounds": 7, "before": ""}
QUICK = {"rounds": 1}
PAUSE = 0.5  # seconds before each: threads of OpenMP spin on after their work, in another's time


class Contender(NamedTuple):
    """(replicates, seed) -> hits and rows, the replicates it is given, the packages it needs."""

    function: Callable
    replicates: int
    needs: tuple[str, ...] = ()


CONTENDERS = {
    "mopl_jax": Contender(mopl, 2048),
    "mopl_jax draws only": Contender(draws_only, 2048),
    "scipy notebook loop": Contender(_by_hand.notebook, 8, ("scipy",)),
    "numpy vectorised": Contender(_by_hand.vectorised_numpy, 128),
    "torch vectorised": Contender(_by_hand.vectorised_torch, 128, ("torch",)),
    "torch + numba": Contender(_by_hand.torch_numba, 2048, ("torch", "numba")),
}
ANOTHER = """
import sys
from benchmarks.speed import mopl
for line in sys.stdin:
    print(*mopl(*map(int, line.split()))[0], flush=True)
"""


def _another(folder: Path) -> dict[str, Contender]:
    """The version in a checkout, by its commit: a process that plays whenever it is asked."""
    commit = ["git", "-C", folder, "rev-parse", "--short", "HEAD"]
    name = subprocess.run(commit, check=True, capture_output=True, text=True).stdout.strip()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", ANOTHER], cwd=folder, **pipes)
    return {f"mopl_jax {name}": Contender(functools.partial(_ask, process), 2048)}


def _ask(process, replicates, seed):
    process.stdin.write(f"{replicates} {seed}\n")
    process.stdin.flush()
    hits = np.array([float(x) for x in process.stdout.readline().split()])
    return hits, replicates * _by_hand.SIZES[-1]


def run(options) -> _study.Rows:
    """Medians over interleaved rounds of rows a second, and of the ratio to each contender within a
    round.
    """
    present = {
        name: each
        for name, each in CONTENDERS.items()
        if all(map(importlib.util.find_spec, each.needs))
    } | (_another(Path(options.before)) if options.before else {})
    devices.start()
    first = {name: seconds(each.function, each.replicates, 0)[0] for name, each in present.items()}
    speeds, shares = {name: [] for name in present}, {name: [] for name in present}
    for seed in range(1, options.rounds + 1):
        for name, (function, replicates, _) in present.items():
            time.sleep(PAUSE)
            took, hits, rows = seconds(function, replicates, seed)
            speeds[name].append(rows / took / 1e6)
            shares[name] += [] if hits is None else [hits / replicates]
    cell = {"d": _by_hand.D, "n": _by_hand.SIZES, "interval": "normal"}
    rows = [_row(name, speeds, shares[name]) for name in present]
    return _study.Rows(
        (row | {"first_call_seconds": first[row["contender"]]} for row in rows), cell=cell
    )


def _row(name, speeds, shares):
    ratios = (a / b for a, b in zip(speeds["mopl_jax"], speeds[name], strict=True))
    return {
        "contender": name,
        "million_rows_per_second": statistics.median(speeds[name]),
        "mopl_jax_times_faster": statistics.median(ratios),
        "coverage": np.mean(shares, axis=0).round(4).tolist() if shares else None,
    }


def table(rows: list[dict]) -> str:
    """Speeds, ratios, first calls."""
    names = ("contender", "million_rows_per_second", "mopl_jax_times_faster", "first_call_seconds")
    return _study.columns(rows, names)

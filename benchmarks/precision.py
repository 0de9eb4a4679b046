"""Is float32 enough? Coverage of the same logs evaluated in float32 and in float64, up to n = 2²².

Draws have float32 resolution in both, so the logs are the same and any difference is the
arithmetic's. Each precision runs `mopl coverage` in a process of its own. Up to n = 2²² the ends
of a few replicates' intervals are compared one by one, in widths.
"""

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import speed
from mopl_jax.coverage import engine
from mopl_jax.coverage.world import Grid

RESULTS = Path(__file__).parent / "results"
OPTIONS = (
    "--d 5 --n 64,4096,65536,1048576 --replicates 200 --interval normal --interval ess_exact"
    " --interval ess_safe".split()
)


def rows(*precision: str) -> list[dict]:
    """The tidy rows of one precision."""
    with tempfile.TemporaryDirectory() as folder:
        program = [
            sys.executable,
            "-c",
            "from mopl_jax.cli import main; main()",
            "coverage",
            *OPTIONS,
            *precision,
        ]
        done = subprocess.run(
            [*program, "--out", folder, "--json"], capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout)["rows"]


SIZES, REPLICATES = (2**6, 2**12, 2**17, 2**22), 16


def apart() -> list[dict]:
    """How far values and interval ends in float32 and float64 lie apart, in widths: the largest of
    the replicates.
    """
    with jax.enable_x64(True):
        single, double = (_cell(dtype) for dtype in (jnp.float32, jnp.float64))
    rows = []
    for j, n in enumerate(SIZES):
        for i, name in enumerate(("normal", "ess_exact", "ess_safe")):
            width = (double.upper - double.lower)[:, j, i]
            ends = [
                np.abs(a - b)[:, j, i] / width
                for a, b in ((single.lower, double.lower), (single.upper, double.upper))
            ]
            value = np.abs(single.value - double.value)[:, j] / width
            rows.append(
                {
                    "n": n,
                    "interval": name,
                    "ends": float(np.max(ends)),
                    "value": float(np.max(value)),
                }
            )
    return rows


def _cell(dtype):
    grid = Grid(SIZES, ("snips",), ("normal", "ess_exact", "ess_safe"), 0.05)
    cast = functools.partial(jax.tree.map, lambda x: jnp.asarray(x, dtype))
    world = speed.world()
    world = world._replace(
        environment=cast(world.environment),
        logging=cast(world.logging),
        targets=cast(world.targets),
    )
    (batch,) = engine.run(jax.random.key(1), world, grid, (0, REPLICATES), REPLICATES)
    return jax.tree.map(lambda x: x.astype(float), batch["target", "snips"])


def main() -> None:
    """Print both coverages with their standard error, and write results/precision.json."""
    ends = apart()
    for row in ends:
        print(
            f"n={row['n']:>9,} {row['interval']:10} ends apart {row['ends']:.1e} widths, values"
            f" {row['value']:.1e}"
        )
    table = [
        {
            "n": a["n"],
            "interval": a["interval"],
            "float32": a["coverage"],
            "float64": b["coverage"],
            "se": a["coverage_se"],
        }
        for a, b in zip(rows(), rows("--x64"), strict=True)
    ]
    for row in table:
        print(
            f"n={row['n']:>9,} {row['interval']:10} float32 {row['float32']:.3f} float64"
            f" {row['float64']:.3f} ±{row['se']:.3f}"
        )
    (RESULTS / "precision.json").write_text(
        json.dumps({"coverage": table, "apart": ends}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()

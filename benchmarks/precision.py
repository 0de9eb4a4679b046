"""Is float32 enough? Coverage of the same logs evaluated in float32 and in float64, up to n = 2²⁰.

Draws have float32 resolution in both, so the logs are the same and any difference is the arithmetic's. Each precision runs
`mopl coverage` in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
OPTIONS = "--d 5 --n 64,4096,65536,1048576 --replicates 200 --interval normal --interval ess_exact --interval ess_safe".split()


def rows(*precision: str) -> list[dict]:
    """The tidy rows of one precision."""
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-c", "from mopl_jax.cli import main; main()", "coverage", *OPTIONS, *precision]
        done = subprocess.run([*program, "--out", folder, "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["rows"]


def main() -> None:
    """Print both coverages with their standard error, and write results/precision.json."""
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
            f"n={row['n']:>9,} {row['interval']:10} float32 {row['float32']:.3f} float64 {row['float64']:.3f} ±{row['se']:.3f}"
        )
    (RESULTS / "precision.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""How often do intervals cover against the sample size, and how many samples does an ESS correction save?

Runs the default study exactly as `mopl coverage` does and keeps its tidy results.
"""

import shutil
import tempfile
from pathlib import Path

from mopl_jax.cli.coverage import coverage

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Write results/coverage.parquet."""
    with tempfile.TemporaryDirectory() as folder:
        coverage(out=Path(folder))
        shutil.copy(Path(folder) / "results.parquet", RESULTS / "coverage.parquet")


if __name__ == "__main__":
    main()

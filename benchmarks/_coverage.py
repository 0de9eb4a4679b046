"""A coverage study by `mopl coverage`, for studies that tabulate its rows."""

import tempfile
from pathlib import Path

from benchmarks import _study
from mopl_jax.cli.coverage import coverage, summary

__all__ = ["swept", "summary"]


def swept(config: Path | None, replicates: int = 0, n: str = "") -> _study.Rows:
    """The rows of a study in TOML (none: the default one), with what they are stored with."""
    with tempfile.TemporaryDirectory() as folder:
        coverage(config=config, out=Path(folder), replicates=replicates or None, n=n or None)
        return _study.read("results", Path(folder))

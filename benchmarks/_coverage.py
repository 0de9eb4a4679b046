"""A coverage study by `coverage_study`, for studies that tabulate its rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import _study
from mopl_jax.cli.show import bars
from mopl_jax.coverage import results
from mopl_jax.coverage.run import coverage_study
from mopl_jax.numerics import devices


def swept(config: Path | Mapping[str, Any] | None, replicates: int = 0, n: str = "") -> _study.Rows:
    """The rows of a study, a TOML file or its content (none: the default one), with what they are
    stored with.
    """
    sizes, mesh = [int(size) for size in n.split(",")] if n else None, devices.start()
    with bars(lasting=True) as advance:
        found = coverage_study(
            config, n=sizes, replicates=replicates or None, mesh=mesh, advance=advance
        )
    return _study.Rows(found.rows, **found.provenance)


def summary(rows: list[dict]) -> list[dict]:
    """One row for each world, estimand, estimator and interval."""
    return [line.to_dict() for line in results.summary(rows)]

"""Figures: each script reads stored results and draws one picture; nothing is computed here."""

from pathlib import Path

from mopl_jax.io import storage
from mopl_jax.report import style

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"


def results(name: str) -> list[dict]:
    """The tidy rows of a stored study."""
    return storage.read_results(RESULTS / f"{name}.parquet")[0]


def save(name: str, draw) -> None:
    """Write figures/NAME.png and NAME.svg; `draw()` gives the figure (saving closes it)."""
    for suffix in ("png", "svg"):
        style.save(draw(), HERE / f"{name}.{suffix}")

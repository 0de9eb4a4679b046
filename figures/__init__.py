"""Figures: each script reads stored results and draws one picture; nothing is computed here."""

import importlib
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from benchmarks._study import Rows, read
from mopl_jax.report.coverage_figure import coverage_curves
from mopl_jax.report.coverage_figure import draw as coverage_figure
from mopl_jax.report.style import STYLE
from mopl_jax.report.style import save as save_figure

__all__ = ["DASHED", "column", "coverage_curves", "coverage_figure", "names", "results", "save"]
HERE = Path(__file__).parent
DASHED: dict[str, Any] = {"color": "black", "linewidth": 0.7, "linestyle": (0, (4, 3))}


def results(name: str) -> Rows:
    """The tidy rows of a stored file; `about` is what is stored with them."""
    return read(name)


def column(rows: list[dict], name: str) -> list:
    """One column of the rows."""
    return [row[name] for row in rows]


def names() -> list[str]:
    """Every figure: the modules of this folder."""
    return sorted(path.stem for path in HERE.glob("[!_]*.py"))


def save(name: str, folder: Path = HERE) -> None:
    """Draw a figure in the one style and write NAME.png and NAME.svg (saving closes it)."""
    draw = importlib.import_module(f"figures.{name}").draw
    for suffix in ("png", "svg"):
        with plt.rc_context(STYLE):
            figure = draw()
        save_figure(figure, folder / f"{name}.{suffix}")

"""The style of every figure, and how a figure is saved.

Colour-blind safe (Okabe & Ito), no LaTeX needed, no screen needed.
"""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titlesize": 9.5,
    "legend.frameon": False,
    "svg.hashsalt": "mopl_jax",
    "svg.fonttype": "none",
}


def literal(name: str) -> str:
    """A name of the user's as text, in which a dollar begins no formula."""
    return name.replace("$", r"\$")


def save(figure: Figure, path: Path | str) -> None:
    """Write PNG or SVG (by suffix) with reproducible bytes, and close the figure."""
    metadata = {"Date": None} if str(path).endswith("svg") else {}
    with plt.rc_context(STYLE):
        figure.savefig(path, metadata=metadata)
    plt.close(figure)

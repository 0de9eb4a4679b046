"""`python -m figures` redraws every figure from stored results; `python -m figures NAME …` some of
them.
"""

import importlib
import sys

import figures

FIGURES = (
    "coverage",
    "dimension",
    "bandwidth",
    "design",
    "metrics",
    "scaling",
    "stress",
    "collapse",
    "gallery",
    "learning",
    "closed_loop",
)


def main(names: list[str]) -> int:
    """Draw the named figures, or all."""
    if unknown := [name for name in names if name not in FIGURES]:
        print(f"unknown figure {unknown[0]!r}; known: {', '.join(FIGURES)}", file=sys.stderr)
        return 2
    for name in names or FIGURES:
        figures.save(name, importlib.import_module(f"figures.{name}").draw)
        print(f"figures/{name}.png, figures/{name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m figures` redraws every figure from stored results; `python -m figures NAME …` some of
them; `--out FOLDER` elsewhere.
"""

import argparse
from pathlib import Path

import figures


def main() -> None:
    """Draw the named figures, or all."""
    parser = argparse.ArgumentParser("python -m figures", None, "Redraw figures from results.")
    parser.add_argument("names", nargs="*", help=", ".join(figures.names()))
    parser.add_argument("--out", type=Path, default=figures.HERE)
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in figures.names()]:
        parser.error(f"unknown figure {unknown[0]!r}; known: {', '.join(figures.names())}")
    for name in options.names or figures.names():
        figures.save(name, options.out)
        print(f"{options.out.name}/{name}.png, {options.out.name}/{name}.svg")


if __name__ == "__main__":
    main()

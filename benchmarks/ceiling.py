"""Is the closed loop's attainable gain the most that weights can do? Its best direction at larger norms; who reaches it.

Served weights are N(w, h²) with one h, so that a larger w is a sharper ranking. `loop.optimum` keeps the first weights'
norm; the loop and the searches need not. Reads the stored closed-loop study.
"""

import json

import numpy as np

from benchmarks.closed_loop import ENOUGH, RESULTS, World, table, way_lines
from mopl_jax import devices, storage

NORMS = (1.0, 1.5, 2.0, 4.0, 16.0)


def main() -> None:
    """Write results/ceiling.json and results/ceiling.md."""
    loops, about = storage.read_results(RESULTS / "closed_loop_rounds.parquet")
    searched, _ = storage.read_results(RESULTS / "closed_loop_search.parquet")
    best = np.asarray(about["study"]["optimum"])
    world = World(devices.start())
    values = [world.gain(factor * best) for factor in NORMS]
    rows = [{"norm": factor, "gain": v.mean, "se": v.se} for factor, v in zip(NORMS, values, strict=True)]
    top = max(rows, key=lambda row: row["gain"])["gain"]
    document = {"norms": rows, "provenance": storage.provenance()}
    (RESULTS / "ceiling.json").write_text(json.dumps(document, indent=1) + "\n")
    sharper = table(("norm, of the first weights'", "gain, days a week"), map(_line, rows))
    ways = table(
        ("way", f"users to {ENOUGH:.0%} of {top:.4f}, each run", "at the end"), way_lines(loops, searched, top)
    )
    text = f"{sharper}\n\n{ways}\n"
    (RESULTS / "ceiling.md").write_text(text)
    print(text)


def _line(row):
    return f"| {row['norm']:g} | {row['gain']:.4f} ± {row['se']:.4f} |"


if __name__ == "__main__":
    main()

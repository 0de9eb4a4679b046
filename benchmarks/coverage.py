"""How often do intervals cover against the sample size, and how many samples does an ESS
correction save?

Runs the default study exactly as `mopl coverage` does, keeps its tidy results, and tabulates the
claim: from which n does each interval hold 94 %, how many times fewer rows than `normal` is
that, and is it within 5 % of `normal`'s width once ESS ≥ 200?
"""

import math
import shutil
import tempfile
from pathlib import Path

from mopl_jax.coverage.results import summary
from mopl_jax.coverage.run import coverage_study
from mopl_jax.io import storage
from mopl_jax.numerics import devices

RESULTS = Path(__file__).parent / "results"
SHOWN = ("ess_bessel", "ess_rescaled", "ess_student", "ess_student_max", "ess_exact", "ess_safe")


def main() -> None:
    """Write results/coverage.parquet and results/coverage.md."""
    with tempfile.TemporaryDirectory() as folder:
        coverage_study(out=Path(folder), mesh=devices.start())
        shutil.copy(Path(folder) / "results.parquet", RESULTS / "coverage.parquet")
    rows, _ = storage.read_results(RESULTS / "coverage.parquet")
    text = table(rows) + "\n\n" + claim(rows) + "\n"
    (RESULTS / "coverage.md").write_text(text)
    print(text)


def table(rows: list[dict]) -> str:
    """Markdown: one line a world and estimand, the sample-size ratio of each interval and its width
    over `normal`'s.
    """
    head = ["world", "d", "estimand", "normal holds from n =", *(f"{name}" for name in SHOWN)]
    lines = ["| " + " | ".join(head) + " |", "| --- | --: | --- | --: |" + " --: |" * len(SHOWN)]
    groups: dict[tuple, dict[str, dict]] = {}
    for line in _lines(rows):
        groups.setdefault((line["world"], line["d"], line["estimand"]), {})[line["interval"]] = line
    for (world, d, estimand), lines_of in groups.items():
        cells = [
            f"{_ratio(lines_of[name])} ({excess_width(rows, world, d, estimand, name):.2f})"
            for name in SHOWN
        ]
        holds = lines_of["normal"]["holds_from"]
        lines.append(
            f"| {world} | {d} | {estimand} | {holds or 'never'} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def _lines(rows):
    return [line.to_dict() for line in summary(rows)]


def _ratio(line):
    return (
        "—"
        if math.isnan(line["ratio"])
        else f"{'' if line['ratio_exact'] else '≥ '}{line['ratio']:,.0f} ×"
    )


def excess_width(rows: list[dict], world: str, d: int, estimand: str, interval: str) -> float:
    """The largest ratio of median widths, interval over `normal`, over the n at which the median
    ESS is at least 200.
    """
    some = [
        row for row in rows if (row["world"], row["d"], row["estimand"]) == (world, d, estimand)
    ]
    normal = {row["n"]: row["median_width"] for row in some if row["interval"] == "normal"}
    kept = [row for row in some if row["interval"] == interval and row["ess_median"] >= 200]
    return max((row["median_width"] / normal[row["n"]] for row in kept), default=math.nan)


def start_width(rows: list[dict], line: dict) -> float:
    """Median width over the oracle's at the n from which an interval holds."""
    keys = ("world", "d", "estimand", "estimator")
    found = [
        row
        for row in rows
        if row["interval"] == line["interval"] and all(row[k] == line[k] for k in keys)
    ]
    return next(row["width_ratio"] for row in found if row["n"] == line["holds_from"])


def claim(rows: list[dict]) -> str:
    """The largest sample-size ratio among intervals within 5 % of `normal`'s width once ESS ≥ 200,
    and where.
    """
    narrow = [
        line
        for line in _lines(rows)
        if not math.isnan(line["ratio"])
        and excess_width(rows, line["world"], line["d"], line["estimand"], line["interval"]) <= 1.05
        and start_width(rows, line) <= 10
    ]
    best = max(narrow, key=lambda line: line["ratio"])
    where = f"{best['world']}, d = {best['d']}, {best['estimand']}"
    found = (
        f"{_ratio(best)} ({best['interval']}; {where}; {start_width(rows, best):.1f} × the oracle's"
        " width where it starts)"
    )
    return (
        "Largest ratio among intervals within 5 % of normal's width once ESS ≥ 200 "
        f"and of at most 10 × the oracle's median width where they start: {found}."
    )


if __name__ == "__main__":
    main()

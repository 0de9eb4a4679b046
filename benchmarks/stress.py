"""Where does each interval fail, and what holds? The four stress studies, and what
docs/intervals.md says of them.

`mopl coverage --config benchmarks/studies/stress.toml` is the map itself; the other three add
rows, intervals, estimators. `report()` writes the tables again from the stored rows, without the
studies.
"""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mopl_jax.coverage.run import coverage_study
from mopl_jax.io import storage
from mopl_jax.numerics import devices

RESULTS = Path(__file__).parent / "results"
STUDIES = Path(__file__).parent / "studies"
NAMES = ("stress", "stress_large", "stress_rows", "stress_estimators")
SKEWED = ("zero_inflated", "log_normal", "bernoulli_1")
APART = ("hidden_tail",)  # no sample shows its weights
ONE_SIDED = ("normal", "ess_exact", "ess_safe", "recommended", "ess_wilson")
BINS = (2, 3, 5, 10, 50, np.inf)  # of the median ESS


def main() -> None:
    """Run the studies, store their rows, write results/stress.md."""
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            coverage_study(STUDIES / f"{name}.toml", out=Path(folder), mesh=devices.start())
            shutil.copy(Path(folder) / "results.parquet", RESULTS / f"{name}.parquet")
    report()


def report() -> None:
    """results/stress.md from the stored rows."""
    found = [name for name in NAMES if (RESULTS / f"{name}.parquet").exists()]
    parts = [by_interval(name) for name in found if name != "stress_estimators"]
    parts += [by_family(), by_reach(), collapse(), by_side(), by_size(), gallery(), within_reach()]
    parts += [beyond_reach()] if "stress_large" in found else []
    parts += [by_estimator()] if "stress_estimators" in found else []
    text = "\n\n".join(parts)
    (RESULTS / "stress.md").write_text(text + "\n")
    print(text)


def family(row: dict) -> str:
    """The reward family of a row: its world, whatever the logging policy."""
    return row["world"].removesuffix("_box")


def aim(row: dict) -> float:
    """The coverage asked of a default at nominal 0.95."""
    return 0.94 if family(row) in SKEWED else 0.945


def below(row: dict) -> bool:
    """Whether a cell is below the aim by more than two Monte-Carlo standard errors."""
    return row["coverage"] < aim(row) - 2 * (aim(row) * (1 - aim(row)) / row["replicates"]) ** 0.5


def reach(row: dict) -> str:
    """Whether the target reaches beyond the logger: its scale is not smaller, so far weights are
    unbounded or nearly so.
    """
    return "beyond the logger" if row["estimand"].startswith(("same", "wide")) else "within"


def judged(name: str) -> list[dict]:
    """Rows that a default answers for: SNIPS of what it estimates, median ESS of two or more, no
    hidden tail.
    """
    rows, _ = storage.read_results(RESULTS / f"{name}.parquet")
    kept = (
        r
        for r in rows
        if r["estimator"] == "snips" and r["ess_median"] >= 2 and r["world"] not in APART
    )
    return [row for row in kept if "unsmoothed" not in row["estimand"]]


def columns(rows: list[dict]) -> str:
    """Cells, share below the aim, worst and median coverage, widths over the oracle's for few and
    many effective rows.
    """
    few = [r["width_ratio"] for r in rows if r["ess_median"] < 10]
    many = [r["width_ratio"] for r in rows if r["ess_median"] >= 50]
    found = np.array([r["coverage"] for r in rows])
    share = np.mean([below(r) for r in rows])
    return (
        f"{len(rows):,} | {share:.3f} | {found.min():.3f} | {np.median(found):.3f} | {_median(few)}"
        f" | {_median(many)}"
    )


def _median(values):
    return f"{np.median(values):.2f}" if values else ""


HEAD = (
    "cells | below the aim | worst | median | width, ESS < 10 | width, ESS ≥ 50 |\n| --- | --: |"
    " --: | --: | --: | --: | --: |"
)


def table(title: str, rows: Iterable[dict], key: Callable[[dict], str]) -> str:
    """Markdown, one line for each value of `key`."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return f"| {title} | {HEAD}\n" + "\n".join(
        f"| {name} | {columns(some)} |" for name, some in groups.items()
    )


def by_interval(name: str) -> str:
    """Each interval over all cells of a study."""
    return f"## {name}.toml by interval\n\n" + table(
        "interval", judged(name), lambda r: r["interval"]
    )


def by_family() -> str:
    """Two intervals, by reward family and by target."""
    rows = [r for r in judged("stress") if r["interval"] in ("ess_exact", "recommended")]
    first = table("interval, rewards", rows, lambda r: f"{r['interval']}, {family(r)}")
    return f"## By reward family and by target\n\n{first}\n\n" + table(
        "interval, target", rows, lambda r: f"{r['interval']}, {r['estimand']}"
    )


def by_reach() -> str:
    """Targets that reach beyond the logger apart."""
    rows = judged("stress")
    chosen = [r for r in rows if r["interval"] in ("ess_exact", "recommended")]
    first = table("interval, target", chosen, lambda r: f"{r['interval']}, {reach(r)}")
    return f"## By reach\n\n{first}"


def collapse() -> str:
    """Is coverage a function of ESS? Its spread at one ESS, and that of its medians by reward
    family, d and target.
    """
    keys = (family, lambda r: r["d"], lambda r: r["estimand"])
    lines = [
        "| interval | 5–95 % of cells | medians by family | by d | by target"
        " |\n|---|--:|--:|--:|--:|"
    ]
    rows = [r for r in judged("stress") if 10 <= r["ess_median"] < 50]
    for name in dict.fromkeys(r["interval"] for r in rows):
        some = [r for r in rows if r["interval"] == name]
        spreads = [
            np.quantile([r["coverage"] for r in some], (0.05, 0.95)),
            *(_medians(some, key) for key in keys),
        ]
        lines.append(
            f"| {name} | " + " | ".join(f"{min(s):.2f} … {max(s):.2f}" for s in spreads) + " |"
        )
    return "## Coverage at 10 ≤ ESS < 50\n\n" + "\n".join(lines)


def _medians(rows, key):
    """Median coverage of each group with five cells or more."""
    groups = [[r["coverage"] for r in rows if key(r) == name] for name in {*map(key, rows)}]
    return [np.median(group) for group in groups if len(group) >= 5]


def by_side() -> str:
    """One-sided bounds at 97.5 %, the two ends: the share of cells where each misses too often, and
    the worst miss rate.
    """
    rows = judged("stress")
    sides = ("lower bound fails", "worst miss", "upper bound fails", "worst miss")
    lines = [f"| interval, target | cells | {' | '.join(sides)} |\n|---|--:|--:|--:|--:|--:|"]
    for name, where in itertools.product(ONE_SIDED, ("all", "within")):
        some = [r for r in rows if r["interval"] == name and where in ("all", reach(r))]
        lines.append(
            f"| {name}, {where} | {len(some):,} | {_missed(some, 'miss_above')} |"
            f" {_missed(some, 'miss_below')} |"
        )
    head = (
        "A bound fails where it misses in more than 2.5 % of logs by more than two Monte-Carlo"
        " standard errors."
    )
    return f"## One-sided bounds at 97.5 %\n\n{head}\n\n" + "\n".join(lines)


def _missed(rows, side):
    return f"{np.mean([_often(r[side], r) for r in rows]):.3f} | {max(r[side] for r in rows):.3f}"


def _often(share, row):
    """Whether one end misses more often than half of alpha by more than two standard errors."""
    half = row["alpha"] / 2
    return share > half + 2 * (half * (1 - half) / row["replicates"]) ** 0.5


def by_size() -> str:
    """`recommended` by its median effective sample size: what few effective rows cost in width."""
    rows = [r for r in judged("stress") if r["interval"] == "recommended"]
    lines = [
        "| ESS | cells | below the aim | worst | median width / oracle |\n|---|--:|--:|--:|--:|"
    ]
    for low, high in zip(BINS[:-1], BINS[1:], strict=True):
        some = [r for r in rows if low <= r["ess_median"] < high]
        share, worst = np.mean([below(r) for r in some]), min(r["coverage"] for r in some)
        name = f"{low} … {high}" if high < np.inf else f"≥ {low}"
        lines.append(
            f"| {name} | {len(some)} | {share:.3f} | {worst:.3f} |"
            f" {_median([r['width_ratio'] for r in some])} |"
        )
    return "## `recommended` by ESS\n\n" + "\n".join(lines)


def by_estimator() -> str:
    """`recommended` with every estimator, where the estimand is the target's value."""
    rows, _ = storage.read_results(RESULTS / "stress_estimators.parquet")
    kept = [r for r in rows if r["interval"] == "recommended" and r["ess_median"] >= 2]
    return "## `recommended` by estimator\n\n" + table("estimator", kept, lambda r: r["estimator"])


def gallery() -> str:
    """The fifteen worst cells of `recommended` with ESS of ten or more; the hidden tail; unsmoothed
    values.
    """
    worst = [
        r for r in judged("stress") if r["interval"] == "recommended" and r["ess_median"] >= 10
    ]
    rows, _ = storage.read_results(RESULTS / "stress.parquet")
    apart = [r for r in rows if r["interval"] == "recommended" and r["world"] in APART]
    moved = [
        r
        for r in rows
        if r["interval"] == "recommended" and "unsmoothed" in r["estimand"] and r["ess_median"] >= 2
    ]
    cells = _cells([*sorted(worst, key=lambda r: r["coverage"])[:15], *apart])
    never = _cells([r for r in moved if r["coverage"] == 0])
    smoothing = table("unsmoothed", moved, lambda r: r["estimand"])
    return (
        f"## Where `recommended` fails\n\n{cells}\n\n## Value of the point"
        f" itself\n\n{smoothing}\n\nNever covered:\n\n{never}"
    )


def within_reach() -> str:
    """Every cell within the logger's reach where `recommended` fails, and how many of them
    `ess_wilson` shares.
    """
    rows = [r for r in judged("stress") if reach(r) == "within"]
    failed = {
        name: [r for r in rows if r["interval"] == name and below(r)]
        for name in ("recommended", "ess_wilson")
    }
    shared = {*map(_place, failed["recommended"])} & {*map(_place, failed["ess_wilson"])}
    return (
        "## Where `recommended` fails within the logger's"
        f" reach\n\n{_cells(sorted(failed['recommended'], key=family))}\n\n`ess_wilson` fails in"
        f" {len(failed['ess_wilson'])} cells, {len(shared)} of them in this table."
    )


def _place(row):
    return row["world"], row["d"], row["estimand"], row["n"]


def beyond_reach() -> str:
    """Does a target wider than the logger heal with more rows? Every interval by reach, and where
    `recommended` fails.
    """
    rows = judged("stress_large")
    first = table("interval, target", rows, lambda r: f"{r['interval']}, {reach(r)}")
    failed = [r for r in rows if r["interval"] == "recommended" and below(r)]
    return f"## More rows, by reach\n\n{first}\n\n`recommended` fails in these:\n\n{_cells(failed)}"


def _cells(rows):
    head = (
        "| world | d | target | n | ESS | coverage | bias / oracle SD | width"
        " |\n|---|--:|---|--:|--:|--:|--:|--:|"
    )
    return "\n".join([head, *map(_line, rows)])


def _line(row):
    shift = row["bias"] / (row["oracle_width"] / 3.92)
    return (
        f"| {row['world']} | {row['d']} | {row['estimand']} | {row['n']:,} |"
        f" {row['ess_median']:.1f} | {row['coverage']:.3f} | {shift:.2f} |"
        f" {row['width_ratio']:.2f} |"
    )


if __name__ == "__main__":
    main()

"""The sections of the stress study: each takes the stored rows of one study, gives Markdown."""

import itertools
from collections.abc import Callable, Iterable

import numpy as np

from benchmarks._judge import APART, answerable, below, bound_fails, family
from benchmarks._study import grouped, markdown

ONE_SIDED = ("normal", "ess_exact", "ess_safe", "recommended", "ess_wilson")
BINS = (2, 3, 5, 10, 50, np.inf)  # of the median ESS
HEAD = ("cells", "below the aim", "worst", "median", "width, ESS < 10", "width, ESS ≥ 50")


def of(rows: Iterable[dict], *intervals: str) -> list[dict]:
    """Rows of these intervals."""
    return [row for row in rows if row["interval"] in intervals]


def reach(row: dict) -> str:
    """Whether the target reaches beyond the logger: its scale is not smaller, so far weights are
    unbounded or nearly so.
    """
    return "beyond the logger" if row["estimand"].startswith(("same", "wide")) else "within"


def table(title: str, rows: Iterable[dict], key: Callable[[dict], str]) -> str:
    """Coverage and width, one line for each value of `key`."""
    groups = grouped(({"key": key(row), "row": row} for row in rows), "key")
    lines = [[name, *_cells([each["row"] for each in some])] for (name,), some in groups.items()]
    return markdown((title, *HEAD), lines)


def _cells(rows):
    few = [r["width_ratio"] for r in rows if r["ess_median"] < 10]
    many = [r["width_ratio"] for r in rows if r["ess_median"] >= 50]
    found = np.array([r["coverage"] for r in rows])
    shares = (np.mean([below(r) for r in rows]), found.min(), np.median(found))
    return [len(rows), *(f"{x:.3f}" for x in shares), _median(few), _median(many)]


def _median(values):
    return f"{np.median(values):.2f}" if values else ""


def by_interval(name: str, rows: list[dict]) -> str:
    """Each interval over all cells of a study."""
    found = table("interval", answerable(rows), lambda r: r["interval"])
    return f"## {name}.toml by interval\n\n{found}"


def by_family(rows: list[dict]) -> str:
    """Two intervals, by reward family and by target."""
    kept = of(answerable(rows), "ess_exact", "recommended")
    first = table("interval, rewards", kept, lambda r: f"{r['interval']}, {family(r)}")
    second = table("interval, target", kept, lambda r: f"{r['interval']}, {r['estimand']}")
    return f"## By reward family and by target\n\n{first}\n\n{second}"


def by_reach(rows: list[dict]) -> str:
    """Targets that reach beyond the logger apart."""
    kept = of(answerable(rows), "ess_exact", "recommended")
    return f"## By reach\n\n{_reach_table(kept)}"


def _reach_table(rows):
    return table("interval, target", rows, lambda r: f"{r['interval']}, {reach(r)}")


def collapse(rows: list[dict]) -> str:
    """Is coverage a function of ESS? Its spread at one ESS, and that of its medians by reward
    family, d and target.
    """
    head = ("interval", "5–95 % of cells", "medians by family", "by d", "by target")
    groups = grouped((r for r in answerable(rows) if 10 <= r["ess_median"] < 50), "interval")
    lines = [[name, *map(_range, _spreads(some))] for (name,), some in groups.items()]
    return f"## Coverage at 10 ≤ ESS < 50\n\n{markdown(head, lines)}"


def _spreads(rows):
    yield np.quantile([r["coverage"] for r in rows], (0.05, 0.95))
    for key in (family, lambda r: r["d"], lambda r: r["estimand"]):
        yield _medians(rows, key)


def _range(values):
    return f"{min(values):.2f} … {max(values):.2f}" if len(values) else ""


def _medians(rows, key):
    """Median coverage of each group with five cells or more."""
    groups = [[r["coverage"] for r in rows if key(r) == name] for name in {*map(key, rows)}]
    return [np.median(group) for group in groups if len(group) >= 5]


def by_side(rows: list[dict]) -> str:
    """The two ends as one-sided bounds: how often each misses too often, and the worst miss."""
    sides = ("lower bound fails", "worst miss", "upper bound fails", "worst miss")
    lines = []
    for name, where in itertools.product(ONE_SIDED, ("all", "within")):
        some = [r for r in of(answerable(rows), name) if where in ("all", reach(r))]
        if not some:
            continue
        lines.append([f"{name}, {where}", len(some), *_missed(some)])
    return (
        "## One-sided bounds at 97.5 %\n\nA bound fails where it misses in more than 2.5 % of logs"
        " by more than two Monte-Carlo standard errors.\n\n"
        + markdown(("interval, target", "cells", *sides), lines)
    )


def _missed(rows):
    for side in ("miss_above", "miss_below"):
        yield f"{np.mean([bound_fails(r, side, r['alpha']) for r in rows]):.3f}"
        yield f"{max((r[side] for r in rows), default=np.nan):.3f}"


def by_size(rows: list[dict]) -> str:
    """`recommended` by its median effective sample size: what few effective rows cost in width."""
    kept = of(answerable(rows), "recommended")
    lines = []
    for low, high in itertools.pairwise(BINS):
        some = [r for r in kept if low <= r["ess_median"] < high]
        name = f"{low} … {high}" if high < np.inf else f"≥ {low}"
        lines.append([name, str(len(some)), *(_size_cells(some) if some else [])])
    head = ("ESS", "cells", "below the aim", "worst", "median width / oracle")
    return f"## `recommended` by ESS\n\n{markdown(head, lines)}"


def _size_cells(some):
    share, worst = np.mean([below(r) for r in some]), min(r["coverage"] for r in some)
    return f"{share:.3f}", f"{worst:.3f}", _median([r["width_ratio"] for r in some])


def by_estimator(rows: list[dict]) -> str:
    """`recommended` with every estimator, where the estimand is the target's value."""
    kept = [r for r in of(rows, "recommended") if r["ess_median"] >= 2]
    found = table("estimator", kept, lambda r: r["estimator"])
    return f"## `recommended` by estimator\n\n{found}"


def gallery(rows: list[dict]) -> str:
    """The fifteen worst cells of `recommended` with ESS of ten or more; the hidden tail; unsmoothed
    values.
    """
    mine = of(rows, "recommended")
    many = [r for r in answerable(mine) if r["ess_median"] >= 10]
    worst = sorted(many, key=lambda r: r["coverage"])[:15]
    apart = [r for r in mine if r["world"] in APART]
    moved = [r for r in mine if "unsmoothed" in r["estimand"] and r["ess_median"] >= 2]
    smoothing = table("unsmoothed", moved, lambda r: r["estimand"])
    never = places([r for r in moved if r["coverage"] == 0])
    return (
        f"## Where `recommended` fails\n\n{places([*worst, *apart])}\n\n## Value of the point"
        f" itself\n\n{smoothing}\n\nNever covered:\n\n{never}"
    )


def within_reach(rows: list[dict]) -> str:
    """Every cell within the logger's reach where `recommended` fails, and how many of them
    `ess_wilson` shares.
    """
    failed = [r for r in answerable(rows) if reach(r) == "within" and below(r)]
    mine, theirs = (of(failed, name) for name in ("recommended", "ess_wilson"))
    shared = {*map(_place, mine)} & {*map(_place, theirs)}
    return (
        "## Where `recommended` fails within the logger's"
        f" reach\n\n{places(sorted(mine, key=family))}\n\n`ess_wilson` fails in"
        f" {len(theirs)} cells, {len(shared)} of them in this table."
    )


def _place(row):
    return row["world"], row["d"], row["estimand"], row["n"]


def beyond_reach(rows: list[dict]) -> str:
    """Does a target wider than the logger heal with more rows? Every interval by reach, and where
    `recommended` fails.
    """
    kept = answerable(rows)
    failed = [r for r in of(kept, "recommended") if below(r)]
    return (
        f"## More rows, by reach\n\n{_reach_table(kept)}\n\n`recommended` fails in"
        f" these:\n\n{places(failed)}"
    )


def places(rows: list[dict]) -> str:
    """Cells one by one."""
    head = ("world", "d", "target", "n", "ESS", "coverage", "bias / oracle SD", "width")
    return markdown(head, map(_line, rows), "lrlr")


def _line(row):
    shift = row["bias"] / (row["oracle_width"] / 3.92)
    where = row["world"], row["d"], row["estimand"], row["n"]
    numbers = f"{row['ess_median']:.1f}", f"{row['coverage']:.3f}", f"{shift:.2f}"
    return *where, *numbers, f"{row['width_ratio']:.2f}"

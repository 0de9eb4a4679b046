"""How often do intervals cover against the sample size, and how many samples does an ESS
correction save?

Runs the default study exactly as `mopl coverage` does, keeps its tidy results, and tabulates the
claim: from which n does each interval hold 94 %, how many times fewer rows than `normal` is
that, and is it within 5 % of `normal`'s width once ESS ≥ 200?
"""

import math

from benchmarks import _coverage, _study

SIZES = {"replicates": 0, "n": ""}  # none: as the study says
QUICK = {"replicates": 50, "n": "8,512"}
CELL = ("world", "d", "estimand")
SHOWN = ("ess_bessel", "ess_rescaled", "ess_student", "ess_student_max", "ess_exact", "ess_safe")


def run(options) -> _study.Rows:
    """The rows of the default study."""
    return _coverage.swept(None, options.replicates, options.n)


def table(rows: list[dict]) -> str:
    """Sample-size ratios and widths by world and estimand, then the largest ratio."""
    groups = _study.grouped(_coverage.summary(rows), *CELL)
    head = [*CELL, "normal holds from n =", *SHOWN]
    lines = [[*cell, *_cells(rows, cell, some)] for cell, some in groups.items()]
    return f"{_study.markdown(head, lines, 'lrlr')}\n\n{claim(rows)}"


def _cells(rows, cell, some):
    lines = {line["interval"]: line for line in some}
    widths = {name: excess_width(rows, cell, name) for name in SHOWN if name in lines}
    holds = lines["normal"]["holds_from"]
    shown = [f"{_ratio(lines[n])} ({widths[n]:.2f})" if n in lines else None for n in SHOWN]
    return [f"{holds or 'never'}", *shown]


def _ratio(line):
    if math.isnan(line["ratio"]):
        return "—"
    return f"{'' if line['ratio_exact'] else '≥ '}{line['ratio']:,.0f} ×"


def excess_width(rows: list[dict], cell: tuple, interval: str) -> float:
    """The largest ratio of median widths, interval over `normal`, where the median ESS is ≥ 200."""
    some = _study.grouped(rows, *CELL)[cell]
    normal = {row["n"]: row["median_width"] for row in some if row["interval"] == "normal"}
    kept = [row for row in some if row["interval"] == interval and row["ess_median"] >= 200]
    return max((row["median_width"] / normal[row["n"]] for row in kept), default=math.nan)


def start_width(rows: list[dict], line: dict) -> float:
    """Median width over the oracle's at the n from which an interval holds."""
    keys = ("world", "d", "estimand", "estimator", "interval")
    some = _study.grouped(rows, *keys)[tuple(line[key] for key in keys)]
    return next(row["width_ratio"] for row in some if row["n"] == line["holds_from"])


def claim(rows: list[dict]) -> str:
    """The largest sample-size ratio among narrow intervals, and where it is."""
    lines = [line for line in _coverage.summary(rows) if not math.isnan(line["ratio"])]
    narrow = [line for line in lines if _narrow(rows, line)]
    if not narrow:
        return "No interval is as narrow as the claim asks."
    best = max(narrow, key=lambda line: line["ratio"])
    where = f"{best['world']}, d = {best['d']}, {best['estimand']}"
    start = f"{start_width(rows, best):.1f} × the oracle's width where it starts"
    return (
        "Largest ratio among intervals within 5 % of normal's width once ESS ≥ 200 "
        "and of at most 10 × the oracle's median width where they start: "
        f"{_ratio(best)} ({best['interval']}; {where}; {start})."
    )


def _narrow(rows, line):
    cell = tuple(line[key] for key in CELL)
    return excess_width(rows, cell, line["interval"]) <= 1.05 and start_width(rows, line) <= 10

"""Do intervals for the difference of two policies hold, as those for one policy do?

`mopl coverage --config benchmarks/studies/differences.toml`: values of five policies and four
differences of them on the same rows, without a reward range. Close policies (new, production)
share most of their weight, far ones hardly any.
"""

from benchmarks import _coverage, _stress_tables, _study
from benchmarks._judge import answerable, below

SIZES = {"replicates": 0, "n": ""}  # none: as the study says
QUICK = {"replicates": 8, "n": "16,64"}
FEW, MANY = "ESS < 50", "ESS ≥ 50"


def run(options) -> _study.Rows:
    """The rows of the study."""
    return _coverage.swept(_study.STUDIES / "differences.toml", options.replicates, options.n)


def table(rows: list[dict]) -> str:
    """By interval, by estimand and by family; both ends; where `recommended` fails."""
    kept = answerable(rows)
    mine = _stress_tables.of(kept, "recommended")
    sections = (
        _stress_tables.table("interval, estimand", kept, lambda r: f"{r['interval']}, {_what(r)}"),
        _stress_tables.table("recommended", mine, lambda r: f"{_what(r)}, {_size(r)}"),
        _stress_tables.table("recommended", mine, lambda r: r["estimand"]),
        _stress_tables.table("recommended", mine, lambda r: f"{r['world']}, {_what(r)}"),
        _stress_tables.by_side([r for r in kept if r["ess_median"] >= 50]),
        _stress_tables.places(sorted(filter(below, mine), key=lambda r: r["coverage"])),
    )
    return "\n\n".join(sections)


def _what(row):
    return "difference" if " - " in row["estimand"] else "value"


def _size(row):
    return MANY if row["ess_median"] >= 50 else FEW

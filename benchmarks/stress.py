"""Where does each interval fail, and what holds? The four stress studies, and what
docs/intervals.md says of them.

`mopl coverage --config benchmarks/studies/stress.toml` is the map itself; the other three add
rows, intervals, estimators.
"""

from collections.abc import Iterator

from benchmarks import _coverage, _stress_tables, _study

SIZES = {"replicates": 0, "n": ""}  # none: as the studies say
QUICK = {"replicates": 8, "n": "16,64"}
RESULTS = ("stress", "stress_large", "stress_rows", "stress_estimators")


def run(options) -> Iterator[_study.Rows]:
    """The rows of each study."""
    for name in RESULTS:
        config = _study.STUDIES / f"{name}.toml"
        yield _coverage.swept(config, options.replicates, options.n)


def table(stress: list[dict], large: list[dict], rows: list[dict], estimators: list[dict]) -> str:
    """Every section."""
    named = zip(RESULTS, (stress, large, rows), strict=False)
    return "\n\n".join(
        (
            *(_stress_tables.by_interval(name, some) for name, some in named),
            _stress_tables.by_family(stress),
            _stress_tables.by_reach(stress),
            _stress_tables.collapse(stress),
            _stress_tables.by_side(stress),
            _stress_tables.by_size(stress),
            _stress_tables.gallery(stress),
            _stress_tables.within_reach(stress),
            _stress_tables.beyond_reach(large),
            _stress_tables.by_estimator(estimators),
        )
    )

"""`mopl monitor`: daily looks at a running A/B test that hold all together."""

from pathlib import Path

from mopl_jax.cli import show
from mopl_jax.cli.options import DOCUMENT, REQUIRED, SCORECARDS, argument, float64, option, takes

SNAPSHOTS = "Snapshots of running tests: .parquet, .csv, .json, or a .toml that describes one."
METRIC = "A learnt metric (mopl metric --out), watched beside the North Star."
BOUND = "mixture (any number of users) or obrien_fleming (narrower, up to the planned ones)."


@takes(
    tables=argument(list[Path], "SNAPSHOTS...", SNAPSHOTS),
    planned=option(float, "Users of all arms when the test is to end.", REQUIRED),
    north_star=option(str, "The outcome that counts (default: that of --metric)."),
    metric=option(Path, METRIC),
    bound=option(str, BOUND, "mixture"),
    **SCORECARDS,
    alpha=option(float, "Of all treatments and outcomes of a test, at all looks together.", 0.05),
    as_json=DOCUMENT,
)
def monitor(tables, column, shares, as_json, **settings):
    """Watch a running A/B test: intervals that hold at all looks, so that one may stop at any.

    Scorecards as mopl metric reads them, with a column time: users and
    means so far. An interval that leaves 0 out at some look decides, and
    without an effect that happens in at most alpha of tests. Effects are
    those so far: what changes with time is not seen before it happens.
    """
    float64()
    from mopl_jax.metrics import monitoring
    from mopl_jax.metrics.sample_ratio import read_shares
    from mopl_jax.metrics.scorecards import read_columns
    from mopl_jax.report import monitor_table

    columns, planned_shares = read_columns(column or ()), read_shares(shares)
    found = monitoring.monitor(tables, columns=columns, shares=planned_shares, **settings)
    show.answer(found, as_json, monitor_table.show)

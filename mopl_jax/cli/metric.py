"""`mopl metric`: the combination of metrics that would have told past experiments' winners most
clearly.
"""

from pathlib import Path

from mopl_jax.cli import show
from mopl_jax.cli.options import (
    DOCUMENT,
    FORCE,
    SCORECARDS,
    argument,
    check_output,
    flag,
    float64,
    option,
    takes,
)

OBJECTIVE = (
    "One of gls (default), proxy (default without labels), mean_z, mean_p, log_p, p_log_p;"
    " tested, liml, total_covariance, cross_fold."
)
L1 = "Penalty on the sum of |weights|; more is sparser. For mean_z … p_log_p."
NORTH_STAR = "The metric that the others stand for."
POSITIVE = "Metric whose weight may not be negative; repeat for several."
NEGATIVE = "Metric whose weight may not be positive; repeat for several."
TABLES = "Scorecards: .parquet, .csv, .json, or a .toml that describes one."


@takes(
    tables=argument(list[Path], "EXPERIMENTS...", TABLES),
    north_star=option(str, NORTH_STAR, show_default=False),
    objective=option(str, OBJECTIVE, show_default=False),
    compare=flag("Also validate every other objective.", "--compare"),
    l1=option(float, L1, 0.0),
    positive=option(list[str], POSITIVE),
    negative=option(list[str], NEGATIVE),
    with_north_star=flag("Let the North Star itself enter the metric.", "--with-north-star"),
    **SCORECARDS,
    at=option(str, "Snapshots at this time or the last before it (default: the last)."),
    keep=flag("Keep experiments whose arms have not the planned shares.", "--keep"),
    standardise=flag("Effects in standard deviations of a user, test by test.", "--standardise"),
    rule=flag("What launching by the metric, the North Star or both would have earned.", "--rule"),
    alpha=option(float, "Level of the two-sided tests in the validation.", 0.05),
    apply=option(Path, "A log with the signals of users, to be given the metric as reward."),
    rewarded=option(Path, "Write that log here, as Parquet, with a column learnt_metric."),
    out=option(Path, "Write the metric here, as JSON."),
    force=FORCE,
    as_json=DOCUMENT,
)
def metric(tables, north_star, positive, negative, column, shares, out, force, as_json, **settings):
    """Learn a sensitive metric from past A/B tests, and check it on experiments held out.

    A table has experiment, arm, users, and for each metric mean and
    variance or std_error, a row each (column metric) or in columns
    mean_NAME, variance_NAME; or covariance (over users). It may have label
    (control; winner, loser, aa, unknown), time and share. Rows with
    control_mean, control_users, … hold both arms. The metric has unit
    standard deviation over users and excludes the North Star by default.
    With --apply, EXPERIMENTS may be a stored metric.
    """
    float64()
    log, rewarded = settings["apply"], settings["rewarded"]
    if (log is None) != (rewarded is None):
        raise ValueError("--apply LOG and --rewarded PATH: expected both or none of them")
    check_output(rewarded, [log, *tables], force, "--rewarded")
    from mopl_jax.metrics import learnt_metric, learnt_reward, metric_json
    from mopl_jax.metrics.sample_ratio import read_shares
    from mopl_jax.metrics.scorecards import read_columns
    from mopl_jax.report import metric_table

    if log is not None and len(tables) == 1 and metric_json.is_metric(tables[0]):
        made = learnt_reward.apply_stored(tables[0], log, rewarded)
        show.answer(made, as_json, metric_table.reward)
        return
    if north_star is None:
        raise ValueError(
            f"{tables[0]}: expected --north-star, the metric that the others stand for; only a"
            " stored metric (mopl metric --out) that is applied needs none"
        )
    check_output(out, tables, force)
    with show.bars(as_json) as advance:
        learnt = learnt_metric.learn_metric(
            tables,
            north_star,
            positive=positive or (),
            negative=negative or (),
            columns=read_columns(column or ()),
            shares=read_shares(shares),
            **settings,
            advance=advance,
        )
    if out is not None:
        learnt_metric.write(out, learnt)
    show.answer(learnt, as_json, metric_table.show)

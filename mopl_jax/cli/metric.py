"""`mopl metric`: the combination of metrics that would have told past experiments' winners most
clearly.
"""

from pathlib import Path

from mopl_jax.cli import show
from mopl_jax.cli.options import (
    DOCUMENT,
    REQUIRED,
    argument,
    check_output,
    flag,
    float64,
    option,
    takes,
)

OBJECTIVE = "One of mean_z, mean_p, log_p, p_log_p, gls, proxy."
L1 = "Penalty on the sum of |weights|; more is sparser. Not for gls, proxy."
NORTH_STAR = "The metric that the others stand for."
POSITIVE = "Metric whose weight may not be negative; repeat for several."
NEGATIVE = "Metric whose weight may not be positive; repeat for several."


@takes(
    tables=argument(list[Path], "EXPERIMENTS...", "Experiments table: .parquet or .json."),
    north_star=option(str, NORTH_STAR, REQUIRED, show_default=False),
    objective=option(str, OBJECTIVE, "gls"),
    compare=flag("Also validate every other objective.", "--compare"),
    l1=option(float, L1, 0.0),
    positive=option(list[str], POSITIVE),
    negative=option(list[str], NEGATIVE),
    with_north_star=flag("Let the North Star itself enter the metric.", "--with-north-star"),
    alpha=option(float, "Level of the two-sided tests in the validation.", 0.05),
    out=option(Path, "Write the metric here, as JSON."),
    as_json=DOCUMENT,
)
def metric(tables, north_star, positive, negative, out, as_json, **settings):
    """Learn a sensitive metric from past A/B tests, and check it on experiments held out.

    The table has one row for each experiment and arm: experiment, arm,
    label (control; winner, loser, aa, unknown), n, mean_NAME for each
    metric, covariance (over users) or second_moment. The metric has unit
    standard deviation over users and excludes the North Star by default.
    """
    float64()
    if out is not None:
        check_output(out, tables)
    from mopl_jax.metrics import learnt_metric
    from mopl_jax.report import metric_table

    with show.bars(as_json) as advance:
        learnt = learnt_metric.learn_metric(
            tables,
            north_star,
            positive=positive or (),
            negative=negative or (),
            **settings,
            advance=advance,
        )
    if out is not None:
        learnt_metric.write(out, learnt)
    show.answer(learnt, as_json, metric_table.show)

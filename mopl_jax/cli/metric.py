"""`mopl metric`: the combination of metrics that would have told past experiments' winners most
clearly.
"""

from pathlib import Path
from typing import Annotated

import typer

from mopl_jax.cli import show
from mopl_jax.cli.options import Document, float64, option

Names = list[str] | None


def metric(
    tables: Annotated[
        list[Path],
        typer.Argument(metavar="EXPERIMENTS...", help="Experiments table: .parquet or .json."),
    ],
    north_star: Annotated[str, option("The metric that the others stand for.", show_default=False)],
    objective: Annotated[str, option("One of mean_z, mean_p, log_p, p_log_p, gls, proxy.")] = "gls",
    compare: Annotated[bool, option("Also validate every other objective.", "--compare")] = False,
    l1: Annotated[
        float, option("Penalty on the sum of |weights|; more is sparser. Not for gls, proxy.")
    ] = 0.0,
    positive: Annotated[
        Names, option("Metric whose weight may not be negative; repeat for several.")
    ] = None,
    negative: Annotated[
        Names, option("Metric whose weight may not be positive; repeat for several.")
    ] = None,
    with_north_star: Annotated[
        bool, option("Let the North Star itself enter the metric.", "--with-north-star")
    ] = False,
    alpha: Annotated[float, option("Level of the two-sided tests in the validation.")] = 0.05,
    out: Annotated[Path | None, option("Write the metric here, as JSON.")] = None,
    as_json: Document = False,
) -> None:
    """Learn a sensitive metric from past A/B tests, and check it on experiments held out.

    The table has one row for each experiment and arm: experiment, arm,
    label (control; winner, loser, aa, unknown), n, mean_NAME for each
    metric, covariance (over users) or second_moment. The metric has unit
    standard deviation over users and excludes the North Star by default.
    """
    float64()
    from mopl_jax.metrics import learnt_metric
    from mopl_jax.report import metric_table

    with show.bars(as_json) as advance:
        learnt = learnt_metric.learn_metric(
            tables,
            north_star,
            objective=objective,
            compare=compare,
            l1=l1,
            positive=positive or (),
            negative=negative or (),
            with_north_star=with_north_star,
            alpha=alpha,
            advance=advance,
        )
    if out is not None:
        learnt_metric.write(out, learnt)
    if as_json:
        show.print_json(learnt.to_dict())
    else:
        metric_table.show(learnt)

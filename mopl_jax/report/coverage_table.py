"""A coverage study as it is printed: the largest ratio first, then a table for each cell."""

from pathlib import Path

from mopl_jax.coverage.results import LEVEL
from mopl_jax.coverage.run import CoverageStudy
from mopl_jax.report import terminal
from mopl_jax.report.terminal import count, number

LEGEND = (
    f"from n: the smallest n from which coverage stays at {LEVEL} or more · × fewer: how many times"
    " fewer rows than normal that takes (≥ where the study's sizes do not bracket it) · at n,"
    " worst: coverage ± half its 95 % Wilson (Monte-Carlo) interval · width: median over the width"
    " of a normal interval that knows the estimator's standard deviation, at the largest n\n"
)


def show(found: CoverageStudy, folder: Path) -> None:
    """The largest ratio, a table for each cell of the study, and what the columns are."""
    out, best, lines = terminal.console(), found.best, found.summaries
    if best is not None:
        out.print(
            f"Largest sample-size ratio to normal: {'' if best.ratio_exact else 'at least '}"
            f"{count(best.ratio)}, by {best.interval} ({best.world}, d={best.d},"
            f" {best.estimand}).\n"
        )
    for cell in dict.fromkeys(line.cell for line in lines):
        out.print(_table(*cell, [line for line in lines if line.cell == cell]))
    out.print(LEGEND, style="dim")
    out.print(
        f"{found.provenance['seconds']:.0f} s. Written: {folder}/results.parquet, coverage.png,"
        " coverage.svg"
    )


def _table(world, d, estimand, estimator, lines):
    first, last = lines[0].first, lines[0].last
    logs, ess = f"{first['replicates']:,} logs", f"ESS {last['ess_median']:,.0f} at n={last['n']:,}"
    headers = ("from n", "× fewer", f"at n={first['n']:,}", f"at n={last['n']:,}", "worst", "width")
    title = f"{world}, d={d}: {estimand} by {estimator} ({logs}; {ess})"
    table = terminal.table("interval", *headers, title=title)
    for line in lines:
        least = "" if line.ratio_exact else "≥ "
        table.add_row(
            line.interval,
            "never" if line.holds_from is None else f"{line.holds_from:,}",
            "" if line.ratio != line.ratio else f"{least}{line.ratio:,.4g}",
            *map(_coverage, (line.first, line.last, line.worst)),
            number(line.last["width_ratio"]),
        )
    return table


def _coverage(row):
    """Coverage ± half the Wilson interval."""
    return f"{row['coverage']:.3f} ±{(row['coverage_high'] - row['coverage_low']) / 2:.3f}"

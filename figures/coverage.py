"""Coverage and width of confidence intervals against the number of logged rows: the headline."""

from matplotlib.figure import Figure

from figures import coverage_figure, results

SHOWN = ("normal", "ess_bessel", "ess_rescaled", "ess_student", "ess_exact", "ess_safe")


def draw() -> Figure:
    """The reference world in three dimensions, and the difference of two policies."""
    rows = [
        row
        for row in results("coverage")
        if row["world"] == "reference" or " - " in row["estimand"]
    ]
    return coverage_figure(rows, SHOWN)

"""A comparison as a screen: differences and verdicts first, then the values."""

import math

from mopl_jax.evaluation.result import POWER, Comparison
from mopl_jax.report import terminal


def show(made: Comparison) -> None:
    """Print a comparison."""
    out = terminal.console()
    about = f"{terminal.units(made.n, made.units)}, values by {made.estimator}"
    out.print(f"{about}, intervals {made.interval}\n")
    out.print(_table(made))
    k = len(made.policies) - 1
    if k > 1:
        out.print(
            f"all {k} differences hold at once with {1 - made.alpha:.6g}: each is at "
            f"1 − {made.alpha_each:.4f} (max-t; Bonferroni would be 1 − {made.alpha / k:.4f})"
        )
    if made.adjusted_by:
        saved = [row.difference.saved for row in made.policies if row.difference is not None]
        out.print(
            f"adjusted by {', '.join(made.adjusted_by)}: as good as {min(saved):.2f} to"
            f" {max(saved):.2f} times as many rows or users"
        )
    for text in _decisions(made):
        out.print(text)
    terminal.warn(out, made.warnings)
    for row in made.policies:
        for text in row.reasons:
            out.print(f"{row.policy}: {row.verdict}: {text}", style="yellow")


def _decisions(made):
    """The answer on each policy, one line."""
    first, unit = made.policies[0].policy, "rows" if made.units == made.n else "users"
    for row, decision in zip(made.policies, made.decisions, strict=True):
        if row.difference is not None:
            yield f"{row.policy}: {_answer(row.difference, decision, first, unit)}"


def _answer(change, decision, first, unit):
    if decision in ("better", "worse"):
        least = min(abs(change.lower), abs(change.upper))
        return f"{decision} than {first}, by at least {least:.3g}"
    if decision == "not answerable" or not math.isfinite(change.more):
        return f"{decision} from this log"
    return (
        f"not distinguishable from {first}; about {change.more:,.0f} more {unit} would tell a"
        f" difference of {change.value:+.3g} from 0 (power {POWER:.0%})"
    )


def _table(made):
    first, nominal = f"− {made.policies[0].policy}"[:14], f"{1 - made.alpha:.6g} interval"
    table = terminal.table("policy", first, "all at once", "verdict", "value", nominal, "ESS")
    table.columns[0].no_wrap, table.columns[0].max_width = False, 18
    for row, decision in zip(made.policies, made.decisions, strict=True):
        change = row.difference
        cells = ("", "")
        if change is not None:
            cells = _number(change.value, change, signed=True), _ends(change)
        if decision == "not answerable":
            cells = ("refused", "none")
        value = _number(row.value, row), _ends(row), terminal.count(row.ess)
        table.add_row(row.policy, *cells, row.verdict, *value)
    return table


def _ends(row):
    return f"[{_number(row.lower, row)}, {_number(row.upper, row)}]"


def _number(x, row, signed=False):
    """A number beside the interval of a row."""
    form = terminal.form_of((row.lower, row.upper))
    return terminal.number(x, form.replace(":", ":+") if signed else form, "undefined")

"""An evaluation as a screen: the value, its interval and the verdict first, then the details."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from mopl_jax.evaluation.result import POWER, Evaluation
from mopl_jax.evaluation.smoothing import CHOSEN
from mopl_jax.intervals.interval import NamedInterval
from mopl_jax.intervals.registry import METHODS
from mopl_jax.report import terminal


def show(made: Evaluation) -> None:
    """Print an evaluation."""
    out = terminal.console()
    units = terminal.units(made.n, made.units)
    if made.verdict == "refuse":  # before the number that is not to be used
        terminal.judge(out, made)
    value, what = number(made.value, *made.intervals), f"{_target(made)} by {made.estimator}"
    out.print(terminal.headed(value, f"  value of the {what}, {units}\n"))
    if made.smoothing is not None:
        out.print(_smoothing(made.smoothing, made.alpha) + "\n")
    out.print(interval_table(made.intervals, made.alpha))
    for text in _answers(made):
        out.print(text)
    if made.verdict != "refuse":
        terminal.judge(out, made)
    terminal.warn(out, made.warnings)
    for text in _details(made):
        out.print(text)


def _answers(made):
    """What was asked besides: what an adjustment saved, and what is missing to a goal."""
    unit = "rows" if made.units == made.n else "users"
    if made.adjustment is not None:
        columns = ", ".join(made.adjustment.columns)
        yield f"adjusted by {columns}: as good as {made.adjustment.saved:.2f} times as many {unit}"
    if made.in_log is not None:
        whole = made.in_log
        value, *ends = (number(x, whole) for x in (whole.value, whole.lower, whole.upper))
        yield f"of the whole log, old rows and new alike: {value} ({' … '.join(ends)})"
    if made.goal is None:
        return
    if made.more == 0:
        side = "above" if made.value > made.goal else "below"
        yield f"the value is {side} {made.goal:g}, with the confidence of the first interval"
    else:
        more = "no number of" if math.isinf(made.more) else f"about {made.more:,.0f} more"
        yield f"not told apart from {made.goal:g}: {more} {unit} would (power {POWER:.0%})"


def _target(made):
    return "target policy" if made.smoothing is None else "smoothed target"


def _smoothing(made, alpha):
    """How the target was smoothed, and what that does to the value and to its intervals."""
    chosen = ", ".join(f"{h:.3g}" for h in made.bandwidth)
    how = ""
    if made.selected:
        level = f"{1 - alpha / CHOSEN:.6g}"
        how = (
            " (of least estimated error, shaped by the curvature; for that choice, intervals are"
            f" those of {level})"
        )
    if math.isnan(made.bias):
        return f"smoothed by bandwidth {chosen}{how}"
    adds = f"{made.bias:+.3g} ± {made.bias_error:.1g}"
    return f"smoothed by bandwidth {chosen}{how}; that adds about {adds} to its value"


def _details(made):
    sizes, check = made.ess, made.mean_weight
    yield (
        f"\neffective sample size {sizes.kish:,.1f} = {sizes.fraction:.1%} of {made.units:,} "
        f"(max_weight {sizes.max_weight:,.1f}, perplexity {sizes.perplexity:,.1f}, "
        f"reward_aware {sizes.reward_aware:,.1f})"
    )
    known = not math.isnan(check.standard_error)
    error = f" ± {check.standard_error:.2g} (z = {check.z:.1f})" if known else ""
    verdict = "; see above" if check.compatible is False else f": {check.verdict}"
    yield f"mean weight {check.mean:.4g}{error}{verdict}"
    if not math.isnan(made.unseen):
        yield (
            f"unseen {made.unseen:.2%}: of the target's actions, those that would outweigh every "
            "logged row"
        )


def interval_table(intervals: Sequence[NamedInterval], alpha: float) -> terminal.Table:
    """Name, ends and meaning of each interval; all meanings are in docs/intervals.md."""
    table = terminal.table("interval", "lower", "upper")
    table.add_column(f"nominal coverage {1 - alpha:.6g}; made of", no_wrap=True)
    for x in intervals:
        ends = (number(end, *intervals) for end in (x.lower, x.upper))
        table.add_row(x.name, *ends, _meaning(x.name))
    return table


def number(x: float, *intervals: Any) -> str:
    """A number beside some intervals; ∞ and undefined in words."""
    form = terminal.form_of(*((each.lower, each.upper) for each in intervals))
    return terminal.number(x, form, "undefined")


def _meaning(name):
    text = METHODS[name].summary.replace("`", "")
    return textwrap.shorten(text, 56, placeholder=" …")

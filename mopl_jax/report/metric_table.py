"""A learnt metric as it is printed: what it saves first, then its weights and its errors."""

from mopl_jax.metrics.exchange import SIGNIFICANT
from mopl_jax.metrics.learnt_metric import LearntMetric
from mopl_jax.metrics.learnt_reward import Rewarded
from mopl_jax.report import terminal
from mopl_jax.report.terminal import number, share

LEGEND = (
    "held out: each experiment is judged by a metric learnt without it. agreement: sign right ·"
    " power, type II: significant with the right sign, or not at all · type III: significant with"
    " the wrong sign · p: median one-sided p-value"
)
RULES = (
    "return: the sum over treatments shipped of their effects, judged by users who had no say"
    " (cross-validated in ten folds) · naive: by those who chose · each treatment by itself, with a"
    " metric learnt without its experiment"
)
ERRORS = ("agreement", "power", "type II", "type III", "p")


def show(learnt: LearntMetric) -> None:
    """What the metric saves, its weights, and its errors on experiments held out."""
    out, found = terminal.console(), learnt.validation
    out.print(_saved(found))
    terminal.warn(out, learnt.warnings)
    out.print(_weights(learnt))
    out.print(
        f"its effects correlate {learnt.proxy_quality:.2f} with the North Star's true effects"
        f" (proxy quality, median); one unit of effect is {number(learnt.north_star_per_unit)}"
        f" of {learnt.north_star}"
    )
    out.print(_carried(learnt))
    if found.nulls:
        out.print(
            f"{found.nulls} A/A differences: {found.false_positives:.1%} significant, 95 % interval"
            f" {found.false_positives_low:.1%} to {found.false_positives_high:.1%}"
        )
    out.print(_held_out(learnt))
    if len(learnt.compared) > 1:
        out.print(_comparison(learnt.compared))
    if learnt.returns:
        out.print(_returns(learnt))
        out.print(RULES, style="dim")
    if learnt.reward is not None:
        reward(learnt.reward)
    out.print(LEGEND, style="dim")


def reward(made: Rewarded) -> None:
    """Where the log with the learnt reward is, and how a policy learnt from it is guarded."""
    out = terminal.console()
    out.print(f"{made.log}: {made.rows:,} rows with {made.column} = {made.formula}")
    if not made.guarded:
        text = f"the log has no column {made.north_star}: nothing guards what is learnt from it"
        terminal.warn(out, [text])
        return
    out.print(
        f"mean {number(made.mean)}, standard deviation {number(made.deviation)}, correlation"
        f" {number(made.correlation, '{:.2f}')} with {made.north_star}; learn by --reward"
        f" {made.column} --guardrail {made.north_star}:-1%, or guard afterwards: mopl compare"
        f" {made.log} logging NEW.json --reward {made.north_star} must not say worse"
    )


def _saved(found):
    """How many more users the North Star needs, where the experiments tell."""
    told = [
        (found.factor, found.factor_se, ""),
        (found.median_factor, found.median_factor_se, " in the median experiment"),
    ]
    known = [
        f"{_with_error(value, error)} times{where}" for value, error, where in told if error < value
    ]
    if not known:
        return (
            "how many more users than the metric the North Star needs, these experiments cannot"
            " tell: the errors are larger than the factors"
        )
    return f"for the same mean z the North Star needs the metric's users {', '.join(known)}"


def _carried(learnt):
    said = "have" if learnt.direct_effects < SIGNIFICANT else "need not have"
    return (
        f"the tests {said} effects on {learnt.north_star} beside those on the signals (test of"
        f" direct effects: p = {number(learnt.direct_effects, '{:.2g}')})"
    )


def _returns(learnt):
    head = (
        f"launch if (returns in {learnt.north_star})",
        "shipped",
        "return ± SE",
        "naive",
        "naive / return",
    )
    table = terminal.table(*head)
    for each in learnt.returns:
        value = f"{number(each.cross_validated)} ± {number(each.standard_error, '{:.2g}')}"
        ratio = number(each.flattery, "{:.2f} ×")
        table.add_row(each.rule, f"{each.shipped:,}", value, number(each.naive), ratio)
    return table


def _weights(learnt):
    table = terminal.table(f"metric ({learnt.objective})", "weight", "× its standard deviation")
    rows = zip(learnt.metrics, learnt.weights, learnt.standard_weights, strict=True)
    for name, weight, standard in sorted(rows, key=lambda row: -abs(row[2])):
        table.add_row(name, number(weight), number(standard, "{:+.4g}") if standard else "0")
    return table


def _held_out(learnt):
    found = learnt.validation
    table = terminal.table(f"{found.known} known winners, held out", *ERRORS)
    table.add_row("learnt metric", *_cells(found.metric))
    table.add_row(learnt.north_star, *_cells(found.north_star))
    table.add_row("both, Bonferroni", *_cells(found.tandem))
    return table


def _comparison(compared):
    table = terminal.table("objective", *ERRORS, "factor ± SE")
    for each in compared:
        found = each.validation
        factor = _with_error(found.factor, found.factor_se)
        table.add_row(each.objective, *_cells(found.metric), factor)
    return table


def _cells(errors):
    shares = errors.agreement, errors.power, errors.type_ii, errors.type_iii
    return *map(share, shares), number(errors.median_p, "{:.2g}")


def _with_error(value, error):
    return f"{value:.2f} ± {error:.2f}" if error < value else "unknown"

"""What screens say of a record: each number in the cell of its name, in its unit, with its sign."""

from types import SimpleNamespace as Record

import pytest

from mopl_jax.intervals.interval import NamedInterval
from mopl_jax.learning.guardrails import Change, JudgedGuardrail
from mopl_jax.report import (
    comparison_screen,
    coverage_table,
    evaluation_screen,
    loop_table,
    metric_table,
    monitor_table,
    plan_table,
    terminal,
    words,
)


def printed(capsys):
    """The lines on the screen, each as its cells."""
    return [line.split("  ") for line in capsys.readouterr().out.splitlines() if line.strip()]


def row(capsys, head):
    """The cells after the first of the line that begins so."""
    (found,) = [line for line in printed(capsys) if line[0].strip() == head]
    return [cell.strip() for cell in found[1:] if cell.strip()]


@pytest.mark.parametrize(("lower", "upper", "word"), [(0.25, 0.75, "better"), (-8, -4, "worse")])
def test_a_difference_is_at_least_its_nearer_end(lower, upper, word):
    change = Record(value=(lower + upper) / 2, lower=lower, upper=upper, more=0)
    said = comparison_screen._answer(change, word, "logging", "users")
    assert said == f"{word} than logging, by at least {min(abs(lower), abs(upper))}"


def test_a_comparison_has_differences_before_values(capsys):
    change = Record(value=-0.5, lower=-0.75, upper=-0.25, more=0, saved=2.0)
    first = Record(policy="logging", difference=None, verdict="trust", value=2.0)
    other = Record(policy="new", difference=change, verdict="caution", value=1.5, ess=40.4)
    for each in (first, other):
        vars(each).update(lower=1.0, upper=2.0, ess=40.4, reasons=())
    made = Record(policies=(first, other), decisions=("first", "worse"), alpha=0.1, n=90, units=30)
    vars(made).update(estimator="snips", interval="normal", adjusted_by=(), warnings=())
    comparison_screen.show(made)
    lines = [" ".join(" ".join(line).split()) for line in printed(capsys)]
    assert lines[0].startswith("n = 90, 30 clusters, values by snips")
    assert "0.9 interval" in lines[1]
    (said,) = [line for line in lines if line.startswith("new ")]
    assert said == "new -0.50 [-0.75, -0.25] caution 1.50 [1.00, 2.00] 40"
    assert "new: worse than logging, by at least 0.25" in lines


def coverage_row(n, coverage):
    return {
        "n": n,
        "replicates": 2000,
        "coverage": coverage,
        "coverage_low": coverage - 0.01,
        "coverage_high": coverage + 0.01,
        "ess_median": n / 4,
        "width_ratio": n / 100,
    }


def test_a_cell_of_coverage_has_first_last_and_worst(capsys):
    first, last, worst = coverage_row(8, 0.81), coverage_row(512, 0.95), coverage_row(64, 0.71)
    line = Record(first=first, last=last, worst=worst, interval="normal", holds_from=256)
    vars(line).update(ratio=16.0, ratio_exact=False)
    terminal.console().print(coverage_table._table("w", 2, "value", "snips", [line]))
    lines = printed(capsys)
    assert "2,000 logs; ESS 128 at n=512" in "".join(lines[0])
    assert [cell.strip() for cell in lines[-1] if cell.strip()] == [
        "normal",
        "256",
        "≥ 16",
        "0.810 ±0.010",
        "0.950 ±0.010",
        "0.710 ±0.010",
        "5.12",
    ]


def test_a_look_has_its_part_of_the_planned_users(capsys):
    look = Record(time="2", users=500.0, effect=0.25, lower=-0.5, upper=1.0)
    watched = Record(looks=(look,), decision="open", since=None)
    terminal.console().print(monitor_table._looks(watched, Record(planned=2000.0)))
    assert row(capsys, "2") == ["500", "25%", "+0.25", "-0.5 to +1"]


def test_a_round_has_both_p_values_in_their_columns():
    done = Record(users=1e5, ess=5e4, gain=0.3, bound=0.1, p=0.02, north_p=0.4, adopted=False)
    played = Record(number=3, done=done, true_gain=-0.25)
    cells = ("3", "100,000", "50,000", "0.3000", "0.1000", "0.02", "0.4", "test: keep", "-0.2500")
    assert loop_table._cells(played) == cells
    assert loop_table.HEADERS[4:7] == ("bound", "p", "p {north}")
    done.p = None
    assert loop_table._cells(played)[7] == "keep"


PLANNED = {
    "power": "power to certify the {gain}",
    "rows_for_power": "rows for the power wanted",
    "total_cost": "cost of exploring, n decisions",
    "cost": "cost of exploring, a decision",
    "gain_standard_error": "standard error, {gain}",
    "standard_error": "standard error, target's value",
    "gain_width": "interval width, {gain}",
    "ess": "effective sample size",
    "d2": "d₂ = E w²",
    "w_max": "largest weight w_max",
}


def test_every_number_of_a_plan_has_its_own_words():
    rows = {field: label for field, label, _ in plan_table.ROWS}
    assert {field: rows[field] for field in PLANNED} == PLANNED
    forms = {field: form for field, _, form in plan_table.ROWS}
    assert (forms["power"](0.5), forms["ess"](0.5), forms["cost"](0.5)) == ("50.0%", "0", "0.5")


def test_an_interval_names_its_coverage_and_both_ends(capsys):
    table = evaluation_screen.interval_table([NamedInterval("normal", 0.25, 0.75)], 0.2)
    terminal.console().print(table)
    header, _, cells = printed(capsys)
    assert "nominal coverage 0.8; made of" in "".join(header)
    assert [cell.strip() for cell in cells if cell.strip()][:3] == ["normal", "0.25", "0.75"]


@pytest.mark.parametrize(("more", "goal", "said"), [(0, 0.5, "below"), (0, 0.1, "above")])
def test_a_goal_is_above_or_below_the_value(more, goal, said):
    made = Record(units=9, n=9, adjustment=None, in_log=None, goal=goal, more=more, value=0.3)
    (line,) = evaluation_screen._answers(made)
    assert line == f"the value is {said} {goal}, with the confidence of the first interval"


def test_errors_of_a_metric_are_in_the_order_of_their_names():
    errors = Record(agreement=0.9, power=0.6, type_ii=0.3, type_iii=0.1, median_p=0.02)
    assert metric_table.ERRORS == ("agreement", "power", "type II", "type III", "p")
    assert metric_table._cells(errors) == ("90.0%", "60.0%", "30.0%", "10.0%", "0.02")


def test_a_factor_whose_error_is_larger_is_not_said():
    found = Record(factor=3.0, factor_se=1.0, median_factor=2.0, median_factor_se=2.5)
    assert metric_table._saved(found).endswith("the metric's users 3.00 ± 1.00 times")
    found.factor_se = 3.0
    assert "cannot tell" in metric_table._saved(found)


@pytest.mark.parametrize(("text", "sign"), [("revenue:-0.5%", "≥"), ("reports:+1%", "≤")])
def test_a_guardrail_is_certain_on_the_side_that_it_guards(text, sign):
    change = Change(production=2.0, change=0.125, certain=0.25, allowed=0.5)
    each = JudgedGuardrail(text, binds=False, promised_without=1.0, holds=False, change=change)
    cells = [text, "2", "0.125", f"{sign} 0.25", f"{sign} 0.5", "no", "no more"]
    assert words._guardrail(each) == cells

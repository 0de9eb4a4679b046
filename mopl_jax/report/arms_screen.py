"""What `mopl learn` shows of a log of arms: the advice, then each arm beside what is played now."""

from pathlib import Path

from mopl_jax.learning.chosen_arm import ChosenArm
from mopl_jax.report import terminal
from mopl_jax.report.words import guardrails_table

BETWEEN = (
    "of weights between the arms no row was played, and nothing is certain of them: to search"
    " there, randomise around an arm (kind normal) and learn from that log"
)


def show(made: ChosenArm, out: Path) -> None:
    """Advice, arms, what the bounds mean, why it is not trust."""
    console = terminal.console()
    terminal.advise(console, made)
    console.print(_table(made))
    if made.guardrails:
        console.print(f"guardrails under arm {made.chosen.number}:")
        console.print(terminal.filled(*guardrails_table(made)))
    console.print(
        f"{terminal.units(made.n, made.units)}, values by {made.estimator}; all {_gain(made)}s are"
        f" at least so much with confidence {1 - made.alpha:.6g}"
    )
    console.print(BETWEEN, soft_wrap=True)
    terminal.judge(console, made)
    terminal.warn(console, made.warnings, head="")
    kept = ", which is not to be played" if made.keep else ""
    console.print(f"Written: {out}: arm {made.chosen.number}{kept}", soft_wrap=True)


def _gain(made):
    return "saving" if made.minimise else "gain"


def _table(made):
    """What is played now, then the arms from the one with the largest certain gain down."""
    table = terminal.table(
        "arm", *made.objectives, "value", _gain(made), "at least", "ESS", *_kept(made)
    )
    value = terminal.number(made.value_now, "{:.5g}", "undefined")
    table.add_row(made.now, *[""] * len(made.objectives), value, "", "", "", *_kept(made, ""))
    for arm in sorted(made.arms, key=lambda arm: -arm.certified_gain):
        ends = (terminal.number(x) for x in (arm.gain, arm.certified_gain))
        value = terminal.number(arm.value, "{:.5g}", "undefined")
        weights = (f"{x:.4g}" for x in arm.action)
        held = ", ".join(f"not {text}" for text in made.broken_by(arm)) or "hold"
        table.add_row(
            str(arm.number), *weights, value, *ends, terminal.count(arm.ess), *_kept(made, held)
        )
    return table


def _kept(made, text="guardrails"):
    """The cell of the guardrails, where there are any."""
    return [text] if made.guardrails else []

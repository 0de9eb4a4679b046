"""A running test as it is printed: what is decided first, then the last looks."""

from mopl_jax.metrics.monitoring import Monitored, Watched
from mopl_jax.report import terminal
from mopl_jax.report.terminal import count, number

SHOWN = 5  # looks of each treatment and outcome
STYLES = {"better": "green", "worse": "red", "open": "bold"}


def show(found: Monitored) -> None:
    """A line for each treatment and outcome, and its last looks."""
    out = terminal.console()
    terminal.warn(out, found.warnings)
    if found.metric is not None:
        out.print(f"learnt_metric = {found.metric}")
    for each in found.tests:
        out.print(terminal.Text(f"{_whose(each)}: ").append(_decided(each), STYLES[each.decision]))
        out.print(_looks(each, found))
    out.print(
        f"{1 - found.alpha:.0%} intervals by {found.bound}, of all treatments and outcomes of a"
        f" test, at all looks together; {count(found.planned)} users are planned",
        style="dim",
    )


def _whose(each: Watched):
    return f"{each.experiment}, {each.arm}, {each.outcome}"


def _decided(each):
    if each.decision == "open":
        return "open, go on"
    return each.decision + ("" if each.since is None else f" since {each.since}")


def _looks(each, found):
    shown = each.looks[-SHOWN:]
    time = "time" if len(shown) == len(each.looks) else f"time (last of {len(each.looks)} looks)"
    rows = (
        (
            look.time or "",
            count(look.users),
            f"{look.users / found.planned:.0%}",
            number(look.effect, "{:+.4g}"),
            f"{number(look.lower, '{:+.4g}')} to {number(look.upper, '{:+.4g}')}",
        )
        for look in shown
    )
    return terminal.filled((time, "users", "part of the planned", "effect", "interval"), rows)

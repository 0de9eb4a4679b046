"""A plan as it is printed: what is decided by first, a column for each way of exploring."""

from mopl_jax.diagnostics.verdicts import CAUTION_ESS
from mopl_jax.learning.space import WEIGHTS
from mopl_jax.planning.designs import Plan
from mopl_jax.policies.soft_clip import SoftClip
from mopl_jax.report import terminal
from mopl_jax.report.terminal import count, number, share

ROWS = (  # what is decided by comes first: power, rows, cost
    ("power", "power to certify the {gain}", share),
    ("rows_for_power", "rows for the power wanted", count),
    ("certified_regret", "certified regret, horizon", number),
    ("best_rows", "rows of least certified regret", count),
    ("total_cost", "cost of exploring, n decisions", number),
    ("cost", "cost of exploring, a decision", number),
    ("gain_width", "interval width, {gain}", number),
    ("gain_standard_error", "standard error, {gain}", number),
    ("standard_error", "standard error, target's value", number),
    ("ess", "effective sample size", count),
    ("ess_share", "effective sample size / n", share),
    ("rows_for_ess", "rows for {few:.0f} effective", count),
    ("scale", "exploration scale (standard deviation)", number),
    ("d2", "d₂ = E w²", number),
    ("w_max", "largest weight w_max", number),
    ("in_box", "target's mass where logging plays", share),
)


def show(made: Plan) -> None:
    """The table of designs, their warnings, and what the pilot told."""
    out, assumed = terminal.console(), made.assumed
    noun = "saving" if made.minimise else "gain"
    gain = "" if assumed.gain is None else f", {noun} {number(assumed.gain)}"
    length = sum(float(x) ** 2 for x in assumed.step) ** 0.5
    out.print(
        f"step of length {length:.4g} in {len(assumed.step)}"
        f" weights{gain}, noise {assumed.noise:.4g}, n = {assumed.n:,}, α ="
        f" {assumed.alpha:g} one-sided, power wanted {assumed.power:.0%}"
    )
    if made.space != WEIGHTS:
        out.print(_planned_of(made.space))
    table = terminal.table("logging", *(x.name.replace(", ", ",\n") for x in made.designs))
    for field, label, form in ROWS:
        values = [getattr(design, field) for design in made.designs]
        if any(value is not None for value in values):
            table.add_row(label.format(few=CAUTION_ESS, gain=noun), *map(form, values))
    out.print(table)
    terminal.warn(out, made.warnings)
    if made.pilot is not None:
        out.print(_pilot_table(made))


def _planned_of(space):
    """What steps and scales are of, in a line."""
    if space.clipped is not None:
        return (
            "of weights clipped as the pilot's: steps and scales are of what is drawn before,"
            " slopes and curvature of what is played"
        )
    what = f"{space.name} of the weights"
    if isinstance(space.map, SoftClip):
        what = "weights before a smooth map keeps them between the pilot's bounds"
    return f"of the {what}: steps and scales, and what is called normal"


def _pilot_table(made):
    told = made.pilot
    table = terminal.table("pilot: weight", "slope", "curvature")
    curvature = zip(told.curvature.diagonal(), told.curvature_se.diagonal(), strict=True)
    slope = zip(told.slope, told.slope_se, strict=True)
    names = made.objectives or [str(k + 1) for k in range(len(told.slope))]
    if made.space.clipped is None and made.objectives:
        names = made.space.labels(made.objectives)
    for name, along, bend in zip(names, slope, curvature, strict=True):
        table.add_row(name, _with_error(*along), _with_error(*bend))
    return table


def _with_error(value, error):
    text = number(float(value))
    return text if text == "unknown" else f"{text} ± {float(error):.2g}"

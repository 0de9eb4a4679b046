"""`mopl plan`: what an exploration log will be able to say, and what it will cost, before traffic
is spent.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from mopl_jax import planning
from mopl_jax.cli.options import check_alpha
from mopl_jax.diagnostics import verdicts
from mopl_jax.estimators import divergence
from mopl_jax.io.policy_json import finite, read_policy
from mopl_jax.io.read import read_logs
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.uniform import Uniform

ROWS: tuple[tuple[str, str, str], ...] = (
    ("scale", "exploration scale (standard deviation)", "{:.4g}"),
    ("d2", "d₂ = E w²", "{:.4g}"),
    ("w_max", "largest weight w_max", "{:.4g}"),
    ("in_box", "target's mass where logging plays", "{:.1%}"),
    ("ess", "effective sample size", "{:,.0f}"),
    ("ess_share", "effective sample size / n", "{:.2%}"),
    ("standard_error", "standard error, target's value", "{:.4g}"),
    ("gain_standard_error", "standard error, gain", "{:.4g}"),
    ("gain_width", "interval width, gain", "{:.4g}"),
    ("power", "power to certify the gain", "{:.1%}"),
    ("rows_for_power", "rows for the power wanted", "{:,.0f}"),
    ("rows_for_ess", "rows for {few:.0f} effective", "{:,.0f}"),
    ("cost", "cost of exploring, a decision", "{:.4g}"),
    ("total_cost", "cost of exploring, n decisions", "{:.4g}"),
    ("certified_regret", "certified regret, horizon", "{:.4g}"),
    ("best_rows", "rows of least certified regret", "{:,.0f}"),
)
OptionalFloat = float | None


def plan(
    d: Annotated[
        int | None,
        typer.Option(help="Number of weights; not needed where a vector or a pilot tells."),
    ] = None,
    current: Annotated[
        str | None, typer.Option(help="Weights in production, as 1,0.5,2. Default: zeros.")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="Exploration standard deviation: one number, or one a weight.")
    ] = "1",
    covariance: Annotated[
        Path | None,
        typer.Option(
            help="Policy in JSON (kind normal) whose covariance is explored instead of --scale."
        ),
    ] = None,
    step: Annotated[
        str, typer.Option(help="Change of the weights hoped for: a vector, or its length.")
    ] = "0.5",
    target_scale: Annotated[
        str, typer.Option(help="Smoothing of target and production, like --scale.")
    ] = "0.5",
    gain: Annotated[
        OptionalFloat, typer.Option(help="North Star gain hoped for; by default the pilot's.")
    ] = None,
    noise: Annotated[
        OptionalFloat,
        typer.Option(help="Standard deviation of the reward; default: the pilot's, or 1."),
    ] = None,
    curvature: Annotated[
        str | None,
        typer.Option(
            help="Curvature C of the surface, ½xᵀCx lost at x: a number, or one a weight."
        ),
    ] = None,
    n: Annotated[int, typer.Option(help="Decisions logged.")] = 100_000,
    horizon: Annotated[
        OptionalFloat, typer.Option(help="Decisions that will follow the change.")
    ] = None,
    alpha: Annotated[
        float, typer.Option(help="One-sided level of the certificate; the interval is 1 − 2α.")
    ] = 0.05,
    power: Annotated[float, typer.Option(help="Probability wanted to certify the gain.")] = 0.8,
    pilot: Annotated[
        Path | None, typer.Option(help="Log to estimate slope, noise and curvature from.")
    ] = None,
    reward: Annotated[str, typer.Option(help="Pilot: column of the reward.")] = "reward",
    action: Annotated[
        str, typer.Option(help="Pilot: prefix of the weight columns, or their list column.")
    ] = "action_",
    logging: Annotated[
        Path | None, typer.Option(help="Pilot: its logging policy in JSON, if no propensities.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, nothing else.")
    ] = False,
) -> None:
    """How many decisions must be explored, how widely, and at what cost?

    Compares, for one step of the weights: normal logging, uniform logging
    of the same variance, normal logging with the most effective rows, and,
    with --curvature and --horizon, that of least certified regret. Gains
    are of target N(current + step, s²) over production N(current, s²) on
    the same rows, by SNIPS. Asymptotic: few effective rows are flagged.
    """
    jax.config.update("jax_enable_x64", True)
    check_alpha(alpha)
    _check_level(power, "--power")
    _check_positive(n, "--n")
    _check_positive(horizon, "--horizon")
    _check_positive(noise, "--noise")
    _check_positive(gain, "--gain")
    explored = None if covariance is None else _covariance(covariance)
    rows = (
        None if pilot is None else read_logs(pilot, reward=reward, action=action, logging=logging)
    )
    vectors = {
        "--current": current,
        "--scale": scale,
        "--step": step,
        "--target-scale": target_scale,
    }
    vectors |= {"--curvature": curvature}
    numbers = {
        option: _numbers(text, option) for option, text in vectors.items() if text is not None
    }
    d = _dimension(d, numbers, explored, rows)
    report = planned(
        current=_vector(numbers.get("--current", np.zeros(1)), d, "--current"),
        scale=_positive_vector(numbers["--scale"], d, "--scale"),
        covariance=explored,
        step=numbers["--step"],
        target_scale=_positive_vector(numbers["--target-scale"], d, "--target-scale"),
        gain=gain,
        noise=noise,
        curvature=(
            None
            if curvature is None
            else np.diag(_vector(numbers["--curvature"], d, "--curvature"))
        ),
        n=n,
        horizon=horizon,
        alpha=alpha,
        power=power,
        pilot=rows,
    )
    if as_json:
        print(json.dumps(finite(report), allow_nan=False))
    else:
        _show(report, Console(width=100))


def planned(
    *,
    current,
    scale,
    covariance,
    step,
    target_scale,
    gain,
    noise,
    curvature,
    n,
    horizon,
    alpha,
    power,
    pilot,
) -> dict[str, Any]:
    """What `mopl plan` says, as plain Python: `designs`, one column each by name, `assumed`,
    `pilot`, `warnings`.
    """
    found = None
    if pilot is not None:
        found = planning.surface(
            jnp.asarray(pilot.action), jnp.asarray(pilot.reward), jnp.asarray(current)
        )
    shift = _step(step, current.size, found)
    slope, gain = _slope(shift, gain, found)
    noise = (
        float(found.noise)
        if noise is None and found is not None
        else 1.0
        if noise is None
        else noise
    )
    curvature = _curved(found) if curvature is None else curvature
    target, production = (
        Gaussian.diagonal(jnp.asarray(mean), target_scale) for mean in (current + shift, current)
    )
    loggers = _loggers(
        current, scale, covariance, target, production, slope, noise, curvature, n, horizon, alpha
    )
    facts = {"slope": slope, "noise": noise, "gain": gain, "n": n, "alpha": alpha, "power": power}
    facts |= {"curvature": curvature, "horizon": horizon}
    assumed = {"current": current, "step": shift, "target_scale": target_scale, **facts}
    report = {
        "designs": {
            name: jax.tree.map(float, _facts(logging, target, production, **facts))
            for name, logging in loggers.items()
        },
        "assumed": {key: value for key, value in assumed.items() if value is not None},
        "pilot": None if found is None else {field: getattr(found, field) for field in _PILOT},
    }
    return report | {"warnings": _warnings(report, found)}


_PILOT = ("slope", "slope_se", "noise", "curvature", "curvature_se")


# Designs.


def _loggers(
    current, scale, covariance, target, production, slope, noise, curvature, n, horizon, alpha
):
    """The logging policies compared, by name; the widened ones keep the shape of the one asked
    for.
    """
    centre = jnp.asarray(current)
    normal = (
        Gaussian.diagonal(centre, scale)
        if covariance is None
        else Gaussian.full(centre, covariance)
    )
    loggers: dict[str, Any] = {"normal": normal}
    if covariance is None:
        loggers["uniform"] = Uniform(
            centre - math.sqrt(3) * normal.scale, centre + math.sqrt(3) * normal.scale
        )
    loggers["normal, most ESS"] = _densest(normal, target)
    if curvature is not None and horizon is not None:
        world = slope, noise, jnp.asarray(curvature), n, horizon, alpha
        loggers["normal, least regret"] = _thriftiest(normal, target, production, *world)
    return loggers


@jax.jit
def _densest(normal, target):
    return _widened(normal, lambda logging: 1 / planning.ess_share(logging, target), target)


@jax.jit
def _thriftiest(normal, target, production, slope, noise, curvature, n, horizon, alpha):
    def regret(logging):
        cost = planning.exploration_cost(curvature, logging.covariance)
        variance = planning.variance(logging, target, slope, noise, production)
        return planning.certified_regret(n, cost, variance, horizon, alpha)

    return _widened(normal, regret, target)


def _widened(normal, loss, target):
    """The multiple of a normal policy with the least loss, between a third of the target's scale
    and ten times its reach.
    """
    own = jnp.exp(jnp.mean(jnp.log(jnp.linalg.eigvalsh(normal.covariance)))) ** 0.5
    reach = jnp.linalg.norm(target.mean - normal.mean) + jnp.max(target.scale)
    span = 0.3 * jnp.min(target.scale) / own, 10 * reach / own
    return Gaussian(
        normal.mean,
        normal.scale
        * planning.least(lambda s: loss(Gaussian(normal.mean, s * normal.scale)), *span),
    )


@jax.jit
def _facts(logging, target, production, *, slope, noise, gain, n, alpha, power, curvature, horizon):
    """Every row of the table that is known, for one logging policy."""
    share = planning.ess_share(logging, target)
    alone = planning.variance(logging, target, slope, noise)
    difference = planning.variance(logging, target, slope, noise, production)
    error = jnp.sqrt(difference / n)
    facts = {
        "scale": _scale(logging),
        "d2": 1 / share,
        "w_max": divergence.population_max_weight(logging, target),
        "in_box": planning.coverage_of_box(logging, target),
        "ess": n * share,
        "ess_share": share,
        "standard_error": jnp.sqrt(alone / n),
        "gain_standard_error": error,
        "gain_width": -2 * jax.scipy.special.ndtri(alpha) * error,
        "rows_for_ess": verdicts.CAUTION_ESS / share,
    }
    if gain is not None:
        facts["power"] = planning.power(gain, error, alpha)
        facts["rows_for_power"] = jnp.ceil(planning.rows_needed(gain, difference, alpha, power))
    if curvature is not None:
        cost = planning.exploration_cost(
            jnp.asarray(curvature), jnp.asarray(_covariance_of(logging))
        )
        facts |= {"cost": cost, "total_cost": n * cost}
        if horizon is not None:
            facts["certified_regret"] = planning.certified_regret(
                n, cost, difference, horizon, alpha
            )
            facts["best_rows"] = planning.best_rows(cost, difference, horizon, alpha)
    return facts


def _covariance_of(logging):
    return (
        logging.covariance
        if isinstance(logging, Gaussian)
        else jnp.diag(jnp.square(logging.high - logging.low) / 12)
    )


def _scale(logging):
    """Root mean variance of a weight."""
    return jnp.sqrt(jnp.mean(jnp.diagonal(_covariance_of(logging))))


# What is assumed of the surface.


def _step(step, d, found):
    """The step as a vector; a length goes along the pilot's slope, or spreads evenly over the
    weights.
    """
    if step.size == d and d > 1:
        shift = step
    elif step.size == 1:
        along = np.asarray(found.slope) if found is not None else np.ones(d)
        shift = step[0] * along / np.linalg.norm(along)
    else:
        raise ValueError(f"--step: expected a length or {d} numbers, got {step.size} numbers")
    if not np.any(shift):
        raise ValueError(
            "--step: expected a step that is not zero; without one there is nothing to certify"
        )
    return shift


def _slope(shift, gain, found):
    """Slope and gain: the pilot's; or the smallest slope that gives the gain; or none, and power is
    not told.
    """
    if found is None:
        slope = (
            jnp.zeros(shift.size) if gain is None else jnp.asarray(gain * shift / (shift @ shift))
        )
        return slope, gain
    bend = (
        0.0
        if bool(jnp.isnan(found.curvature).any())
        else float(0.5 * shift @ found.curvature @ shift)
    )
    pilot = float(found.slope @ shift) - bend
    if gain is None and pilot <= 0:
        raise ValueError(
            f"--step: the pilot expects a loss of {-pilot:.4g} from it; give another --step, or a"
            " --gain"
        )
    return found.slope, pilot if gain is None else gain


def _curved(found):
    return (
        None
        if found is None or bool(jnp.isnan(found.curvature).any())
        else np.asarray(found.curvature)
    )


def _warnings(report, found):
    texts = []
    for name, facts in report["designs"].items():
        if facts["ess"] < verdicts.CAUTION_ESS:
            texts.append(
                f"{name}: {facts['ess']:.1f} effective rows; widths and power are asymptotic,"
                " expect worse"
            )
        if math.isinf(facts["w_max"]):
            texts.append(
                f"{name}: weights are unbounded (target wider than logging); a log will show too"
                " small an error"
            )
        if facts["in_box"] < 0.95:
            texts.append(
                f"{name}: only {facts['in_box']:.0%} of the target lies in the box; the rest cannot"
                " be evaluated"
            )
        if facts.get("cost", 0) < 0:
            texts.append(
                f"{name}: exploring costs less than nothing: the curvature is not that of a"
                " maximum, or noise"
            )
    if found is not None and bool(jnp.isnan(found.curvature).any()):
        texts.append(
            "the pilot has too few rows for the curvature; give --curvature to cost the exploration"
        )
    return texts


# The options.


def _numbers(text, option):
    try:
        values = np.array([float(part) for part in text.split(",")])
    except ValueError:
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise ValueError(f"{option}: expected numbers separated by commas, got {text!r}")
    return values


def _dimension(d, numbers, explored, rows):
    """d, of whatever tells it; ValueError if two disagree or none does."""
    told = {option: values.size for option, values in numbers.items() if values.size > 1}
    told |= {} if d is None else {"--d": d}
    told |= {} if explored is None else {"--covariance": len(explored)}
    told |= {} if rows is None else {"--pilot": rows.action.shape[1]}
    if len(set(told.values())) > 1:
        raise ValueError(
            "expected one number of weights, got"
            f" {', '.join(f'{v} by {k}' for k, v in told.items())}"
        )
    if not told:
        raise ValueError(
            "expected the number of weights, got none; give --d, a vector of weights or a --pilot"
        )
    return _check_positive(next(iter(told.values())), next(iter(told)))


def _vector(values, d, option):
    if values.size not in (1, d):
        raise ValueError(f"{option}: expected one number or {d}, got {values.size}")
    return np.broadcast_to(values, d).copy()


def _positive_vector(values, d, option):
    if not (values > 0).all():
        raise ValueError(f"{option}: expected standard deviations > 0, got {values.min():g}")
    return _vector(values, d, option)


def _check_positive(value, option):
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ValueError(f"{option}: expected a number > 0, got {value}")
    return value


def _check_level(value, option):
    if not 0 < value < 1:
        raise ValueError(
            f"{option}: expected a probability strictly between 0 and 1, got {value}; 0.8 is usual"
        )


def _covariance(path):
    policy, _ = read_policy(path)
    if not isinstance(policy, Gaussian):
        raise ValueError(
            f"{path}: expected a policy of kind 'normal', got another; write mean and covariance"
        )
    return np.asarray(policy.covariance)


# Showing.


def _show(report, console):
    assumed = report["assumed"]
    gain = f", gain {assumed['gain']:.4g}" if "gain" in assumed else ""
    console.print(
        f"step of length {np.linalg.norm(assumed['step']):.4g} in {len(assumed['step'])}"
        f" weights{gain}, noise {assumed['noise']:.4g}, n = {assumed['n']:,}, α ="
        f" {assumed['alpha']:g} one-sided, power wanted {assumed['power']:.0%}"
    )
    if report["pilot"] is not None:
        console.print(_pilot_table(report["pilot"]))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("logging", no_wrap=True)
    for name in report["designs"]:
        table.add_column(name, justify="right")
    for key, label, form in ROWS:
        if any(key in facts for facts in report["designs"].values()):
            cells = [_cell(facts.get(key), form) for facts in report["designs"].values()]
            table.add_row(label.format(few=verdicts.CAUTION_ESS), *cells)
    console.print(table)
    for text in report["warnings"]:
        console.print(f"warning: {text}", style="yellow")


def _cell(value, form):
    if value is None or math.isnan(value):
        return "unknown"
    return form.format(value) if math.isfinite(value) else "∞"


def _pilot_table(found):
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("pilot: weight", "slope", "curvature"):
        table.add_column(column, justify="right", no_wrap=True)
    bend, error = np.diagonal(found["curvature"]), np.diagonal(found["curvature_se"])
    for i, (slope, slope_se) in enumerate(zip(found["slope"], found["slope_se"], strict=True)):
        curved = "unknown" if math.isnan(bend[i]) else f"{bend[i]:.4g} ± {error[i]:.2g}"
        table.add_row(str(i + 1), f"{slope:.4g} ± {slope_se:.2g}", curved)
    return table

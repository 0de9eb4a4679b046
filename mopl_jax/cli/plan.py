"""`mopl plan`: what an exploration log will be able to say, and what it will cost, before traffic
is spent.
"""

from pathlib import Path
from typing import Any

from mopl_jax.cli import options, show
from mopl_jax.cli.options import DOCUMENT, float64, numbers, option, takes

VECTORS = ("scale", "step", "target_scale", "current", "curvature")
COVARIANCE = (
    "Policy in JSON (kind normal, or the pilot's) whose covariance is explored instead of --scale."
)
SCALE = "Exploration standard deviation, one or one a weight. Default: the pilot's, or 1."
STEP = "Change of the weights hoped for: a vector, or its length. Default: half the scale."
SMOOTHING = "Smoothing of target and production, like --scale. Default: half of that."
PILOT = (
    "Log to estimate slope, noise and curvature from; of a long one a sample of the users. Of"
    " log-normal, truncated or clipped weights and of shares all but --current is of what is drawn"
    " before, as of their logarithms."
)
CURVATURE = "Curvature C of the surface, ½xᵀCx lost at x: a number, or one a weight."


@takes(
    d=option(int, "Number of weights; not needed where a vector or a pilot tells."),
    current=option(str, "Weights in production, as 1,0.5,2. Default: the pilot's mean, or zeros."),
    scale=option(str, SCALE),
    covariance=option(Path, COVARIANCE),
    step=option(str, STEP),
    target_scale=option(str, SMOOTHING),
    gain=option(float, "North Star gain hoped for; by default the pilot's."),
    noise=option(float, "Standard deviation of the reward; default: the pilot's, or 1."),
    curvature=option(str, CURVATURE),
    n=option(int, "Decisions logged.", 100_000),
    horizon=option(float, "Decisions that will follow the change."),
    alpha=option(float, "One-sided level of the certificate; the interval is 1 − 2α.", 0.05),
    power=option(float, "Probability wanted to certify the gain.", 0.8),
    minimise=options.MINIMISE,
    pilot=option(Any, PILOT, parser=options.log, metavar="LOG"),
    **options.ROLES,
    as_json=DOCUMENT,
)
def plan(covariance, pilot, as_json, **settings):
    """How many decisions must be explored, how widely, and at what cost?

    Compares, for one step of the weights: normal logging, uniform logging
    of the same variance, normal logging with the most effective rows, and,
    with --curvature and --horizon, that of least certified regret. Gains
    are of target N(current + step, s²) over production N(current, s²) on
    the same rows, by SNIPS. Asymptotic: few effective rows are flagged.
    """
    roles = {name: settings.pop(name) for name in options.ROLES}
    given = {name: settings.pop(name) for name in VECTORS if settings[name] is not None}
    settings = {name: value for name, value in settings.items() if value is not None}
    for name, text in given.items():
        settings[name] = numbers(text, f"--{name.replace('_', '-')}")
    float64()
    from mopl_jax.planning import designs
    from mopl_jax.planning.pilot_log import read_pilot
    from mopl_jax.report import plan_table

    if pilot is not None:
        settings["pilot"] = read_pilot(options.opened({"log": pilot} | roles))
    if covariance is not None:
        known = settings.get("pilot")
        settings["covariance"] = designs.explored_covariance(covariance, known)
    made = designs.plan(**settings)
    show.answer(made, as_json, plan_table.show)

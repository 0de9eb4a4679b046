"""`mopl plan`: what an exploration log will be able to say, and what it will cost, before traffic
is spent.
"""

from pathlib import Path

from mopl_jax.cli import show
from mopl_jax.cli.options import DOCUMENT, float64, numbers, option, takes

VECTORS = ("scale", "step", "target_scale", "current", "curvature")
COVARIANCE = "Policy in JSON (kind normal) whose covariance is explored instead of --scale."
CURVATURE = "Curvature C of the surface, ½xᵀCx lost at x: a number, or one a weight."


@takes(
    d=option(int, "Number of weights; not needed where a vector or a pilot tells."),
    current=option(str, "Weights in production, as 1,0.5,2. Default: zeros."),
    scale=option(str, "Exploration standard deviation: one number, or one a weight.", "1"),
    covariance=option(Path, COVARIANCE),
    step=option(str, "Change of the weights hoped for: a vector, or its length.", "0.5"),
    target_scale=option(str, "Smoothing of target and production, like --scale.", "0.5"),
    gain=option(float, "North Star gain hoped for; by default the pilot's."),
    noise=option(float, "Standard deviation of the reward; default: the pilot's, or 1."),
    curvature=option(str, CURVATURE),
    n=option(int, "Decisions logged.", 100_000),
    horizon=option(float, "Decisions that will follow the change."),
    alpha=option(float, "One-sided level of the certificate; the interval is 1 − 2α.", 0.05),
    power=option(float, "Probability wanted to certify the gain.", 0.8),
    pilot=option(Path, "Log to estimate slope, noise and curvature from."),
    reward=option(str, "Pilot: column of the reward.", "reward"),
    action=option(str, "Pilot: prefix of the weight columns, or their list column.", "action_"),
    logging=option(Path, "Pilot: its logging policy in JSON, if no propensities."),
    as_json=DOCUMENT,
)
def plan(covariance, pilot, reward, action, logging, as_json, **settings):
    """How many decisions must be explored, how widely, and at what cost?

    Compares, for one step of the weights: normal logging, uniform logging
    of the same variance, normal logging with the most effective rows, and,
    with --curvature and --horizon, that of least certified regret. Gains
    are of target N(current + step, s²) over production N(current, s²) on
    the same rows, by SNIPS. Asymptotic: few effective rows are flagged.
    """
    given = {name: settings.pop(name) for name in VECTORS if settings[name] is not None}
    settings = {name: value for name, value in settings.items() if value is not None}
    for name, text in given.items():
        settings[name] = numbers(text, f"--{name.replace('_', '-')}")
    float64()
    from mopl_jax.io.read import open_log, read_logs
    from mopl_jax.planning import designs
    from mopl_jax.report import plan_table

    names = ()
    if pilot is not None:
        reader = open_log(pilot, reward=reward, action=action, logging=logging)
        settings["pilot"], names = read_logs(reader), reader.columns.action or ()
    if covariance is not None:
        settings["covariance"] = designs.explored_covariance(covariance, names)
    made = designs.plan(**settings)
    show.answer(made, as_json, plan_table.show)

"""`mopl plan`: what an exploration log will be able to say, and what it will cost, before traffic
is spent.
"""

from pathlib import Path
from typing import Annotated, Any

from mopl_jax.cli import show
from mopl_jax.cli.options import Document, float64, numbers, option

Number = float | None
Text = str | None
File = Path | None


def plan(
    d: Annotated[
        int | None, option("Number of weights; not needed where a vector or a pilot tells.")
    ] = None,
    current: Annotated[Text, option("Weights in production, as 1,0.5,2. Default: zeros.")] = None,
    scale: Annotated[
        str, option("Exploration standard deviation: one number, or one a weight.")
    ] = "1",
    covariance: Annotated[
        File,
        option("Policy in JSON (kind normal) whose covariance is explored instead of --scale."),
    ] = None,
    step: Annotated[
        str, option("Change of the weights hoped for: a vector, or its length.")
    ] = "0.5",
    target_scale: Annotated[
        str, option("Smoothing of target and production, like --scale.")
    ] = "0.5",
    gain: Annotated[Number, option("North Star gain hoped for; by default the pilot's.")] = None,
    noise: Annotated[
        Number, option("Standard deviation of the reward; default: the pilot's, or 1.")
    ] = None,
    curvature: Annotated[
        Text, option("Curvature C of the surface, ½xᵀCx lost at x: a number, or one a weight.")
    ] = None,
    n: Annotated[int, option("Decisions logged.")] = 100_000,
    horizon: Annotated[Number, option("Decisions that will follow the change.")] = None,
    alpha: Annotated[
        float, option("One-sided level of the certificate; the interval is 1 − 2α.")
    ] = 0.05,
    power: Annotated[float, option("Probability wanted to certify the gain.")] = 0.8,
    pilot: Annotated[File, option("Log to estimate slope, noise and curvature from.")] = None,
    reward: Annotated[str, option("Pilot: column of the reward.")] = "reward",
    action: Annotated[
        str, option("Pilot: prefix of the weight columns, or their list column.")
    ] = "action_",
    logging: Annotated[
        File, option("Pilot: its logging policy in JSON, if no propensities.")
    ] = None,
    as_json: Document = False,
) -> None:
    """How many decisions must be explored, how widely, and at what cost?

    Compares, for one step of the weights: normal logging, uniform logging
    of the same variance, normal logging with the most effective rows, and,
    with --curvature and --horizon, that of least certified regret. Gains
    are of target N(current + step, s²) over production N(current, s²) on
    the same rows, by SNIPS. Asymptotic: few effective rows are flagged.
    """
    vectors: dict[str, Any] = {"scale": numbers(scale, "--scale"), "step": numbers(step, "--step")}
    vectors["target_scale"] = numbers(target_scale, "--target-scale")
    if current is not None:
        vectors["current"] = numbers(current, "--current")
    if curvature is not None:
        vectors["curvature"] = numbers(curvature, "--curvature")
    float64()
    from mopl_jax.io.read import read_logs
    from mopl_jax.planning import designs
    from mopl_jax.report import plan_table

    made = designs.plan(
        d,
        **vectors,
        covariance=None if covariance is None else designs.explored_covariance(covariance),
        gain=gain,
        noise=noise,
        n=n,
        horizon=horizon,
        alpha=alpha,
        power=power,
        pilot=None
        if pilot is None
        else read_logs(pilot, reward=reward, action=action, logging=logging),
    )
    if as_json:
        show.print_json(made.to_dict())
    else:
        plan_table.show(made)

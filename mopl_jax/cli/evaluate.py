"""`mopl evaluate`: what another policy would have earned, and whether to believe it."""

from pathlib import Path

from mopl_jax.cli import options, show

BANDWIDTH = "Smoothing of a deterministic target: a standard deviation, one a weight, or auto."
OTHER = "Column: density of the logged action under the target, ≥ 0; instead of --target."
INTERVAL = "Interval name; repeat for several. Default: recommended and normal."
EVERY = "Every interval that is a formula of sums, with its meaning."
GOAL = "A value: how many more users until it is certain that the target's is another?"
LARGEST = "Largest importance weight; known for two normal policies."


@options.takes(
    log=options.LOG,
    target=options.option(Path, "Target policy (JSON).", show_default=False),
    bandwidth=options.option(str, BANDWIDTH),
    **options.ROLES,
    **options.NEXT,
    target_propensity=options.option(str, OTHER),
    per=options.PER,
    covariate=options.COVARIATE,
    log_densities=options.flag("Both columns hold log densities.", "--log-densities"),
    estimator=options.ESTIMATOR,
    alpha=options.ALPHA,
    interval=options.option(list[str], INTERVAL),
    every=options.flag(EVERY, "--all"),
    reward_range=options.RANGE,
    w_max=options.option(float, LARGEST),
    d2=options.option(float, "Its second moment; known for two normal policies."),
    goal=options.option(float, GOAL),
    in_memory=options.IN_MEMORY,
    show_sql=options.SQL,
    as_json=options.JSON,
)
def evaluate(target, log_densities, interval, every, reward_range, as_json, **settings):
    """What would another policy have earned? Value, intervals, effective sample size, a verdict.

    The importance weights (target density over propensity) should have mean
    1; densities may be probabilities. With --cluster, the independent unit is
    the user. An infinite end of an interval claims nothing on that side.

    Exit code 0: done, perhaps with warnings. 3: the verdict is refuse; the
    numbers are printed, and should not be used.
    """
    from mopl_jax.evaluation.evaluation import FIRST
    from mopl_jax.evaluation.evaluation import evaluate as verb
    from mopl_jax.intervals.registry import WALD
    from mopl_jax.report import evaluation_screen

    options.float64()
    names = [*FIRST[:1], *WALD] if every else []
    if log_densities:
        columns = [name for name in ("propensity", "target_propensity") if settings[name]]
        settings |= {f"log_{name}": settings.pop(name) for name in columns}
    adjust = settings["covariate"] is not None
    reader = options.opened(settings)
    made = verb(
        reader,
        target,
        **settings,
        adjust=adjust,
        interval=[*names, *(interval or [])] or None,
        reward_range=options.reward_range(reward_range),
        watch=options.watched(reader, as_json),
    )
    show.answer(made, as_json, evaluation_screen.show)
    options.leave(made.verdict)

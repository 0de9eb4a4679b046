"""`mopl compare`: how much more several policies would have earned, all intervals at once."""

from pathlib import Path

from mopl_jax.cli import options, show

OTHERS = "Policies (JSON); the first is what the others are compared to."


@options.takes(
    log=options.LOG,
    policies=options.argument(list[Path], "POLICY…", OTHERS),
    bandwidth=options.option(str, "Smoothing of deterministic policies, H or one a weight: H,H,…"),
    **options.ROLES,
    **options.NEXT,
    per=options.PER,
    covariate=options.COVARIATE,
    estimator=options.ESTIMATOR,
    alpha=options.ALPHA,
    interval=options.option(str, "One made of sums over rows.", "recommended"),
    reward_range=options.RANGE,
    minimise=options.MINIMISE,
    in_memory=options.IN_MEMORY,
    show_sql=options.SQL,
    as_json=options.JSON,
)
def compare(policies, reward_range, as_json, **settings):
    """Which policy would have earned more? Differences to the first policy, with simultaneous intervals.

    The policy named logging is the one that was logging: mopl compare LOG logging NEW.json.
    Each difference is estimated on the same rows, so that what the policies share cancels.
    All intervals hold at once with probability 1 − alpha (max-t over the candidates).

    Exit code 0: done, perhaps with warnings. 3: a verdict is refuse.
    """  # noqa: E501
    from mopl_jax.evaluation.comparison import compare as verb
    from mopl_jax.report import comparison_screen

    options.float64()
    adjust = settings["covariate"] is not None
    reader = options.opened(settings)
    made = verb(
        reader,
        policies,
        **settings,
        adjust=adjust,
        reward_range=options.reward_range(reward_range),
        watch=options.watched(reader, as_json),
    )
    show.answer(made, as_json, comparison_screen.show)
    options.leave(*(row.verdict for row in made.policies))

"""`mopl learn`: new weights from a log, with a number that may be promised; keeps the current ones
where nothing is certain.
"""

from pathlib import Path
from typing import Any

import typer

from mopl_jax.cli import options, show
from mopl_jax.cli.options import option

NAMED = (
    *"seed radius production low high max_change share folds trades certificate report".split(),
    *("guardrail", "guardrails", "context", "mean", "in_memory"),
)
OPTIONS = {"trades": "pareto", "guardrails": "guardrail"}  # where they have other names
ONE_EACH = "One number for each weight, or one for all, as 0,0.5,1."
BOUND = option(str, ONE_EACH, metavar="A,B,…")
MAX_CHANGE = "Largest change of each weight from production."
RADIUS = "Trust region: of the mean, in logged standard deviations (KL = radius²/2)."
OUT = "Artifact: the learnt policy (JSON), for mopl evaluate --target."
FOLDS = "Cross-fit: so many folds, each certified by what the others teach (default: 4)."
SHARE = "Instead: share of the users (rows) kept for the certificate."
GUARDRAIL = "Outcome and what it may lose: revenue:-0.5%, reports:+0.01; repeat for several."
CONTEXT = "Columns that weights may depend on: country,platform."
MEAN = "With --context: weights by table (of segments), linear or network in numbers."
KEPT = ("constraints", "production", "alpha", "estimator", "minimise", "reward_range")  # of arms
PARETO = "So many policies that trade the first guardrail's outcome for the reward."


@options.takes(
    log=options.LOG,
    out=option(Path, OUT, Path("learnt.json")),
    force=options.FORCE,
    report_folder=option(Path, "Folder for an HTML page with figures, and PNGs.", None, "--report"),
    **options.ROLES,
    **options.NEXT,
    estimator=option(str, "doubly_robust, snips, beta_ips.", "doubly_robust"),
    certificate=option(str, "Interval whose lower end is certified.", "ess_skew"),
    alpha=options.ALPHA,
    minimise=options.MINIMISE,
    reward_range=options.RANGE,
    radius=option(float, RADIUS, 2.0),
    low=BOUND,
    high=BOUND,
    total=option(float, "What the weights must add up to.", None, "--sum"),
    max_change=option(str, MAX_CHANGE),
    production=option(str, "Current weights: A,B,… or a policy (JSON)."),
    share=option(float, SHARE),
    folds=option(int, FOLDS),
    guardrails=option(list[str], GUARDRAIL, None, "--guardrail", metavar="NAME:±X[%]"),
    pareto=option(int, PARETO, 0),
    context=option(str, CONTEXT),
    mean=option(str, MEAN, None, show_default=False),
    seed=option(int, "Seed of the split.", 0),
    in_memory=options.IN_MEMORY,
    show_sql=options.SQL,
    as_json=options.JSON,
)
def learn(out, force, report_folder, as_json, **settings):
    """New weights from a log, and what they certainly gain.

    Two answers. The best guess is what a response surface, a quadratic and
    waves as far as the rows speak for them, takes for the best weights. The
    certified policy is the one with the largest gain that can be promised: its
    mean and its scale are chosen for rows that were not learnt from (other
    users, with --cluster), which then certify it, one-sided. In folds it is the
    mixture of what they teach, nearly alike, and every row certifies; logs of
    more than 20,000 rows are halved. Of a log of more than --in-memory rows, or
    in a query engine, a sample of the users teaches and all others certify, in
    passes. Gains are over the logging mean and
    production weights played with the same scale.

    --guardrail revenue:-0.5% keeps to policies whose revenue is certain to fall
    by no more than 0.5 % of production's; reports:+0.01 lets reports rise by no
    more than 0.01. All bounds hold at once; where a guardrail is not certain to
    hold, the advice is to keep.

    --minimise: the reward is a cost, and what is certified is a saving.
    --reward-range: what the platform guarantees of every reward; a reward
    outside is refused, and bounds keep to it.

    --context country,platform also learns weights for each segment of the
    users, shrunk to the global ones where a segment says little, and certifies
    what they gain over the global weights. Where that is not certain, the
    artifact has the global weights. --mean linear or network: a function of
    numbers and levels.

    A log of arms, as of an A/B/n test, has no surface: each arm is compared
    with production, or with what was played, on all rows, and all bounds hold
    at once.

    Exit code 0: done, also where no gain is certain. A pipeline reads the key
    "advice" of the artifact (or of --json): "change to the learnt weights" (of
    arms "change to arm 3"), or "keep the current weights" ("keep what is played
    now"), and then the policy in the artifact is not to be played. 3: the
    verdict is refuse, as check or evaluate would say of this log and policy.
    130: interrupted; the artifact is the best policy so far, and there is no
    report.
    """
    from mopl_jax.io import files
    from mopl_jax.report import learning_screen

    options.float64()
    settings = _arguments(**settings)
    current = settings["production"]
    read = [settings["log"], settings["logging"], current if isinstance(current, str) else None]
    options.check_output(out, read, force)
    if report_folder is not None:
        files.prepare(report_folder, "--report")
    with learning_screen.progress(as_json) as (watch, stop):
        try:
            learnt = _learnt(settings, report_folder, watch=watch, stop=stop)
        except ValueError as error:
            raise _by_option(error) from None
    interrupted = getattr(learnt, "interrupted", False)  # else there are no stages
    _write(learnt, out, None if interrupted else report_folder, as_json)
    if interrupted:
        raise typer.Exit(130)
    options.leave(learnt.verdict)


def _arguments(low, high, total, max_change, production, pareto, reward_range, **settings) -> Any:
    """The options as arguments of `pipeline.learn`, and those of `pipeline.learn_contextual`."""
    from mopl_jax.learning.constraints import Bounds

    if settings["mean"] is not None and settings["context"] is None:
        raise ValueError("--mean: of what? name the columns of the context with --context")
    if max_change is not None and production is None:
        complaint = "change from what? name the current weights with --production"
        raise ValueError(f"--max-change: {complaint}")
    texts = {"--low": low, "--high": high, "--max-change": max_change}
    low, high, change = (options.numbers(text, name, infinite=True) for name, text in texts.items())
    if production is not None and not production.endswith(".json"):
        production = options.numbers(production, "--production", infinite=True)
    return settings | {
        "constraints": Bounds(low, high, total, change),
        "production": production,
        "guardrails": settings["guardrails"] or (),
        "trades": pareto,
        "reward_range": options.reward_range(reward_range),
    }


def _learnt(settings, report_folder, **progress) -> Any:
    """By the verb that the log and the options ask for."""
    from mopl_jax.learning import pipeline
    from mopl_jax.learning.arms import arms_of, choose_arm

    context, mean = settings.pop("context"), settings.pop("mean")
    reader = options.opened(settings)
    if arms_of(reader) is not None:
        return choose_arm(reader, **_of_arms(settings, report_folder, context))
    if context is None:
        return pipeline.learn(reader, **settings, **progress)
    return pipeline.learn_contextual(reader, context, mean=mean or "table", **settings, **progress)


def _of_arms(settings, report_folder, context):
    """The settings of `choose_arm`; a surface says nothing of arms that their own rows do not."""
    usual = {"certificate": "ess_skew", "radius": 2.0}
    given = {name: settings[name] for name in ("share", "folds", "guardrails", "trades")}
    given |= {name: settings[name] != x for name, x in usual.items()} | {"report": report_folder}
    given |= {"context": context}
    for name, value in given.items():
        if value:
            raise ValueError(
                f"{name}: expected a log of weights that vary, got one of arms, which are compared"
                " on all rows: drop it"
            )
    kept = {name: settings[name] for name in KEPT}
    if kept["estimator"] == "doubly_robust":
        kept["estimator"] = "snips"
    return kept


def _write(made, out, report_folder, as_json):
    """The artifact, the page, and the document or the screen."""
    from mopl_jax.io import files
    from mopl_jax.io.policy_json import document, write_policy

    about = made.to_dict()
    write_policy(out, made.played, **about)
    if as_json:
        show.print_json(document(made.played, **about))
    if report_folder is not None:
        from mopl_jax.report import page

        with files.claimed(report_folder, option="--report"):
            page.write(report_folder, made)
    if not as_json:
        _screen(made)(made, out)


def _screen(made):
    """What shows it."""
    from mopl_jax.learning.chosen_arm import ChosenArm
    from mopl_jax.learning.contextual_weights import ContextualWeights
    from mopl_jax.report import arms_screen, contextual_screen, learning_screen

    screens = {ChosenArm: arms_screen, ContextualWeights: contextual_screen}
    return screens.get(type(made), learning_screen).show


def _by_option(error):
    """A complaint about an argument of `pipeline.learn`, by the name of its option."""
    name, colon, rest = str(error).partition(":")
    name = OPTIONS.get(name, name) if colon and name in NAMED else ""
    return ValueError(f"--{name.replace('_', '-')}:{rest}") if name else error

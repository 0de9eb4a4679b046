"""`mopl learn`: new weights from a log, with a number that may be promised; keeps the current ones
where nothing is certain.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from mopl_jax.cli import options

NAMED = "steps starts radius floor seed scale production optimiser low high max_change".split()


def _told(text: str, *names: str, metavar: str | None = None):
    return typer.Option(*names, help=text, metavar=metavar)


ONE_EACH = "One number for each weight, or one for all, as 0,0.5,1."
RADIUS = "Trust region: of the mean, in logged standard deviations (KL = radius²/2)."
OUT = "Artifact: the learnt policy (JSON), for mopl evaluate --target."
REPORT = "Folder for an HTML page with figures, and PNGs."
Numbers = Annotated[str | None, _told(ONE_EACH, metavar="A,B,…")]
MaxChange = Annotated[str | None, _told("Largest change of each weight from production.")]
Production = Annotated[str | None, _told("Current weights: A,B,… or a policy (JSON).")]
Scales = Annotated[str, _told("Scales to try, of the logged one, from coarse to fine.")]
Floor = Annotated[float, _told("Trust region: least effective sample size over n.")]
Optimiser = Annotated[str, _told("lbfgs, or adam, sgd, rmsprop with a rate: adam:0.05.")]
Folds = Annotated[
    int, _told("Cross-fit: learn and certify in so many folds, instead of one split.")
]


def learn(
    log: options.Log,
    out: Annotated[Path, _told(OUT)] = Path("learnt.json"),
    report_folder: Annotated[Path | None, _told(REPORT, "--report")] = None,
    reward: options.Reward = None,
    action: options.Action = None,
    propensity: options.Propensity = None,
    log_propensity: options.LogPropensity = None,
    logging: options.Logging = None,
    cluster: options.Cluster = None,
    estimator: Annotated[str, _told("doubly_robust, snips, beta_ips.")] = "doubly_robust",
    interval: Annotated[str, _told("Interval whose lower end is maximised.")] = "ess_exact",
    certificate: Annotated[str, _told("Interval whose lower end is certified.")] = "ess_skew",
    alpha: options.Alpha = 0.05,
    scale: Scales = "0.85,0.7,0.55,0.4",
    radius: Annotated[float, _told(RADIUS)] = 2.0,
    floor: Floor = 0.002,
    low: Numbers = None,
    high: Numbers = None,
    total: Annotated[float | None, _told("What the weights must add up to.", "--sum")] = None,
    max_change: MaxChange = None,
    production: Production = None,
    optimiser: Optimiser = "lbfgs",
    starts: Annotated[int, _told("Random starts beside the surface's and the centre.")] = 0,
    steps: Annotated[int, _told("Most steps of a search.")] = 30,
    share: Annotated[float, _told("Share of the users (rows) kept for the certificate.")] = 0.5,
    folds: Folds = 0,
    seed: Annotated[int, _told("Seed of the split and of random starts.")] = 0,
    as_json: options.Json = False,
) -> None:
    """New weights from a log, and what they certainly gain.

    A quadratic response surface proposes weights, importance weighting refines
    them where held-out rows confirm it, and rows that were not learnt from
    (other users, with --cluster) certify the result, one-sided. What is learnt
    is a normal policy; bounds are for it, and gains are over the logging mean
    and production weights played with the same scale.

    Exit code 0: done, also where no gain is certain. A pipeline reads the key
    "advice" of the artifact (or of --json): "change to the learnt weights", or
    "keep the current weights", and then the policy in the artifact is not to be
    played. 130: interrupted; the artifact is the best policy so far, and there
    is no report.
    """
    from mopl_jax.io import files
    from mopl_jax.io.policy_json import write_policy
    from mopl_jax.learning import constraints, pipeline
    from mopl_jax.report import learning_screen

    if max_change is not None and production is None:
        complaint = "change from what? name the current weights with --production"
        raise ValueError(f"--max-change: {complaint}")
    limits: dict[str, Any] = {"low": _numbers("--low", low), "high": _numbers("--high", high)}
    limits |= {"total": total, "max_change": _numbers("--max-change", max_change)}
    roles = {"propensity": propensity, "log_propensity": log_propensity, "logging": logging}
    roles |= {"reward": reward, "action": action, "cluster": cluster}
    settings: dict[str, Any] = {"estimator": estimator, "interval": interval, "alpha": alpha}
    settings |= {"certificate": certificate, "scales": _numbers("--scale", scale)}
    settings |= {"radius": radius, "floor": floor, "optimiser": optimiser}
    settings |= {"starts": starts, "steps": steps, "share": share, "folds": folds, "seed": seed}
    settings |= {"constraints": constraints.Bounds(**limits)}
    file = production is not None and production.endswith(".json")
    settings |= {"production": production if file else _numbers("--production", production)}
    with learning_screen.progress(as_json) as (watch, stop):
        try:
            learnt = pipeline.learn(options.read(log, **roles), watch=watch, stop=stop, **settings)
        except ValueError as error:
            raise _by_option(error) from None
    about = learnt.to_dict()
    write_policy(out, learnt.policy, **about)
    if report_folder is not None and not learnt.interrupted:
        from mopl_jax.report import page

        page.write(files.prepare(report_folder), learnt)
    if as_json:
        options.print_json(about)
    else:
        learning_screen.show(learnt, out)
    if learnt.interrupted:
        raise typer.Exit(130)


def _numbers(option: str, text: str | None) -> Any:
    """The numbers of an option's text; None stays None."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option}: expected numbers separated by commas, got {text!r}") from None


def _by_option(error):
    """A complaint about an argument of `pipeline.learn`, by the name of its option."""
    name, colon, rest = str(error).partition(":")
    return ValueError(f"--{name.replace('_', '-')}:{rest}") if colon and name in NAMED else error

"""`mopl learn`: new weights from a log, with a number that may be promised; keeps the current ones
where nothing is certain.
"""

import contextlib
import json
import math
import signal
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optax
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mopl_jax import intervals
from mopl_jax.cli import options
from mopl_jax.cli.options import check_alpha, choose
from mopl_jax.estimators.importance import beta_ips, snips
from mopl_jax.io import files, log_reader, read, storage
from mopl_jax.io.policy_json import finite, read_policy, write_policy
from mopl_jax.learning import constraints, pipeline
from mopl_jax.learning.objective import doubly_robust, importance_weighted
from mopl_jax.learning.optimise import FLOOR
from mopl_jax.learning.refinement import RADIUS, SCALES, Plan, check_plan
from mopl_jax.logs import folds_of, split
from mopl_jax.report import page

VALUE_ESTIMATORS: dict[str, Any] = {
    "doubly_robust": doubly_robust,
    "snips": lambda surface: importance_weighted(snips),
    "beta_ips": lambda surface: importance_weighted(beta_ips),
}
OPTIMISERS: dict[str, Any] = {
    "lbfgs": lambda rate: None,
    "adam": optax.adam,
    "sgd": optax.sgd,
    "rmsprop": optax.rmsprop,
}
INTERRUPTED = 130

Numbers = Annotated[
    str | None,
    typer.Option(help="One number for each weight, or one for all, as 0,0.5,1.", metavar="A,B,…"),
]


def learn(
    log: options.Log,
    out: Annotated[
        Path, typer.Option(help="Artifact: the learnt policy (JSON), for mopl evaluate --target.")
    ] = Path("learnt.json"),
    report_folder: Annotated[
        Path | None,
        typer.Option("--report", help="Folder for an HTML page with figures, and PNGs."),
    ] = None,
    reward: options.Reward = None,
    action: options.Action = None,
    propensity: options.Propensity = None,
    log_propensity: options.LogPropensity = None,
    logging: options.Logging = None,
    cluster: options.Cluster = None,
    estimator: Annotated[
        str, typer.Option(help="doubly_robust, snips, beta_ips.")
    ] = "doubly_robust",
    interval: Annotated[
        str, typer.Option(help="Interval whose lower end is maximised.")
    ] = "ess_exact",
    certificate: Annotated[
        str, typer.Option(help="Interval whose lower end is certified.")
    ] = "ess_skew",
    alpha: options.Alpha = 0.05,
    scale: Annotated[
        str, typer.Option(help="Scales to try, of the logged one, from coarse to fine.")
    ] = ",".join(map(str, SCALES)),
    radius: Annotated[
        float,
        typer.Option(
            help="Trust region: of the mean, in logged standard deviations (KL = radius²/2)."
        ),
    ] = RADIUS,
    floor: Annotated[
        float, typer.Option(help="Trust region: least effective sample size over n.")
    ] = FLOOR,
    low: Numbers = None,
    high: Numbers = None,
    total: Annotated[
        float | None, typer.Option("--sum", help="What the weights must add up to.")
    ] = None,
    max_change: Annotated[
        str | None, typer.Option(help="Largest change of each weight from production.")
    ] = None,
    production: Annotated[
        str | None, typer.Option(help="Current weights: A,B,… or a policy (JSON).")
    ] = None,
    optimiser: Annotated[
        str, typer.Option(help="lbfgs, or adam, sgd, rmsprop with a rate: adam:0.05.")
    ] = "lbfgs",
    starts: Annotated[
        int, typer.Option(help="Random starts beside the surface's and the centre.")
    ] = 0,
    steps: Annotated[int, typer.Option(help="Most steps of a search.")] = 30,
    share: Annotated[
        float, typer.Option(help="Share of the users (rows) kept for the certificate.")
    ] = 0.5,
    folds: Annotated[
        int,
        typer.Option(help="Cross-fit: learn and certify in so many folds, instead of one split."),
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the split and of random starts.")] = 0,
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
    console = Console(width=100, quiet=as_json)
    reader = options.read(
        log,
        reward=reward,
        action=action,
        propensity=propensity,
        log_propensity=log_propensity,
        logging=logging,
        cluster=cluster,
    )
    logs = read.read_logs(reader)
    names = objectives(reader, logs)
    target = reader.columns.reward or "reward"
    log_reader.check_densities(reader, None)
    pipeline.check_log(logs, names=names, reward=target, place=reader.source.name)
    check_alpha(alpha)
    choose([estimator], VALUE_ESTIMATORS, "estimator")
    current = _production(production, logs.action.shape[1])
    plan = Plan(
        interval=intervals.bind(choose([interval], intervals.METHODS, "interval")[0]),
        certificate=intervals.bind(choose([certificate], intervals.METHODS, "interval")[0]),
        alpha=alpha,
        value_estimator=VALUE_ESTIMATORS[estimator],
        project=_project(logs.action.shape[1], low, high, total, max_change, current),
        radius=radius,
        floor=floor,
        steps=steps,
        optimiser=_optimiser(optimiser),
        starts=starts,
        seed=seed,
    )
    scales = _numbers("--scale", scale)
    _check(plan, scales)
    parts = [split(logs, share, seed)] if folds == 0 else folds_of(logs, folds, seed)
    with _progress(Console(stderr=True, quiet=as_json)) as progress:
        bar = progress.add_task("learning", total=len(parts) * (len(scales) + 3))
        with _interrupts() as asked:
            outcome = pipeline.run(
                parts, plan, scales, current, lambda: progress.advance(bar), lambda: bool(asked)
            )
    about = _about(
        outcome,
        names,
        target,
        estimator,
        interval,
        alpha,
        {"log": str(log), "certificate": certificate, "seed": seed, "folds": folds, "share": share},
    )
    write_policy(out, outcome["learnt"].policy, **about)
    if report_folder is not None and not outcome["interrupted"]:
        page.write(files.prepare(report_folder), outcome, about)
    if as_json:
        print(json.dumps(finite(about), allow_nan=False, default=str))
    else:
        _show(console, outcome, names, about, out)
    if outcome["interrupted"]:
        raise typer.Exit(INTERRUPTED)


# Checks, each one line.


def objectives(reader, logs) -> list[str]:
    """The names of the weights, in the order of the columns."""
    names = reader.columns.action
    return (
        list(names)
        if not isinstance(names, str) and len(names) == logs.action.shape[1]
        else [f"{names}[{k}]" for k in range(logs.action.shape[1])]
    )


def _production(text, d):
    if text is None:
        return None
    if text.endswith(".json"):
        policy = read_policy(text)[0]
        weights = np.asarray(getattr(policy, "mean", getattr(policy, "action", None)), float)
    else:
        weights = np.asarray(_numbers("--production", text))
    if weights.shape != (d,):
        raise ValueError(
            f"--production: expected {d} weights, as many as the log has, got {weights.size}"
        )
    return weights


def _numbers(option, text):
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option}: expected numbers separated by commas, got {text!r}") from None


def _project(d, low, high, total, max_change, current):
    """The projection that the constraint options ask for."""
    if low is high is total is max_change is None:
        return constraints.unconstrained

    def bound(option, text, default):
        values = np.asarray(_numbers(option, text) if text else [default])
        if values.size not in (1, d):
            raise ValueError(f"{option}: expected one number or {d}, got {values.size}")
        return np.broadcast_to(values, (d,))

    bottom, top = bound("--low", low, -math.inf), bound("--high", high, math.inf)
    if max_change is not None:
        if current is None:
            raise ValueError(
                "--max-change: change from what? name the current weights with --production"
            )
        reach = bound("--max-change", max_change, math.inf)
        bottom, top = np.maximum(bottom, current - reach), np.minimum(top, current + reach)
    return (
        constraints.box(bottom, top)
        if total is None
        else constraints.box_and_hyperplane(bottom, top, total)
    )


def _check(plan, scales):
    """The plan's own checks, by the names of the options."""
    try:
        check_plan(plan, scales)
    except ValueError as error:
        raise ValueError(f"--{error}") from None


def _optimiser(text):
    name, _, rate = text.partition(":")
    choose([name], OPTIMISERS, "optimiser")
    step = _numbers("--optimiser", rate)[0] if rate else 0.05
    if not 0 < step < math.inf:
        raise ValueError(
            f"--optimiser: expected a finite rate > 0, got {rate}; {name}:0.05 is the default"
        )
    return OPTIMISERS[name](step)


# Showing.


@contextlib.contextmanager
def _interrupts():
    """A list that fills at the first Ctrl-C, which only asks; the second ends the process: raised,
    it may crash a compilation.
    """
    asked: list[int] = []

    def note(number, whitening):
        asked.append(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        console = Console(stderr=True)
        console.show_cursor()  # which the progress bar hides
        console.print(_ASKED, style="yellow")

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, previous)


_ASKED = (
    "interrupt: ends after this stage, with the best policy so far (compiling may take a minute); "
    "again to stop at once, without"
)


def _progress(console):
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console)


def _about(outcome, names, reward, estimator, interval, alpha, more):
    learnt, made = outcome["learnt"], outcome["certificate"]
    about = {
        "advice": pipeline.advice(outcome),
        "reason": pipeline.reason(outcome, alpha),
        "objectives": names,
        "reward": reward,
        "estimator": estimator,
        "interval": interval,
        "alpha": alpha,
        "optimistic_lower_bound": float(learnt.bound),
        "learning_value": float(learnt.value),
        "value": float(made.value),
        "certified_lower_bound": float(made.bound),
        "ess": float(made.ess),
        "certified_gain": float(made.gain_bound),
        "gain": float(made.gain),
        "baseline": np.asarray(outcome["whitening"].mean).tolist(),
        "interrupted": outcome["interrupted"],
        "diverged": bool(learnt.diverged),
        "converged": bool(learnt.converged)
        if any(taken for _, taken in outcome["history"])
        else None,
        "feasible": bool(learnt.feasible),
        "surface_p": outcome["surface_p"] if math.isfinite(outcome["surface_p"]) else None,
        "scales": [
            {"scale": s, "score": z, "accepted": a}
            for s, (z, a) in zip(outcome["scales"], outcome["history"], strict=False)
        ],
        "rows": {
            "learning": len(outcome["logs"].reward),
            "certification": len(outcome["held"].reward),
        },
    }
    if "against_production" in outcome:
        other = outcome["against_production"]
        about |= {
            "production": outcome["current"].tolist(),
            "gain_over_production": float(other.gain),
            "certified_gain_over_production": float(other.gain_bound),
        }
    if outcome["mixture"] is not None:
        mixed = outcome["mixture"]
        about |= {
            "mixture": {
                "value": float(mixed.value),
                "certified_lower_bound": float(mixed.bound),
                "certified_gain": float(mixed.gain_bound),
            }
        }
    return about | {"provenance": storage.provenance(**more)}


def _show(console, outcome, names, about, out):
    learnt, whitening = outcome["learnt"], outcome["whitening"]
    _advise(console, about)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("weight", no_wrap=True, max_width=30)
    for title in (
        "logged mean",
        "± scale",
        *(["production"] if outcome["current"] is not None else []),
        "learnt mean",
        "± scale",
    ):
        table.add_column(title, justify="right", no_wrap=True)
    before, after = (
        np.sqrt(np.diagonal(np.asarray(p.covariance))) for p in (whitening, learnt.policy)
    )
    for k, name in enumerate(names):
        now = [f"{outcome['current'][k]:.4g}"] if outcome["current"] is not None else []
        table.add_row(
            name,
            f"{whitening.mean[k]:.4g}",
            f"{before[k]:.3g}",
            *now,
            f"{learnt.policy.mean[k]:.4g}",
            f"{after[k]:.3g}",
        )
    console.print(table)
    for label, text in page.numbers(about):
        console.print(f"{label:<58}{text:>12}")
    for text in page.remarks(about):
        console.print(text, style="dim")
    if not about["feasible"]:
        console.print(
            "warning: no policy had the effective sample size that was asked for (--floor)",
            style="yellow",
        )
    if about["diverged"]:
        console.print(
            "warning: the search met a number that is not finite; this is its best feasible policy",
            style="yellow",
        )
    if about["interrupted"]:
        console.print("interrupted: the best policy so far", style="yellow")
    _advise(console, about)
    kept = ", which is not to be played" if about["advice"].startswith("keep") else ""
    written = f"Written: {out}{kept}; its value on any log: mopl evaluate LOG --target {out}"
    console.print(written, highlight=False, soft_wrap=True)


def _advise(console, about):
    """The answer: the first thing seen, and the last."""
    console.print(
        f"\n[bold]{about['advice']}[/]: {about['reason']}", highlight=False, soft_wrap=True
    )

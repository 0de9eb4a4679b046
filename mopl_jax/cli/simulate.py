"""`mopl simulate`: the whole loop on a simulated platform, or on a table of interactions that is
replayed.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mopl_jax.cli.options import check_alpha
from mopl_jax.io import files, storage
from mopl_jax.io.policy_json import finite
from mopl_jax.metrics import experiments, objectives
from mopl_jax.numerics import devices
from mopl_jax.simulation import closed_loop, online, recommender, replay

TRUTH = 2**15  # users met under both policies for the true gains that are printed
FEW = 100  # past tests, below which a metric has been seen to mislead (docs/system.md)
QUICK = {"rounds": 2, "explore": 20_000, "test": 10_000, "experiments": 0}


def simulate(
    rounds: Annotated[int, typer.Option(help="Rounds of explore, learn, certify, test.")] = 4,
    explore: Annotated[
        int, typer.Option(help="Users of a round who get randomised weights.")
    ] = 100_000,
    test: Annotated[int, typer.Option(help="Users in each arm of the online test.")] = 50_000,
    experiments: Annotated[
        int, typer.Option(help="Past A/B tests to learn a metric from; 0: North Star only.")
    ] = 60,
    scale: Annotated[
        float, typer.Option(help="Standard deviation of the exploration.")
    ] = closed_loop.DEFAULT.scale,
    alpha: Annotated[
        float, typer.Option(help="Level of certificates and tests.")
    ] = closed_loop.DEFAULT.alpha,
    plain: Annotated[
        bool, typer.Option("--plain", help="No pessimism: maximise the estimate, test it always.")
    ] = False,
    table: Annotated[
        Path | None,
        typer.Option("--replay", help="Interactions in the KuaiRand layout, replayed instead."),
    ] = None,
    slate: Annotated[int, typer.Option(help="Items shown of each replayed session.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same numbers.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("mopl-simulate"),
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A small run: no past tests, too few users to certify much."),
    ] = False,
    device: Annotated[
        str | None, typer.Option("--devices", help="all, or how many; on CPU one for each core.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, nothing else.")
    ] = False,
) -> None:
    """The whole loop, simulated: randomise, log, learn, certify, test online.

    Every round explores around the production weights, learns on half of its
    users with a pessimistic bound, certifies on the other half, and tests what
    is certified on fresh users. The true gains beside it are known to the
    simulation alone. Writes rounds.parquet, and the past tests as
    experiments.parquet, for `mopl metric`.
    """
    mesh = devices.start(device)
    given = {"rounds": rounds, "explore": explore, "test": test, "experiments": experiments} | (
        QUICK if quick else {}
    )
    _check(given, scale, slate)
    plan = closed_loop.Plan(
        given["explore"], given["test"], scale, alpha=check_alpha(alpha), pessimistic=not plain
    )
    platform, start = _platform(table, slate)
    folder, began = files.prepare(out), time.perf_counter()
    key = jax.random.key(seed)
    with _progress(Console(stderr=True, quiet=as_json)) as progress:
        past = given["experiments"] if table is None else 0
        metric = (
            _metric(platform, start, jax.random.fold_in(key, 0), past, plan, mesh, progress, folder)
            if past
            else None
        )
        rows = _rows(
            platform,
            start,
            jax.random.fold_in(key, 1),
            given["rounds"],
            plan,
            metric,
            mesh,
            progress,
        )
    settings = (
        plan._asdict() | given | {"seed": seed, "replay": None if table is None else str(table)}
    )
    about = storage.provenance(
        study=settings,
        seconds=time.perf_counter() - began,
        signals=platform.signals,
        production=start.tolist(),
        metric=None if metric is None else metric.tolist(),
    )
    storage.write_results(folder / "rounds.parquet", rows, about)
    if as_json:
        print(json.dumps(finite({"provenance": about, "rounds": rows}), default=str))
    else:
        _show(Console(width=100), platform, metric, rows, about, folder)


def _check(given, scale, slate):
    least = {"rounds": 1, "explore": 1000, "test": 100, "experiments": 0}
    for name, value in given.items():
        if value < least[name]:
            raise ValueError(f"--{name}: expected at least {least[name]:,}, got {value:,}")
    if 0 < given["experiments"] < 8:
        raise ValueError(
            "--experiments: expected 0 or at least 8 to learn a metric from, got"
            f" {given['experiments']}"
        )
    if not 0 < scale < float("inf"):
        raise ValueError(f"--scale: expected a positive standard deviation, got {scale:g}")
    if slate < 1:
        raise ValueError(f"--slate: expected at least 1 item, got {slate}")


def _platform(table, slate):
    """The platform and its production weights: equal ones where nobody has tuned any."""
    if table is None:
        return recommender.short_video(), np.array(recommender.PRODUCTION, np.float32)
    platform = replay.read(table, replay.KUAIRAND, slate)
    return platform, np.full(len(platform.objectives), 0.5, np.float32)


def _metric(platform, start, key, past, plan, mesh, progress, folder):
    """The metric of the past tests, as the file says them."""
    bar = progress.add_task("past experiments", total=past)
    rows = closed_loop.past_tests(
        platform,
        start,
        key,
        past,
        closed_loop.ARM,
        plan,
        mesh=mesh,
        done=lambda: progress.advance(bar),
    )
    path = experiments.write(folder / "experiments.parquet", rows)
    history = experiments.read([path], platform.signals[-1])
    return np.asarray(objectives.learn(history, objectives.proxy), np.float64)


def _rows(platform, start, key, count, plan, metric, mesh, progress) -> list[dict[str, Any]]:
    bar, rows, base = (
        progress.add_task("rounds", total=count),
        [],
        closed_loop.smoothed(start, plan),
    )
    for number, done in enumerate(
        closed_loop.rounds(platform, start, key, count, plan, metric, mesh), start=1
    ):
        policies = [
            closed_loop.smoothed(weights, plan) for weights in (done.production, done.proposal)
        ]
        truth = online.gains(platform, policies, base, jax.random.fold_in(key, count), TRUTH, mesh)
        known = {
            "true_gain": truth[0].mean,
            "true_gain_se": truth[0].se,
            "true_proposal": truth[1].mean,
        }
        row = done._asdict() | {
            "production": done.production.tolist(),
            "proposal": done.proposal.tolist(),
        }
        rows.append({"round": number} | row | known)
        progress.advance(bar)
    return rows


def _progress(console):
    return Progress(
        TextColumn("{task.description:>16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _show(console, platform, metric, rows, about, folder):
    if metric is not None:
        pairs = sorted(zip(platform.signals, metric, strict=True), key=lambda pair: -abs(pair[1]))
        told = ", ".join(f"{weight:+.2f} {name}" for name, weight in pairs if abs(weight) > 0.005)
        past = about["study"]["experiments"]
        few = "; so few may mislead" if past < FEW else ""
        console.print(
            f"[bold]learnt metric[/] (proxy, from {past} past tests{few}): {told}\n",
            highlight=False,
        )
    console.print(_table(platform, rows))
    console.print(
        "users: spent by the rounds, past tests apart · gain, bound: of the proposal by"
        " certificate, in the reward learnt from · online: p-values of the test, of the reward and"
        f" of {platform.signals[-1]} · true: gain in {platform.signals[-1]} over the first weights,"
        f" known to the simulation alone (± {rows[-1]['true_gain_se']:.4f})",
        style="dim",
        highlight=False,
    )
    weights = ", ".join(
        f"{w:.2f} {n}" for n, w in zip(platform.objectives, rows[-1]["production"], strict=True)
    )
    console.print(f"weights now: {weights}", highlight=False)
    console.print(f"{about['seconds']:.0f} s. Written: {folder}/rounds.parquet", highlight=False)


def _table(platform, rows):
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in (
        "round",
        "users",
        "ESS",
        "gain",
        "bound",
        "p",
        f"p {platform.signals[-1]}",
        "decision",
        "true",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        decision = "adopt" if row["adopted"] else "keep" if row["p"] is None else "test: keep"
        tests = ["" if row[p] is None else f"{row[p]:.2g}" for p in ("p", "north_p")]
        table.add_row(
            str(row["round"]),
            f"{row['users']:,}",
            f"{row['ess']:,.0f}",
            f"{row['gain']:.4f}",
            f"{row['bound']:.4f}",
            *tests,
            decision,
            f"{row['true_gain']:+.4f}",
        )
    return table

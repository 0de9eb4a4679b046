"""`mopl coverage`: run a study, show its progress, its table and its figure; resume what was
killed.
"""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from mopl_jax.coverage import engine as engine
from mopl_jax.coverage import study
from mopl_jax.coverage.parts import Parts
from mopl_jax.coverage.results import concatenate, count, summarise
from mopl_jax.coverage.sample_size import sample_size_ratio, smallest_n
from mopl_jax.io import files, storage
from mopl_jax.numerics import devices
from mopl_jax.report import plots

LEVEL = (
    0.94  # an interval "holds" from the n where its coverage stays at or above this (nominal 0.95)
)
QUICK = {
    "replicates": 400,
    "n": [8, 64, 512],
    "intervals": ["normal", "ess_bessel", "ess_student", "ess_exact", "ess_safe"],
}
_LEGEND = (
    f"from n: the smallest n from which coverage stays at {LEVEL} or more · × fewer: how many times"
    " fewer rows than normal that takes (≥ where the study's sizes do not bracket it) · at n,"
    " worst: coverage ± half its 95 % Wilson (Monte-Carlo) interval · width: median over the width"
    " of a normal interval that knows the estimator's standard deviation, at the largest n\n"
)
OptionalList = list[str] | None


def coverage(
    config: Annotated[
        Path | None, typer.Option(help="Study in TOML; without it, the default study.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for results, figure and resumable parts.")
    ] = Path("mopl-coverage"),
    replicates: Annotated[int | None, typer.Option(help="Synthetic logs for each world.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed; the same seed gives the same numbers.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="One minus the nominal coverage.")] = None,
    n: Annotated[str | None, typer.Option(help="Sample sizes, as 8,64,512.")] = None,
    d: Annotated[
        str | None, typer.Option(help="Objectives (dimension of the action), as 2,5,10.")
    ] = None,
    estimator: Annotated[
        OptionalList,
        typer.Option(help="ips, snips, beta_ips, doubly_robust, …; repeat for several."),
    ] = None,
    interval: Annotated[
        OptionalList, typer.Option(help="Interval name; repeat for several.")
    ] = None,
    reward: Annotated[
        str | None, typer.Option(help="Mean reward: linear, quadratic, cosine, exponential.")
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(help="Noise: normal, student_t, log_normal, bernoulli, zero_inflated."),
    ] = None,
    noise_scale: Annotated[float | None, typer.Option(help="Scale of the noise.")] = None,
    logging: Annotated[str | None, typer.Option(help="Logging policy: normal or uniform.")] = None,
    logging_mean: Annotated[
        float | None, typer.Option(help="Its mean (centre of the box), each objective.")
    ] = None,
    logging_scale: Annotated[
        float | None, typer.Option(help="Its standard deviation (half-width of the box).")
    ] = None,
    target_mean: Annotated[
        float | None, typer.Option(help="Mean of the normal target policy.")
    ] = None,
    target_scale: Annotated[
        float | None, typer.Option(help="Standard deviation of the target policy.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small run, under 30 seconds.")] = False,
    x64: Annotated[
        bool, typer.Option("--x64", help="Evaluate in float64 (the same logs).")
    ] = False,
    memory: Annotated[float | None, typer.Option(help="MiB for one batch of logs.")] = None,
    device: Annotated[
        str | None, typer.Option("--devices", help="all, or how many; on CPU one for each core.")
    ] = None,
    coordinator: Annotated[
        str | None, typer.Option(help="HOST:PORT of process 0, for several processes.")
    ] = None,
    processes: Annotated[int | None, typer.Option(help="How many processes there are.")] = None,
    process: Annotated[int | None, typer.Option(help="Which of them this is, from 0.")] = None,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="Join the job that SLURM … describes.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, nothing else.")
    ] = False,
) -> None:
    """How often do intervals cover, and how many samples does an ESS correction save?

    Runs synthetic logs with known truth, prints for each interval the smallest n from which its
    coverage stays at 0.94 or more, the sample-size ratio to `normal`, and its width over an
    oracle's; writes results.parquet (tidy, with provenance), coverage.png and coverage.svg. A
    killed run resumes where it stopped. Any option about the world (--reward … --target-scale,
    --d) replaces the study's worlds by one of your own, with the reference's defaults.
    """
    jax.config.update("jax_enable_x64", x64)
    mesh = devices.start(device, coordinator, processes, process, distributed)
    spec = dict(study.read(config or study.DEFAULT))
    world = {
        "d": _integers(d, "--d"),
        "reward": reward,
        "noise": noise,
        "noise_scale": noise_scale,
        "logging": logging,
        "logging_mean": logging_mean,
        "logging_scale": logging_scale,
        "target_mean": target_mean,
        "target_scale": target_scale,
    }
    if any(value is not None for value in world.values()):
        spec["world"] = [
            _custom_world(**{key: value for key, value in world.items() if value is not None})
        ]
    overrides = {"n": _integers(n, "--n"), "replicates": replicates, "seed": seed, "alpha": alpha}
    overrides |= {"estimators": estimator, "intervals": interval}
    spec |= (QUICK if quick else {}) | {
        key: value for key, value in overrides.items() if value is not None
    }
    plan = study.build(spec)
    folder = files.prepare(out)
    rows, seconds = _run(
        plan, folder, mesh, memory, Console(stderr=True, quiet=as_json or not devices.is_first())
    )
    if not devices.is_first():
        return
    about = storage.provenance(study=plan.spec, seconds=seconds)
    _write(folder, rows, about)
    if as_json:
        print(
            json.dumps(
                {"provenance": about, "rows": _finite(rows), "summary": _finite(summary(rows))},
                default=str,
            )
        )
    else:
        _show(rows, folder, seconds)


# Mean rewards that suit a noise with a range: clicks at 5 to 15 %, watch time above 0.
_MEANS = {
    "bernoulli": {"kind": "cosine", "amplitude": 0.05, "offset": 0.1},
    "zero_inflated": {"kind": "exponential", "rate": 0.1},
}


def _custom_world(
    d=(5,),
    reward=None,
    noise="normal",
    noise_scale=0.25,
    logging="normal",
    logging_mean=0.0,
    logging_scale=1.0,
    target_mean=0.3,
    target_scale=0.5,
):
    bounds = {"low": logging_mean - logging_scale, "high": logging_mean + logging_scale}
    mean = _MEANS.get(noise, {"kind": "linear"})
    policy = bounds if logging == "uniform" else {"mean": logging_mean, "scale": logging_scale}
    return {
        "name": "custom",
        "d": list(d),
        "reward": mean if reward in (None, mean["kind"]) else {"kind": reward},
        "noise": {"kind": noise} | ({} if noise in _MEANS else {"scale": noise_scale}),
        "logging": {"kind": logging} | policy,
        "target": {"target": {"mean": target_mean, "scale": target_scale}},
    }


def _integers(text, option):
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"{option}: expected whole numbers separated by commas, as 8,64,512; got {text!r}"
        ) from None


# Running: every world in batches, each stored as it finishes.


def _run(plan, folder, mesh, memory, console):
    started = time.perf_counter()
    (folder / "parts").mkdir(exist_ok=True)
    size = engine.batch_size(plan.worlds, plan.grid, plan.replicates, _budget(memory), mesh)
    rows = []
    with _progress(console) as progress:
        bars = [
            progress.add_task(f"{world.name} d={world.d}", total=plan.replicates)
            for world in plan.worlds
        ]
        for world, bar in zip(plan.worlds, bars, strict=True):
            rows += _run_world(
                plan,
                world,
                folder / "parts",
                size,
                mesh,
                lambda k, bar=bar: progress.advance(bar, k),
            )
    return rows, time.perf_counter() - started


def _run_world(plan, world, folder, size, mesh, advance):
    key = jax.random.fold_in(jax.random.key(plan.seed), _world_number(world))
    mark = storage.fingerprint(
        [2, _entry(plan, world), plan.grid, plan.seed, str(jnp.zeros(()).dtype)]
    )
    parts = Parts(folder, f"{world.name}-d{world.d}", mark)
    gaps = devices.agree(list(engine.gaps(parts.done(), plan.replicates)))
    advance(plan.replicates - sum(stop - start for start, stop in gaps))
    for span in gaps:
        batches = _counted(engine.run(key, world, plan.grid, span, size, mesh), advance)
        if devices.is_first():
            parts.collect(span[0], batches)
        else:
            _drain(batches)
    if not devices.is_first():
        return []
    joined = concatenate([parts.load(span) for span in parts.done()])
    return summarise(world, plan.grid, jax.tree.map(lambda x: x[: plan.replicates], joined))


def _drain(batches):
    for _ in batches:
        pass


def _counted(batches, advance):
    for batch in batches:
        yield batch
        advance(count(batch))


def _budget(memory):
    """Bytes for a batch: on CPU what the caches hold, elsewhere enough to fill the device."""
    if memory is not None and not memory > 0:
        raise ValueError(f"--memory: expected a positive number of MiB, got {memory}")
    default = 48 if jax.default_backend() == "cpu" else 4096
    return (memory or default) * 2**20


def _world_number(world):
    """A number from the world's name and dimension, so that its draws do not depend on the other
    worlds.
    """
    return int(storage.fingerprint([world.name, world.d])[:7], 16)


def _entry(plan, world):
    return next(entry for entry in plan.spec["world"] if entry["name"] == world.name) | {
        "d": world.d
    }


def _progress(console):
    return Progress(
        TextColumn("{task.description:>16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


# Showing: the table, the files.


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per world, estimand, estimator and interval: smallest n that holds, sample-size
    ratio, width at the end.
    """
    groups: dict[tuple, dict[str, list]] = {}
    for row in rows:
        key = (row["world"], row["d"], row["estimand"], row["estimator"])
        groups.setdefault(key, {}).setdefault(row["interval"], []).append(row)
    return [
        dict(zip(("world", "d", "estimand", "estimator"), key, strict=True))
        | _line(name, some, columns.get("normal", []))
        for key, columns in groups.items()
        for name, some in columns.items()
    ]


def _line(name, rows, baseline):
    ratio, exact = sample_size_ratio(baseline, rows, LEVEL) if baseline else (math.nan, False)
    first, last = rows[0], rows[-1]
    return {
        "interval": name,
        "holds_from": smallest_n(rows, LEVEL),
        "ratio": ratio,
        "ratio_exact": exact,
        "worst": min(rows, key=lambda row: row["coverage"]),
        "first": first,
        "last": last,
    }


def _show(rows, folder, seconds):
    console = Console(width=100)
    lines = summary(rows)
    console.print(_LEGEND, style="dim")
    for key in dict.fromkeys(
        (line["world"], line["d"], line["estimand"], line["estimator"]) for line in lines
    ):
        some = [
            line
            for line in lines
            if (line["world"], line["d"], line["estimand"], line["estimator"]) == key
        ]
        console.print(_table(*key, some))
    best = max(
        (line for line in lines if line["ratio"] == line["ratio"]),
        key=lambda line: line["ratio"],
        default=None,
    )
    if best:
        more = "" if best["ratio_exact"] else "at least "
        console.print(
            f"Largest sample-size ratio to normal: {more}{best['ratio']:,.0f}, by"
            f" {best['interval']} ({best['world']}, d={best['d']}, {best['estimand']})."
        )
    console.print(
        f"{seconds:.0f} s. Written: {folder}/results.parquet, coverage.png, coverage.svg",
        highlight=False,
    )


def _table(world, d, estimand, estimator, lines):
    first, last = lines[0]["first"], lines[0]["last"]
    logs, ess = f"{first['replicates']:,} logs", f"ESS {last['ess_median']:,.0f} at n={last['n']:,}"
    title = f"{world}, d={d}: {estimand} by {estimator} ({logs}; {ess})"
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("interval", no_wrap=True)
    headers = ("from n", "× fewer", f"at n={first['n']:,}", f"at n={last['n']:,}", "worst", "width")
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    for line in lines:
        holds = "never" if line["holds_from"] is None else f"{line['holds_from']:,}"
        ratio = (
            ""
            if math.isnan(line["ratio"])
            else f"{'' if line['ratio_exact'] else '≥ '}{line['ratio']:,.4g}"
        )
        cells = map(_coverage, (line["first"], line["last"], line["worst"]))
        table.add_row(line["interval"], holds, ratio, *cells, f"{line['last']['width_ratio']:.3f}")
    return table


def _coverage(row):
    """Coverage ± half the Wilson interval."""
    return f"{row['coverage']:.3f} ±{(row['coverage_high'] - row['coverage_low']) / 2:.3f}"


def _write(folder, rows, about):
    storage.write_results(folder / "results.parquet", rows, about)
    for suffix in ("png", "svg"):
        files.write_atomically(
            folder / f"coverage.{suffix}",
            lambda path: plots.save(plots.coverage_figure(rows), path),
        )


def _finite(value):
    """JSON has no infinity: null instead."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

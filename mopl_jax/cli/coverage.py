"""`mopl coverage`: run a study, show its progress, its table and its figure; resume what was
killed.
"""

from pathlib import Path
from typing import Annotated

from mopl_jax.cli import show
from mopl_jax.cli.options import Devices, Document, float64, integers, option

QUICK = ("normal", "ess_bessel", "ess_student", "ess_exact", "ess_safe")
Number = float | None
Whole = int | None
Text = str | None
Names = list[str] | None


def coverage(
    config: Annotated[Path | None, option("Study in TOML; without it, the default study.")] = None,
    out: Annotated[Path, option("Folder for results, figure and resumable parts.")] = Path(
        "mopl-coverage"
    ),
    replicates: Annotated[Whole, option("Synthetic logs for each world.")] = None,
    seed: Annotated[Whole, option("Seed; the same seed gives the same numbers.")] = None,
    alpha: Annotated[Number, option("One minus the nominal coverage.")] = None,
    n: Annotated[Text, option("Sample sizes, as 8,64,512.")] = None,
    d: Annotated[Text, option("Objectives (dimension of the action), as 2,5,10.")] = None,
    estimator: Annotated[
        Names, option("ips, snips, beta_ips, doubly_robust, …; repeat for several.")
    ] = None,
    interval: Annotated[Names, option("Interval name; repeat for several.")] = None,
    reward: Annotated[Text, option("Mean reward: linear, quadratic, cosine, exponential.")] = None,
    noise: Annotated[
        Text, option("Noise: normal, student_t, log_normal, bernoulli, zero_inflated.")
    ] = None,
    noise_scale: Annotated[Number, option("Scale of the noise.")] = None,
    logging: Annotated[Text, option("Logging policy: normal or uniform.")] = None,
    logging_mean: Annotated[Number, option("Its mean (centre of the box), each objective.")] = None,
    logging_scale: Annotated[
        Number, option("Its standard deviation (half-width of the box).")
    ] = None,
    target_mean: Annotated[Number, option("Mean of the normal target policy.")] = None,
    target_scale: Annotated[Number, option("Standard deviation of the target policy.")] = None,
    quick: Annotated[bool, option("A small run, under 30 seconds.", "--quick")] = False,
    x64: Annotated[bool, option("Evaluate in float64 (the same logs).", "--x64")] = False,
    memory: Annotated[Number, option("MiB for one batch of logs.")] = None,
    device: Devices = None,
    coordinator: Annotated[Text, option("HOST:PORT of process 0, for several processes.")] = None,
    processes: Annotated[Whole, option("How many processes there are.")] = None,
    process: Annotated[Whole, option("Which of them this is, from 0.")] = None,
    distributed: Annotated[
        bool, option("Join the job that SLURM … describes.", "--distributed")
    ] = False,
    as_json: Document = False,
) -> None:
    """How often do intervals cover, and how many samples does an ESS correction save?

    Runs synthetic logs with known truth, prints for each interval the smallest n from which its
    coverage stays at 0.94 or more, the sample-size ratio to `normal`, and its width over an
    oracle's; writes results.parquet (tidy, with provenance), coverage.png and coverage.svg. A
    killed run resumes where it stopped. Any option about the world (--reward … --target-scale,
    --d) replaces the study's worlds by one of your own, with the reference's defaults.
    """
    sizes = integers(n, "--n")
    if quick:
        replicates, sizes = replicates or 400, sizes or [8, 64, 512]
        interval = interval or list(QUICK)
    float64(x64)
    from mopl_jax.coverage import run
    from mopl_jax.numerics import devices
    from mopl_jax.report import coverage_figure, coverage_table

    mesh = devices.start(device, coordinator, processes, process, distributed)
    with show.bars(as_json or not devices.is_first(), lasting=True) as advance:
        found = run.coverage_study(
            config,
            world=run.custom_world(
                integers(d, "--d"),
                reward,
                noise,
                noise_scale,
                logging,
                logging_mean,
                logging_scale,
                target_mean,
                target_scale,
            ),
            n=sizes,
            replicates=replicates,
            seed=seed,
            alpha=alpha,
            estimators=estimator,
            intervals=interval,
            out=out,
            memory=memory,
            mesh=mesh,
            advance=advance,
        )
    if not devices.is_first():
        return
    coverage_figure.write(out, found.rows)
    if as_json:
        show.print_json(found.to_dict())
    else:
        coverage_table.show(found, out)

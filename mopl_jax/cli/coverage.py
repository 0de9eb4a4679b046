"""`mopl coverage`: run a study, show its progress, its table and its figure; resume what was
killed.
"""

from pathlib import Path

from mopl_jax.cli import show
from mopl_jax.cli.options import DEVICES, DOCUMENT, flag, float64, integers, option, takes

QUICK = ("normal", "ess_bessel", "ess_student", "ess_exact", "ess_safe")
WORLD = {
    "reward": option(str, "Mean reward: linear, quadratic, cosine, exponential, probit."),
    "noise": option(str, "Noise: normal, student_t, log_normal, bernoulli, zero_inflated."),
    "noise_scale": option(float, "Scale of the noise."),
    "logging": option(str, "Logging policy: normal or uniform."),
    "logging_mean": option(float, "Its mean (centre of the box), each objective."),
    "logging_scale": option(float, "Its standard deviation (half-width of the box)."),
    "target_mean": option(float, "Mean of the normal target policy."),
    "target_scale": option(float, "Standard deviation of the target policy."),
}
JOB = {
    "coordinator": option(str, "HOST:PORT of process 0, for several processes."),
    "processes": option(int, "How many processes there are."),
    "process": option(int, "Which of them this is, from 0."),
    "distributed": flag("Join the job that SLURM … describes.", "--distributed"),
}
OUT = "Folder for results, figure and resumable parts."


@takes(
    config=option(Path, "Study in TOML; without it, the default study."),
    out=option(Path, OUT, Path("mopl-coverage")),
    replicates=option(int, "Synthetic logs for each world."),
    seed=option(int, "Seed; the same seed gives the same numbers."),
    alpha=option(float, "One minus the nominal coverage."),
    n=option(str, "Sample sizes, as 8,64,512."),
    d=option(str, "Objectives (dimension of the action), as 2,5,10."),
    estimator=option(list[str], "ips, snips, beta_ips, doubly_robust, …; repeat for several."),
    interval=option(list[str], "Interval name; repeat for several."),
    **WORLD,
    quick=flag("A small run, under 30 seconds.", "--quick"),
    x64=flag("Evaluate in float64 (the same logs).", "--x64"),
    memory=option(float, "MiB for one batch of logs."),
    device=DEVICES,
    **JOB,
    as_json=DOCUMENT,
)
def coverage(config, out, n, d, estimator, interval, quick, x64, device, as_json, **given):
    """How often do intervals cover, and how many samples does an ESS correction save?

    Runs synthetic logs with known truth, prints for each interval the smallest n from which its
    coverage stays at 0.94 or more, the sample-size ratio to `normal`, and its width over an
    oracle's; writes results.parquet (tidy, with provenance), coverage.png and coverage.svg. A
    killed run resumes where it stopped. Any option about the world (--reward … --target-scale,
    --d) replaces the study's worlds by one of your own, with the reference's defaults.
    """
    sizes = integers(n, "--n")
    if quick:
        given["replicates"], sizes = given["replicates"] or 400, sizes or [8, 64, 512]
        interval = interval or list(QUICK)
    float64(x64)
    from mopl_jax.coverage import run
    from mopl_jax.numerics import devices
    from mopl_jax.report import coverage_figure, coverage_table

    world = {name: given.pop(name) for name in WORLD}
    mesh = devices.start(device, **{name: given.pop(name) for name in JOB})
    with show.bars(as_json or not devices.is_first(), lasting=True) as advance:
        found = run.coverage_study(
            config,
            world=run.custom_world(d=integers(d, "--d"), **world),
            n=sizes,
            estimators=estimator,
            intervals=interval,
            out=out,
            **given,
            mesh=mesh,
            advance=advance,
            announce=_announce,
        )
    if not devices.is_first():
        return
    coverage_figure.write(out, found.rows)
    show.answer(found, as_json, coverage_table.show, out)


def _announce(minutes):
    show.announce("this study", minutes, "fewer by --replicates, --n and --d")

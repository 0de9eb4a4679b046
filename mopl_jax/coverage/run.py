"""A coverage study from its description to its table: worlds in batches, stored as they finish.

The verb `coverage_study` reads a study, runs it on a mesh, and resumes what was killed.
"""

import collections
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mopl_jax.coverage import engine, study
from mopl_jax.coverage.parts import Parts
from mopl_jax.coverage.replicates import concatenate, count
from mopl_jax.coverage.results import CoverageStudy, summarise
from mopl_jax.coverage.study import Study
from mopl_jax.coverage.world import Grid, World
from mopl_jax.io import files, storage
from mopl_jax.numerics import devices
from mopl_jax.numerics.program import program
from mopl_jax.numerics.progress import Advance, silent
from mopl_jax.numerics.pytree import entries
from mopl_jax.numerics.shapes import OneKey

# Numbers of actions that one core draws and weighs in a second, and as how many of them a row's
# estimates and intervals count: the default study takes 76 seconds of a core, and 79 by these.
NUMBERS_A_SECOND, OF_A_ROW = 50e6, 10
CPU_BATCH, ACCELERATOR_BATCH = 48, 4096  # MiB: what caches hold; enough to fill a device
WRITTEN = ("parts/", "results.parquet", "coverage.png", "coverage.svg")
# Mean rewards that suit a noise with a range: clicks at 5 to 15 %, watch time above 0.
MEANS = {
    "bernoulli": {"kind": "cosine", "amplitude": 0.05, "offset": 0.1},
    "zero_inflated": {"kind": "exponential", "rate": 0.1},
}


def coverage_study(
    source: Path | str | Mapping[str, Any] | None = None,
    *,
    world: Mapping[str, Any] | None = None,
    n: Sequence[int] | None = None,
    replicates: int | None = None,
    seed: int | None = None,
    alpha: float | None = None,
    estimators: Sequence[str] | None = None,
    intervals: Sequence[str] | None = None,
    out: Path | str | None = None,
    memory: float | None = None,
    mesh: Mesh | None = None,
    advance: Advance = silent,
    announce: Callable[[float], None] = lambda minutes: None,
) -> CoverageStudy:
    """How often intervals cover in the worlds of a study: a TOML file, its content, or the default.

    `world` replaces the study's worlds by one (see `custom_world`); what else is given replaces
    the study's own. The folder `out` gets results.parquet, and in parts/ what a killed run
    resumes from. `memory`: MiB for one batch of logs; like `mesh` it never changes a number.
    `announce` is told before it begins how many minutes of one core it is expected to take.
    ValueError in one line for a study that cannot be.
    """
    given = {"n": n, "replicates": replicates, "seed": seed, "alpha": alpha}
    given |= {"estimators": estimators, "intervals": intervals}
    given |= {"world": None if world is None else [world]}
    changes = {key: value for key, value in given.items() if value is not None}
    plan = study.planned(source, changes)
    announce(_minutes(plan))
    mesh, began = mesh or devices.one_device(), time.perf_counter()
    size = engine.batch_size(plan.worlds, plan.grid, plan.replicates, _budget(memory), mesh)
    with files.claimed(out, WRITTEN, lock=devices.is_first()) as folder:
        rows = _rows(_Run(plan, folder, size, mesh, advance))
        about = storage.provenance(study=plan.spec, seconds=time.perf_counter() - began)
        if folder is not None and devices.is_first():
            storage.write_results(folder / "results.parquet", rows, about)
    return CoverageStudy(tuple(rows), about)


def coverage_of(
    key: OneKey, world: World, grid: Grid, replicates: int, memory: float = 2**26
) -> list[dict]:
    """The tidy rows of one world: every estimand, estimator, n and interval, from so many logs."""
    size = engine.batch_size([world], grid, replicates, memory, devices.one_device())
    batches = list(engine.run(key, world, grid, (0, replicates), size))
    return summarise(world, grid, concatenate(batches))


def _minutes(plan):
    """Of one core: every world's longest logs are drawn, and weighed at all sizes."""
    rows = plan.replicates * max(plan.grid.n)
    numbers = sum(rows * (world.d + OF_A_ROW) for world in plan.worlds)
    return numbers / NUMBERS_A_SECOND / 60


def _budget(memory):
    """Bytes for a batch of logs."""
    if memory is not None and not memory > 0:
        raise ValueError(f"--memory: expected a positive number of MiB, got {memory}")
    default = CPU_BATCH if jax.default_backend() == "cpu" else ACCELERATOR_BATCH
    return (memory or default) * 2**20


def custom_world(**given: Any) -> dict[str, Any] | None:
    """A world as a study describes it; the reference's where not given, None if nothing is.

    `d`, `reward`, `noise`, `logging`: dimensions, and the kinds of the three.
    `noise_scale`: of the noise.
    `logging_mean`, `logging_scale`: mean of a weight, and its standard deviation, or half the
    width of a uniform box.
    `target_mean`, `target_scale`: of a normal target.

    The mean reward is one that suits the noise.
    """
    told = {name: value for name, value in given.items() if value is not None}
    return _custom(**told) if told else None


def _custom(
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
    mean = MEANS.get(noise, {"kind": "linear"})
    return {
        "name": "custom",
        "d": list(d),
        "reward": mean if reward in (None, mean["kind"]) else {"kind": reward},
        "noise": {"kind": noise} | ({} if noise in MEANS else {"scale": noise_scale}),
        "logging": {"kind": logging} | _spread(logging, logging_mean, logging_scale),
        "target": {"target": {"mean": target_mean, "scale": target_scale}},
    }


def _spread(logging, mean, scale):
    if logging == "uniform":
        return {"low": mean - scale, "high": mean + scale}
    return {"mean": mean, "scale": scale}


# Every world in batches, each stored as it finishes.


class _Run(NamedTuple):
    """A study under way: `folder` for its parts, replicates in a batch, devices, progress."""

    plan: Study
    folder: Path | None
    size: int
    mesh: Mesh
    advance: Advance


def _rows(run):
    """The tidy rows of all worlds; none on other processes than the first."""
    for world in run.plan.worlds:
        _tell(run, world, 0)
    return [row for world in run.plan.worlds for row in _rows_of(run, world)]


def _rows_of(run, world):
    if run.folder is None:
        found = concatenate(list(_batches(run, world, (0, run.plan.replicates))))
    else:
        found = _stored(run, world, _parts(run.plan, world, run.folder))
    return [] if found is None else summarise(world, run.plan.grid, found)


def _stored(run, world, parts):
    """All replicates of a world, those that `parts` lacks computed; None where not the first."""
    wanted = run.plan.replicates
    gaps = devices.agree(list(engine.gaps(parts.done(), wanted)))
    _tell(run, world, wanted - sum(stop - start for start, stop in gaps))
    for span in gaps:
        if devices.is_first():
            parts.collect(span[0], _batches(run, world, span))
        else:
            collections.deque(_batches(run, world, span), maxlen=0)
    if not devices.is_first():
        return None
    return entries(concatenate([parts.load(span) for span in parts.done()]), slice(wanted))


def _parts(plan, world, folder):
    """Where the world's finished batches are, by all that changes their numbers."""
    (folder / "parts").mkdir(exist_ok=True)
    about = {"format": 3, "entry": _entry(plan, world), "grid": plan.grid, "seed": plan.seed}
    about["dtype"] = str(jnp.zeros(()).dtype)
    return Parts(folder / "parts", f"{world.name}-d{world.d}", about, program())


def _batches(run, world, span):
    key = jax.random.fold_in(jax.random.key(run.plan.seed), _number(world))
    for batch in engine.run(key, world, run.plan.grid, span, run.size, run.mesh):
        yield batch
        _tell(run, world, count(batch))


def _tell(run, world, replicates):
    run.advance(f"{world.name} d={world.d}", replicates, run.plan.replicates)


def _number(world):
    """A number from the world's name and dimension: its draws do not depend on other worlds."""
    return int(storage.fingerprint([world.name, world.d])[:7], 16)


def _entry(plan, world):
    """The world's entry in the study."""
    entries = plan.spec["world"]
    return next(entry for entry in entries if entry["name"] == world.name) | {"d": world.d}

"""Synthetic logs of the stress study's worlds, for studies that judge them in their own way."""

from collections.abc import Iterator

import jax

from benchmarks._study import STUDIES
from mopl_jax.coverage import engine, study
from mopl_jax.coverage.world import World
from mopl_jax.numerics import devices


def stress_worlds(keep=lambda name: True, file: str = "stress") -> tuple[World, ...]:
    """The worlds of the stress study, or another file of studies, whose names are kept, in every
    dimension.
    """
    spec = study.read(STUDIES / f"{file}.toml")
    spec["world"] = [entry for entry in spec["world"] if keep(entry["name"])]
    return study.build(spec).worlds


def by_halves(halves, keep, cells, options, file: str = "stress") -> list[dict]:
    """The rows of `cells(world, seed, options)` for worlds of a file whose names are kept, each in
    the half of its dimension: `halves` maps a name to dimensions and a seed.
    """
    worlds = [world for world in stress_worlds(keep, file) if world.d in options.d]
    return [
        row | {"half": half}
        for world in worlds
        for half, (ds, seed) in halves.items()
        if world.d in ds
        for row in cells(world, seed, options)
    ]


def batch_keys(seed: int, world: World, replicates: int) -> jax.Array:
    """The engine's keys of the first replicates of a world."""
    key = jax.random.fold_in(jax.random.key(seed), world.d)
    return engine.batch_keys(key, 0, replicates, devices.one_device())


def logs_of(world: World, keys, n: int) -> Iterator[tuple[str, jax.Array, jax.Array]]:
    """For each target its name, log weights (r, n) and the rewards (r, n) that all share."""
    mesh = devices.one_device()
    action = engine.draw_batch(keys, world.logging, n, mesh)
    reward = engine.reward_batch(keys, world.environment, action, mesh)
    for name, target in world.targets.items():
        yield name, engine.weigh_batch(target, world.logging, action, mesh), reward

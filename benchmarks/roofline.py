"""How near is drawing to what this machine can do, on CPU or an accelerator? Words and normals a
second, against two roofs.

The roofs are measured, on the same devices: memory traffic by writing an array; arithmetic by
the generator itself, when of many words or normals only a sum is stored. A share is the speed
over the lower roof. JAX's own generator is beside it. `python -m benchmarks speed` has the sweep
over its draws.
"""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from benchmarks import _study
from mopl_jax.numerics import devices, random

SIZES = {"rounds": 9}
QUICK = {"rounds": 2}
D, CHAIN = 6, 16  # numbers of a row, blocks folded into one number
# Integer operations of a block of two words: rounds, injections, start and key schedule.
OPERATIONS = 20 * 5 + 5 * 3 + 3


def shape(backend: str) -> tuple[int, int]:
    """Replicates on a device and rows of each: what the engine keeps in the caches, or what fills
    an accelerator.
    """
    return (32, 2**13) if backend == "cpu" else (1024, 2**15)


def _normals(key, n):
    return jax.vmap(lambda row: random.normal(row, D), out_axes=1)(random.row_keys(key, n))


def _words(key, n):
    return jax.vmap(lambda row: jax.random.bits(row, (D,), jnp.uint32), out_axes=1)(
        random.row_keys(key, n)
    )


def _as_numbers(words):
    return [word.astype(jnp.float32) for word in words]


def _folded(numbers, key, n):
    """One number for each row, of a chain of `CHAIN` blocks of two, so that memory hardly
    counts.
    """
    words, total = (jnp.arange(n, dtype=jnp.uint32), jnp.zeros(n, jnp.uint32)), 0.0
    for _ in range(CHAIN):
        words = random.threefry2x32(jax.random.key_data(key), words)
        total = total + functools.reduce(jnp.add, numbers(words))
    return total


TASKS: dict[str, tuple[Callable, int]] = {  # of a key and rows; numbers made of a row
    "words, folded": (functools.partial(_folded, _as_numbers), 2 * CHAIN),
    "words, stored": (_words, D),
    "normals, folded": (functools.partial(_folded, random.box_muller), 2 * CHAIN),
    "normals, stored": (_normals, D),
    "zeros, stored": (
        lambda key, n: jnp.zeros((D, n)) + jax.random.key_data(key)[0].astype(jnp.float32),
        D,
    ),
    "jax.random.bits, stored": (lambda key, n: jax.random.bits(key, (D, n), jnp.uint32), D),
    "jax.random.normal, stored": (lambda key, n: jax.random.normal(key, (D, n)), D),
}


def rate(function: Callable, numbers: int, mesh: Mesh, rounds: int) -> float:
    """Numbers a second over the mesh: the median of some calls, compiled before."""
    together, n = shape(jax.default_backend())
    task, keys = prepared(function, mesh)
    took = statistics.median(seconds(task, keys) for _ in range(rounds))
    return numbers * n * together * mesh.size / took


def prepared(function: Callable, mesh: Mesh, **compiler_options: Any) -> tuple[Callable, jax.Array]:
    """A function of a key and rows, over the keys of the mesh: compiled, and run once."""
    together, n = shape(jax.default_backend())
    split = PartitionSpec("r")
    mapped = jax.vmap(lambda key: function(key, n))
    task = jax.jit(
        jax.shard_map(mapped, mesh=mesh, in_specs=split, out_specs=split, check_vma=False),
        compiler_options=compiler_options,
    )
    keys = jax.device_put(
        jax.random.split(jax.random.key(0), together * mesh.size), jax.NamedSharding(mesh, split)
    )
    jax.block_until_ready(task(keys))
    return task, keys


def seconds(task: Callable, keys: jax.Array) -> float:
    """Of one call."""
    started = time.perf_counter()
    jax.block_until_ready(task(keys))
    return time.perf_counter() - started


def shares(rates: dict[str, float]) -> dict[str, float]:
    """Of words and normals stored: their speed over the lower of the two roofs."""
    return {
        f"{name}, stored": (
            rates[f"{name}, stored"] / min(rates["zeros, stored"], rates[f"{name}, folded"])
        )
        for name in ("words", "normals")
    }


def run(options) -> _study.Rows:
    """Numbers a second of each task, and the share of its roof."""
    mesh = devices.start()
    rates = {name: rate(*task, mesh, options.rounds) for name, task in TASKS.items()}
    found = shares(rates)
    rows = [
        {"task": name, "numbers_per_second": each, "share_of_the_roof": found.get(name)}
        for name, each in rates.items()
    ]
    operations = rates["words, folded"] / 2 * OPERATIONS
    kind = mesh.devices.flat[0].device_kind
    return _study.Rows(rows, d=D, device_kind=kind, operations=operations)


def table(rows: _study.Rows) -> str:
    """10⁹ a second, shares, operations and bytes."""
    rates = {row["task"]: row["numbers_per_second"] for row in rows}
    lines = [
        [row["task"], f"{row['numbers_per_second'] / 1e9:.3f}", _percent(row["share_of_the_roof"])]
        for row in rows
    ]
    head = ("task", "10⁹ a second", "share of the roof")
    return (
        f"{_study.markdown(head, lines)}\n\n{rows.about['device']}:"
        f" {rows.about['operations'] / 1e9:,.0f} × 10⁹ integer operations a second,"
        f" {4e-9 * rates['zeros, stored']:.1f} GB/s written."
    )


def _percent(share):
    return None if share is None else f"{share:.0%}"

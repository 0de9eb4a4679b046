"""Coverage of confidence intervals over thousands of synthetic logs: draw once, evaluate
everything.

Replicate i of a world draws from `fold_in(key, i)`, whatever the batch or the device; its log at
n rows is the prefix of its log at the largest n. One compiled function draws a batch of logs,
one weighs them for a target, one evaluates every sample size and interval; all targets, worlds
and batches of the same shape share the last.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.random import fold_in
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mopl_jax.coverage.replicates import Cell, Replicates
from mopl_jax.coverage.world import Grid, World
from mopl_jax.estimators.contrast import contrast
from mopl_jax.estimators.estimator import Columns, Member, estimate_of, member
from mopl_jax.estimators.registry import bind_estimator, is_of_target
from mopl_jax.intervals import registry as intervals
from mopl_jax.intervals.facts import Facts
from mopl_jax.intervals.formulas import Wald
from mopl_jax.intervals.moments import Moments, moments_stage
from mopl_jax.logs import Logs
from mopl_jax.numerics import random
from mopl_jax.numerics.devices import one_device
from mopl_jax.numerics.pytree import entries, stacked
from mopl_jax.numerics.quick_jit import wide_jit
from mopl_jax.numerics.reduce import Whole, prefixes, run_passes, whole_block
from mopl_jax.numerics.shapes import OneKey
from mopl_jax.policies.gaussian import same_moments
from mopl_jax.policies.policy import Policy
from mopl_jax.simulation.environments import Environment

NO_FACTS = Facts()


def replicate(key: OneKey, environment: Environment, logging: Policy, n: int) -> Logs:
    """One log of `n` rows; the first m rows are the log of m rows."""
    action = _draw(key, logging, n)
    reward = _rewards(key, environment, action)
    return Logs(action.T, jax.vmap(logging.log_density, in_axes=1)(action), reward)


# One replicate. Actions are (d, n) here, so that each objective is a contiguous vector over the
# rows.


def _draw(key, logging, n):
    return jax.vmap(logging.sample, out_axes=1)(random.row_keys(fold_in(key, 0), n))


def _rewards(key, environment, action):
    keys = random.row_keys(fold_in(key, 1), action.shape[1])
    return jax.vmap(environment.sample_reward, in_axes=(0, 1))(keys, action)


def _log_weights(target, logging, action):
    return jax.vmap(lambda a: target.log_density(a) - logging.log_density(a), in_axes=1)(action)


def member_of(estimator: Any, targets: Sequence[Any]) -> Member:
    """The value of the first target, less that of the second one."""
    each = [
        member(bind_estimator(estimator, target), lambda block, k=k: block.columns.log_weights[k])
        for k, target in enumerate(targets)
    ]
    return functools.reduce(contrast, each)


def moments_at(sizes: Sequence[int], columns: Columns, member: Member) -> Moments:
    """`Moments` (n,) of one log at every sample size.

    A model of the rewards is fitted prefix by prefix: its Gram matrix for every tile is too large.
    """
    stages = (*member.stages, moments_stage(member))
    if columns.action is None:
        return run_passes(prefixes(columns, sizes), stages)
    return stacked([run_passes(Whole(_head(columns, n)), stages) for n in sizes])


def _head(columns, n):
    return whole_block(entries(columns, slice(n)))


def _evaluate(columns, grid, estimator, facts, targets):
    """Values, sizes, pivots and other interval ends of one log at every sample size.

    Formulas act on all sample sizes at once; intervals that are no formula in the sums see the rows
    of each prefix.
    """
    functions = {
        name: intervals.bind(name, facts) for name in intervals.available(grid.intervals, facts)
    }
    rest = [name for name, f in functions.items() if not isinstance(f, Wald)]
    of_log = member_of(estimator, targets)
    sums = moments_at(grid.n, columns, of_log)
    estimates = [estimate_of(of_log, _head(columns, n)) for n in grid.n if rest]
    pivots = [f.at(sums) for f in functions.values() if isinstance(f, Wald)]
    others = {
        name: stacked(
            [_seen(name, facts, n)(x, grid.alpha) for n, x in zip(grid.n, estimates, strict=True)],
            -1,
        )
        for name in rest
    }
    return sums.value, sums.kish, stacked(pivots, -1) if pivots else None, others


def _seen(name, facts, n):
    """The interval at n rows: simulated weights, where it needs them, are of as many."""
    draws = None if facts.draws is None else facts.draws[:, :n]
    return intervals.bind(name, dataclasses.replace(facts, draws=draws))


def _finish(value, size, pivots, others, grid, names):
    """`Replicates` of one log: one evaluation of the Student quantile for all sample sizes and
    intervals.
    """
    made = pivots.interval(grid.alpha) if pivots is not None else None
    wald = [name for name in names if name not in others]
    columns = {name: entries(made, (..., i)) for i, name in enumerate(wald)}
    ends = stacked([(others | columns)[name] for name in names], -1)
    return Replicates(value, size, ends.lower, ends.upper)


# A batch of replicates: the compiled functions, each split over the mesh by replicate.


def chunk(n: int) -> int:
    """Replicates that are computed together, a function of the rows of a log alone.

    Floating-point sums depend in their last bit on the shape of the loop around them; a fixed
    chunk makes results identical whatever the batch, the memory, the devices and the processes.
    It also keeps a chunk in the caches.
    """
    together, most = (2**18, 32) if jax.default_backend() == "cpu" else (2**25, 1024)
    return max(1, min(together // n, most))


def _over_replicates(function, mesh, together=None):
    """`function` of one replicate over all, split over the devices of `mesh`, so many
    `together`; closures are shared.

    Elementwise functions take all at once: their result depends on no shape, and a loop would
    only slow them down.
    """
    split = PartitionSpec("r")  # check_vma does not know the axis that vmap names inside
    looped = lambda *x: jax.lax.map(lambda one: function(*one), x, batch_size=together)  # noqa: E731
    mapped = looped if together else jax.vmap(function)
    return jax.shard_map(mapped, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)


@functools.partial(jax.jit, static_argnames=("size", "mesh"))
def batch_keys(key, start, size, mesh):
    """Keys (r,) of replicates start … start+size−1, each made on the device that uses it."""
    spread = NamedSharding(mesh, PartitionSpec("r"))
    index = jax.lax.with_sharding_constraint(start + jnp.arange(size), spread)
    return jax.vmap(fold_in, in_axes=(None, 0))(key, index)


@wide_jit("n", "mesh")
def draw_batch(keys, logging, n, mesh):
    """Actions (r, d, n) of a batch of logs."""
    return _over_replicates(lambda key: _draw(key, logging, n), mesh, chunk(n))(keys)


@wide_jit("mesh")
def reward_batch(keys, environment, action, mesh):
    """Rewards (r, n): common random numbers across environments."""
    return _over_replicates(lambda key, a: _rewards(key, environment, a), mesh)(keys, action)


@functools.partial(jax.jit, static_argnames="mesh")
def weigh_batch(target, logging, action, mesh):
    """Log importance weights (r, n)."""
    return _over_replicates(lambda a: _log_weights(target, logging, a), mesh)(action)


@functools.partial(jax.jit, static_argnames=("grid", "estimator", "mesh"))
def evaluate_batch(
    log_weights, reward, grid, estimator, mesh, facts=NO_FACTS, action=None, targets=(None, None)
):
    """`Replicates` of a batch: one log weight (r, n) for a value, two for a difference.

    `reward` (r, n); `action` (r, d, n) and the `targets` of the log weights where the estimator
    has a model of the rewards. Only the intervals that `facts` allow, in the grid's order.
    """
    together, names = chunk(reward.shape[-1]), intervals.available(grid.intervals, facts)
    targets = targets[: len(log_weights)]
    actions = () if action is None else (action,)
    columns = lambda r, a, w: Columns(r, w, a[0].T if a else None)  # noqa: E731
    one = lambda r, a, *w: _evaluate(columns(r, a, w), grid, estimator, facts, targets)  # noqa: E731
    found = _over_replicates(one, mesh, together)(reward, actions, *log_weights)
    finish = lambda value, size, pivots, others: _finish(value, size, pivots, others, grid, names)  # noqa: E731
    return _over_replicates(finish, mesh, together)(*found)


def run_batch(
    key: OneKey,
    world: World,
    grid: Grid,
    start: int,
    size: int,
    mesh: Mesh,
    facts: Mapping[str, Facts] | None = None,
) -> dict[Cell, Replicates]:
    """Replicates start … start+size−1 of a world, one entry per estimand and estimator; `size`
    divides over the mesh.

    `facts` by estimand, made by `known` if None: many batches share them.
    """
    facts = known(key, world, grid) if facts is None else facts
    keys = batch_keys(key, start, size, mesh)
    action = draw_batch(keys, world.logging, grid.n[-1], mesh)
    reward = reward_batch(keys, world.environment, action, mesh)
    weights = {
        name: weigh_batch(target, world.logging, action, mesh)
        for name, target in world.targets.items()
    }

    def evaluate(estimand, names, estimator):
        arrays = [weights[name] for name in names]
        targets = tuple(world.targets[name] for name in names)
        more = (action, targets) if is_of_target(estimator) else ()
        return evaluate_batch(arrays, reward, grid, estimator, mesh, facts[estimand], *more)

    return {
        (estimand, estimator): evaluate(estimand, names, estimator)
        for estimand, names in world.estimands.items()
        for estimator in grid.estimators
        if _serves(estimator, [world.targets[name] for name in names])
    }


def _serves(estimator, targets):
    """The value of a quadratic model is known where the target's moments are."""
    return not is_of_target(estimator) or all(same_moments(x) is not None for x in targets)


def known(key: OneKey, world: World, grid: Grid) -> dict[str, Facts]:
    """The facts of each estimand, if any interval of the grid uses any."""
    uses = any(name not in intervals.WALD for name in grid.intervals)
    return {
        estimand: _drawn(key, world, grid, estimand) if uses else Facts()
        for estimand in world.estimands
    }


def _drawn(key, world, grid, estimand):
    """The facts of an estimand, with simulated logs of the weights alone if an interval of the grid
    needs them.
    """
    facts = jax.tree.map(np.asarray, world.facts(estimand))  # on no device: every process has them
    if (
        not any("draws" in intervals.missing(name, facts) for name in grid.intervals)
        or facts.reward_range is None
    ):
        return facts
    keys = jax.vmap(fold_in, in_axes=(None, 0))(fold_in(key, 2**31 - 1), jnp.arange(_DRAWS))
    draws = draw_batch(keys, world.logging, grid.n[-1], one_device())
    log_weights = weigh_batch(world.targets[estimand], world.logging, draws, one_device())
    return dataclasses.replace(facts, draws=np.asarray(log_weights))


_DRAWS = 16  # simulated logs of weights, for the expectations of `efron_stein`


def batch_size(
    worlds: Sequence[World], grid: Grid, replicates: int, memory: float, mesh: Mesh
) -> int:
    """Replicates per batch within `memory` bytes a process for actions, weights, rewards; whole
    chunks on every device.

    One size for all worlds, so that one compiled evaluation serves them all. At least one chunk
    a device; no more than `replicates` rounded up.
    """
    columns = max(world.d + 2 * len(world.targets) + 2 for world in worlds)
    step = chunk(grid.n[-1]) * mesh.size
    fits = (
        memory * jax.process_count() / (grid.n[-1] * jnp.zeros(()).dtype.itemsize * columns * step)
    )
    return step * max(1, min(int(fits), math.ceil(replicates / step)))


def gaps(done: Sequence[tuple[int, int]], replicates: int) -> Iterator[tuple[int, int]]:
    """Ranges of 0 … replicates−1 that the ranges already `done` leave open."""
    position = 0
    for begin, end in [*sorted(done), (replicates, replicates)]:
        if position < min(begin, replicates):
            yield position, min(begin, replicates)
        position = max(position, end)


def run(
    key: OneKey,
    world: World,
    grid: Grid,
    span: tuple[int, int],
    size: int,
    mesh: Mesh | None = None,
) -> Iterator[dict[Cell, Replicates]]:
    """Batches that fill `span` (start, stop), as numpy arrays on every process.

    Every batch runs at `size`, a multiple of the mesh's devices, so that nothing compiles twice;
    the last is cut.
    """
    mesh, facts = mesh or one_device(), known(key, world, grid)
    for start in range(span[0], span[1], size):
        batch = gather(run_batch(key, world, grid, start, size, mesh, facts))
        yield entries(batch, slice(min(size, span[1] - start)))


def gather(tree: Any) -> Any:
    """Numpy copies of arrays over replicates, which may be spread over several processes: all of
    them in one message.
    """
    if jax.process_count() == 1:
        return jax.device_get(tree)
    leaves, form = jax.tree.flatten(tree)
    packed = np.asarray(_packed(leaves[0].sharding.mesh)(leaves).addressable_data(0))
    ends = np.cumsum([math.prod(x.shape[1:]) for x in leaves])
    parts = np.split(packed, ends[:-1], axis=1)
    return jax.tree.unflatten(
        form, [part.reshape(x.shape) for part, x in zip(parts, leaves, strict=True)]
    )


@functools.cache
def _packed(mesh):
    """A function that puts arrays (r, …) side by side, on every process."""
    beside = lambda leaves: jnp.concatenate([x.reshape(x.shape[0], -1) for x in leaves], axis=1)  # noqa: E731
    return jax.jit(beside, out_shardings=NamedSharding(mesh, PartitionSpec()))

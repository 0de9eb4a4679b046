"""Does `--bandwidth auto` come near the best fixed bandwidth in other worlds, and who else does?

Worlds are those of `benchmarks/_learning_worlds.py` (without users), logs N(0, I) of three shapes,
and the value of two points each, played exactly. `auto` takes shape and size from the curvature
about the point; `round` its size alone; `signed` lets curvatures of two signs cancel, as published
(Lee et al., KMIS, NeurIPS 2022); `slope` is SLOPE (Su et al., ICML 2020) as KMIS's authors run it.
Errors are over those of the best of the fixed bandwidths that `auto` tries, chosen by the truth in
each cell. The interval of `auto` is at half of alpha; what it is made of was chosen on the worlds
named "chosen by". Last, the design that KMIS's authors publish (`haanvid/kmis`, absolute error):
actions and states uniform on [−1, 1]², reward −|a₁ − s₁/2|, the policy plays s/2: in z = a − s/2
the value of one point, 0.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _learning_worlds
from benchmarks._learning_worlds import REPORTING, WORLDS, _draws, _means
from benchmarks._study import grouped, markdown
from benchmarks.bandwidth import ALPHA
from mopl_jax import estimators, intervals
from mopl_jax.evaluation.smoothing import CHOSEN, bend_about, least_error
from mopl_jax.evaluation.smoothing import SIZES as TRIED
from mopl_jax.logs import Logs, log_weights
from mopl_jax.policies import Gaussian, smooth

SIZES = {"replicates": 40, "d": (3, 2, 5), "n": (4096, 1000, 4096), "worlds": tuple(WORLDS)}
QUICK = {"replicates": 2, "d": (2,), "n": (300,), "worlds": ("quadratic",)}
POINTS = (0.5, 0.5, 0.5, 0.5, 0.5), (1.0, -0.5, 0.2, 0.0, 0.0)
PUBLISHED = 300, 2285, 10225, 40000  # of the twenty-one sizes of the authors
HALVES = tuple(0.5**k for k in range(7, 0, -1))  # SLOPE's, of standard deviations
METHODS = ("fixed", "auto", "round", "signed", "slope")


def run(options) -> list[dict]:
    """One row a cell and method."""
    jax.config.update("jax_enable_x64", True)
    return [row for cell, facts in cells(options) for row in _rows(cell, *facts)]


def cells(options) -> Iterator[tuple]:
    """Each cell, and its logs, point and truth."""
    for d, n in zip(options.d, options.n, strict=True):
        for world in (world for world in options.worlds if world != "users"):
            for noise in ("metric", "bit")[: 1 if world == "heavy" else 2]:
                logs = _stack(options, _learning_worlds.draw, world, noise, d, n)
                for k, point in enumerate(POINTS):
                    cell = {"world": world, "noise": noise, "d": d, "n": n, "point": k}
                    at = np.asarray(point[:d])
                    yield cell, (logs, at, lambda x, world=world: np.asarray(_means(world)(x)))
    for n in PUBLISHED[: None if options.replicates > 2 else 1]:
        cell = {"world": "absolute error", "noise": "none", "d": 2, "n": n, "point": 0}
        yield cell, (_stack(options, published, n), np.zeros(2), lambda x: -np.abs(x[:, 0]))


def published(seed: int, n: int) -> Logs:
    """A log of the authors' design, its actions from those of the policy."""
    rng = np.random.default_rng(seed)
    state, action = rng.uniform(-1, 1, (2, n, 2))
    z = action - 0.5 * state
    return Logs(z, np.full(n, np.log(0.25)), -np.abs(z[:, 0]))  # pyright: ignore[reportArgumentType]


def _stack(options, draw, *shape):
    made = [draw(seed, *shape) for seed in range(options.replicates)]
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *made)


def _rows(cell, logs, point, mean) -> Iterator[dict]:
    """Of each method the error over the best fixed one's; of `auto` and of that its coverage."""
    fixed, found, kernels, ends = jax.tree.map(np.asarray, _found(logs, jnp.asarray(point)))
    truth, around = float(mean(point[None])[0]), np.asarray(_draws(len(point)))
    errors = [_rmse(value, truth) for value in fixed[..., 0].T]
    first = int(np.argmin(errors))

    def holds(factors, ends):
        smoothed = np.array([np.mean(mean(point + around @ x.T)) for x in factors])
        return float(np.mean((ends[:, 0] <= smoothed) & (smoothed <= ends[:, 1])))

    best = np.diag(np.full(len(point), TRIED[first]) * np.asarray(logs.action).std(axis=(0, 1)))
    coverage = {"fixed": holds([best] * len(fixed), fixed[:, first, 1:])}
    plain, coverage["auto"] = (holds(np.linalg.cholesky(kernels), x) for x in ends)
    for name, value in {"fixed": fixed[:, first, 0], **found}.items():
        row = cell | {"method": name, "replicates": len(value), "rmse": _rmse(value, truth)}
        row |= {"over_best": row["rmse"] / errors[first], "holds": coverage.get(name)}
        yield row | {"holds_plain": plain if name == "auto" else coverage.get(name)}


def _rmse(value, truth):
    return float(np.sqrt(np.mean(np.square(value - truth))))


@jax.jit
def _found(logs, point) -> tuple[Any, ...]:
    return jax.lax.map(functools.partial(_one, point), logs)


def _one(point, log):
    """Of one log: the value at each fixed bandwidth and by each method, and what is chosen."""

    def value(target, alpha=ALPHA):
        estimate = estimators.snips(log_weights(target, log), log.reward)
        ends = intervals.ess_exact(estimate, alpha)
        return jnp.stack([estimate.value, ends.lower, ends.upper])

    bend = bend_about(log.action, log.reward, point)
    size, axes = jnp.linalg.eigh(bend.curvature)
    mean = jnp.mean(jnp.abs(size)) * jnp.eye(len(size))
    target = least_error(log, point, bend)
    round_one = least_error(log, point, bend._replace(curvature=mean))
    positive = jnp.sum(size > 0)
    share = jnp.abs(size) * jnp.where(size > 0, positive, len(size) - positive)
    share = share * (jnp.sum(jnp.abs(size)) / jnp.sum(share))
    signed = least_error(log, point, bend._replace(curvature=(axes * share[None]) @ axes.T))
    of = {"auto": target, "round": round_one, "signed": signed}
    values = {name: value(each)[0] for name, each in of.items()} | {"slope": slope(log, point)}
    fixed = jax.lax.map(lambda h: value(smooth(point, h * bend.unit)), jnp.asarray(TRIED))
    ends = [value(target, alpha)[1:] for alpha in (ALPHA, ALPHA / CHOSEN)]
    return fixed, values, target.covariance, ends


def slope(log, point):
    """The value by SLOPE: the last bandwidth whose interval of two standard errors, of IPS, meets
    those of all before it.
    """
    unit = jnp.std(log.action, axis=0)

    def each(h):
        weight = jnp.exp(log_weights(Gaussian.diagonal(point, h * unit), log))
        terms = weight * log.reward
        return jnp.mean(terms), jnp.std(terms) / jnp.sqrt(len(terms)), jnp.mean(weight)

    values, errors, weights = jax.lax.map(each, jnp.asarray(HALVES))
    errors = jax.lax.cummax(errors, reverse=True)
    low, high = values - 2 * errors, values + 2 * errors
    meets = (low <= jax.lax.cummin(high)) & (high >= jax.lax.cummax(low))
    index = jnp.maximum(jnp.sum(jnp.cumprod(meets.astype(int))) - 1, 0)
    return values[index] / weights[index]


def table(rows: list[dict]) -> str:
    """Means over the cells of a kind, then every cell."""
    head = (
        "worlds",
        "method",
        "cells",
        "geometric mean",
        "share ≤ 1.2",
        "largest",
        "holds",
        "at alpha",
    )
    lines = [line for some in grouped(rows, "method").values() for line in _summary(some)]
    keys = ("world", "noise", "d", "n", "point")
    cells = [
        [*key, some[0]["rmse"], *(f"{row['over_best']:.2f}" for row in some[1:])]
        for key, some in grouped(rows, *keys).items()
    ]
    every = markdown((*keys, "best", *METHODS[1:]), cells, "llr")
    return f"{markdown(head, sorted(lines), 'll')}\n\n{every}"


def _summary(rows) -> Iterator[list]:
    for kind, some in _kinds(rows).items():
        ratio = np.array([row["over_best"] for row in some])
        holds = [[row["holds"], row["holds_plain"]] for row in some if row["holds"] is not None]
        numbers = np.exp(np.mean(np.log(ratio))), np.mean(ratio <= 1.2), ratio.max()
        held = [f"{x:.3f}" for x in np.mean(holds, axis=0)] if holds else ["", ""]
        yield [kind, some[0]["method"], len(some), *(f"{x:.2f}" for x in numbers), *held]


def _kinds(rows):
    kinds: dict[str, list[dict]] = {"chosen by": [], "only reported": [], "published": []}
    for row in rows:
        name = "only reported" if row["world"] in REPORTING else "chosen by"
        kinds["published" if row["world"] == "absolute error" else name].append(row)
    return {kind: some for kind, some in kinds.items() if some}

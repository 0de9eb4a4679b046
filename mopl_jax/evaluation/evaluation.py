"""What a log says of target policies: value, intervals, effective sample sizes, whether to
believe it.

Up to `IN_MEMORY` rows are held at once, and every interval of the package applies; a longer log
is read in blocks (`streaming`), and the intervals that are formulas in sums apply, or all of
them where users repeat (one row a cluster).
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from mopl_jax import estimators, intervals
from mopl_jax.diagnostics import weight_diagnostics
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.reward_model import doubly_robust
from mopl_jax.evaluation import row_blocks, streaming
from mopl_jax.intervals.interval import Interval, Wald
from mopl_jax.intervals.moments import Moments
from mopl_jax.intervals.registry import Facts
from mopl_jax.io import tables
from mopl_jax.io.tables import LogReader, Rows
from mopl_jax.numerics.check import choose
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.policy import Policy

IN_MEMORY = 1_000_000
ESTIMATORS = {**estimators.NAMED, "doubly_robust": doubly_robust}
LOGGING = "logging"  # the target that is the logging policy itself
WHOLE_LINE = (-math.inf, math.inf)


class Evidence(NamedTuple):
    """An estimate of n rows as far as it is known: `estimate` itself only where its rows (or
    clusters) fit in memory.

    `units` are the independent ones, rows or clusters; `unusual` how many rows with weight have
    an unusual reward; `binary` where no reward lies between the ends of the range (told only
    without `estimate`).
    """

    value: Array
    n: int
    units: int
    moments: Moments
    diagnosis: weight_diagnostics.Diagnosis
    mean_weight_error: Array
    unusual: int
    estimate: Estimate | None = None
    binary: bool = False


Target = Policy | str | None  # None: the target column of the log; LOGGING


def gather(
    reader: LogReader,
    targets: Sequence[Target],
    estimator: str,
    reward_range: tuple[float, float] = WHOLE_LINE,
    in_memory: int = IN_MEMORY,
    watch: Callable[[Iterator[Rows]], Iterable[Rows]] = iter,
) -> tuple[list[Evidence], list[Evidence], Float[np.ndarray, "k k"]]:
    """Evidence on each target; on each but the first, its difference to the first; and the
    differences' correlations.

    `watch(chunks)` may count the rows of every pass. ValueError for an estimator that does not fit.
    """
    choose([estimator], ESTIMATORS, "estimator")
    for target in targets:
        _check(reader, target, estimator)
    tables.check_densities(reader)
    if reader.source.count() <= in_memory:
        return _from_memory(tables.whole(reader), reader.logging, targets, estimator, reward_range)
    return _from_blocks(reader, targets, estimator, reward_range, watch)


def _check(reader, target, estimator):
    if estimator == "doubly_robust" and not isinstance(target, Gaussian):
        raise ValueError(
            "estimator doubly_robust: expected a normal target, whose expected reward model is"
            " known exactly; choose snips or beta_ips"
        )
    if target is None or target is LOGGING:
        return
    if reader.columns.action is None:
        raise ValueError(
            f"{reader.source.name}: a target policy needs the actions: name their columns"
            " (--action)"
        )
    tables.check_weights(reader, target, "target policy")


# Rows in memory.


def _from_memory(rows, logging, targets, estimator, reward_range):
    made = [_estimated(rows, target, estimator) for target in targets]
    changes = [estimators.difference(each, made[0]) for each in made[1:]]
    unseen = [_unseen(target, logging, jnp.max(_log_weight(rows, target))) for target in targets]
    evidence = [
        _of_estimate(each, rows, reward_range, _unusual(rows, target), share)
        for each, target, share in zip(made, targets, unseen, strict=True)
    ]
    contrasts = [_of_estimate(each, rows, WHOLE_LINE, 0) for each in changes]
    return evidence, contrasts, _correlation(np.array([each.influence for each in changes]))


def _estimated(rows, target, estimator):
    log_weight = _log_weight(rows, target)
    reward = jnp.asarray(rows.reward)
    if estimator == "doubly_robust":
        fold = None if rows.cluster is None else jnp.asarray(rows.cluster) % streaming.FOLDS
        made = _robust(log_weight, reward, jnp.asarray(rows.action), target, fold)
    else:
        made = jax.jit(ESTIMATORS[estimator])(log_weight, reward)
    if rows.cluster is None:
        return made
    return _clustered(made, jnp.asarray(rows.cluster), int(rows.cluster.max()) + 1)


_clustered = jax.jit(intervals.clustered, static_argnums=2)


@jax.jit
def _robust(log_weight, reward, action, target, fold):
    return doubly_robust(log_weight, reward, action=action, target=target, fold=fold)


def _log_weight(rows: Rows, target: Target) -> Float[Array, " n"]:
    if target is LOGGING:
        return jnp.zeros(len(rows.reward))
    log_propensity = jnp.asarray(rows.log_propensity)
    return (
        jnp.asarray(rows.log_target) - log_propensity
        if target is None
        else (_log_density(target, jnp.asarray(rows.action)) - log_propensity)
    )


@jax.jit
def _log_density(policy, action):
    return jax.vmap(policy.log_density)(action)


def _unseen(target, logging, top):
    """`weight_diagnostics.unseen` given the largest log weight of a row; NaN where a policy is not
    known.
    """
    if target is LOGGING:
        return jnp.zeros(())
    return (
        jnp.asarray(jnp.nan)
        if target is None or logging is None
        else _drawn(target, logging, top[None])
    )


_drawn = jax.jit(weight_diagnostics.unseen)


@functools.partial(jax.jit, static_argnames="reward_range")
def _judged(estimate, reward_range, unseen=math.nan):
    w = jnp.exp(estimate.log_weight)
    n = w.shape[0]
    error = jnp.sqrt(jnp.sum(jnp.square(w - jnp.mean(w))) / (max(n - 1, 1) * n))
    return (
        intervals.moments(estimate),
        weight_diagnostics.diagnose(estimate, reward_range, unseen),
        error,
    )


def _of_estimate(estimate, rows, reward_range, unusual, unseen: ArrayLike = math.nan):
    moments, diagnosis, error = _judged(estimate, reward_range, unseen)
    n, units = len(rows.reward), estimate.influence.shape[0]
    return Evidence(estimate.value, n, units, moments, diagnosis, error, unusual, estimate)


def _unusual(rows, target):
    """Rows with weight whose reward is not the median one."""
    reward = rows.reward if target is not None else rows.reward[rows.log_target > -np.inf]
    return int(np.count_nonzero(reward != np.median(reward))) if len(reward) else 0


def _correlation(influence):
    return _scaled(influence @ influence.T if len(influence) else np.zeros((0, 0)))


def _scaled(products):
    """Correlations from sums of products; independent where there is no variation."""
    size = np.sqrt(np.diagonal(products))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = products / (size[:, None] * size[None, :])
    return np.where(np.isfinite(found), found, np.eye(len(size)))


# Rows in blocks.


def _from_blocks(reader, targets, estimator, reward_range, watch):
    def blocks():
        return row_blocks.blocks(watch(tables.chunks(reader, row_blocks.SIZE)))

    weighs = [
        row_blocks.weigh_all_one if target is LOGGING else row_blocks.weigh_by(target)
        for target in targets
    ]
    pieces = streaming.fit(blocks, weighs, estimator, targets)
    unseen = [
        _unseen(target, reader.logging, each.totals.top)
        for target, each in zip(targets, pieces, strict=True)
    ]
    if reader.columns.cluster is not None:
        return _from_clusters(
            streaming.by_cluster(blocks, pieces), pieces[0].n, reward_range, unseen
        )
    usual = float(np.median(next(iter(blocks())).rows.reward))
    found, _ = streaming.summarise(blocks, pieces, reward_range, usual, unseen)
    changes = streaming.differences(blocks, pieces[1:], pieces[0]) if len(pieces) > 1 else []
    contrasts, products = (
        streaming.summarise(blocks, changes, WHOLE_LINE, usual)
        if changes
        else ([], np.zeros((0, 0)))
    )
    return (
        [_of_summary(x, pieces[0].n) for x in found],
        [_of_summary(x, pieces[0].n) for x in contrasts],
        _scaled(products),
    )


def _of_summary(summary, n):
    moments, diagnosis, error, unusual, between = summary
    return Evidence(
        moments.value, n, n, moments, diagnosis, error, int(unusual), binary=not between
    )


def _from_clusters(made, n, reward_range, shares):
    changes = [estimators.difference(each, made[0]) for each in made[1:]]

    def evidence(estimate, limits, unseen=math.nan):
        moments, diagnosis, error = _judged(estimate, limits, unseen)
        reward = np.asarray(estimate.reward)
        unusual = int(np.count_nonzero(reward != np.median(reward)))
        return Evidence(
            estimate.value, n, len(reward), moments, diagnosis, error, unusual, estimate
        )

    found = [evidence(each, reward_range, share) for each, share in zip(made, shares, strict=True)]
    return (
        found,
        [evidence(each, WHOLE_LINE) for each in changes],
        _correlation(np.array([each.influence for each in changes])),
    )


# Intervals.


def check_intervals(
    reader: LogReader, names: Sequence[str], facts: Facts, in_memory: int = IN_MEMORY
) -> None:
    """ValueError for the first of `names` that this log or these facts do not support, before the
    log is read.
    """
    choose(names, intervals.METHODS, "interval")
    large = reader.source.count() > in_memory and reader.columns.cluster is None
    for name in names:
        intervals.bind(name, facts)
        if large and name not in (*intervals.WALD, "recommended"):
            raise ValueError(
                f"interval {name!r} needs all rows in memory, and the log has"
                f" {reader.source.count():,}: raise --in-memory, or choose one made of sums:"
                f" {', '.join(intervals.WALD)}"
            )


def check_facts(evidence: Evidence, names: Sequence[str], facts: Facts) -> None:
    """ValueError where a row weighs more than the declared `w_max` that an interval of `names`
    uses.
    """
    users = [name for name in names if "w_max" in intervals.METHODS[name].requires]
    if facts.w_max is None or evidence.estimate is None or not users:
        return
    heaviest = np.asarray(evidence.estimate.log_weight)
    row = int(np.argmax(heaviest))
    largest, declared = float(np.exp(heaviest[row])), float(facts.w_max)
    if largest > declared * (1 + 1e-4):  # densities that were rounded
        raise ValueError(
            f"interval {users[0]!r}: expected importance weights up to w_max = {declared:g}, got"
            f" {largest:.4g} in row {row + 1}; give the largest that the two policies allow"
            " (--w-max), or choose another interval"
        )


def limits(evidence: Evidence, names: Sequence[str], alpha: float, facts: Facts) -> list[Interval]:
    """The intervals `names`, numbers as numpy."""
    wald = [name for name in names if isinstance(intervals.WALD.get(name), Wald)]
    found = (
        dict(zip(wald, _wald(evidence.moments, alpha, tuple(wald)), strict=True)) if wald else {}
    )
    for name in names:
        if name == "recommended" and evidence.estimate is None:
            found[name] = _recommended(evidence, alpha, facts.reward_range)
        elif name not in found:
            function = intervals.bind(name, facts)
            found[name] = jax.jit(lambda estimate, function=function: function(estimate, alpha))(
                evidence.estimate
            )
    return [jax.tree.map(float, jax.device_get(found[name])) for name in names]


def _recommended(evidence, alpha, reward_range):
    """`intervals.recommended` from sums."""
    return intervals.recommended.at(evidence.moments, alpha, reward_range=reward_range)


@functools.partial(jax.jit, static_argnames="names")
def _wald(moments, alpha, names):
    """All of them with one Student quantile, which is most of the compile time."""
    pivots = [intervals.WALD[name].at(moments) for name in names]
    return intervals.batched_intervals(pivots, alpha)


def simultaneous_alpha(
    correlation: Float[np.ndarray, "k k"], alpha: float, draws: int = 100_000
) -> float:
    """The level for each of k intervals at which all hold at once with 1 − alpha: between
    alpha/k and alpha.

    max-t: the estimates are jointly normal with the correlations of their influence terms, so
    that the largest of k such normals is what must be bounded (Hothorn, Bretz & Westfall,
    Biometrical Journal 2008). By `draws` with a fixed seed.
    """
    k = len(correlation)
    if k < 2:
        return alpha
    values, vectors = np.linalg.eigh(correlation)
    normals = np.random.default_rng(0).standard_normal((draws, k))
    largest = np.abs(normals @ (vectors * np.sqrt(np.maximum(values, 0))).T).max(axis=1)
    level = math.erfc(float(np.quantile(largest, 1 - alpha)) / math.sqrt(2))
    return min(max(level, alpha / k), alpha)

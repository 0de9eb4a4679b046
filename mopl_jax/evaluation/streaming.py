"""Estimates of logs larger than memory: the same values and moments, from sums over blocks of rows.

Pass one takes the running maximum of the log weights and the sums that the value needs (`fit`);
then an estimate exists *in pieces*: a function from any block to its rows of the estimate. Pass
two sums what the variance-based intervals and the diagnosis are formulas in (`summarise`); a
difference takes one pass more, for the weights of the contrast. With clusters, pass two sums
over each (`by_cluster`), and the result is an ordinary estimate with one row a cluster, to which
every interval applies. Sums of millions of rows need float64 (`jax_enable_x64`), which the
command turns on.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mopl_jax.diagnostics import weight_diagnostics
from mopl_jax.estimators.cluster import of_clusters
from mopl_jax.estimators.ess import enough
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.reward_model import (
    expected_features,
    fit_without_each_fold,
    products,
    quadratic_features,
)
from mopl_jax.evaluation.row_blocks import SIZE, Block, Blocks, Weigh, fold_of, sweep
from mopl_jax.intervals.moments import Moments, Shares, Sums, joined, sums
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.policy import Policy

FOLDS, RIDGE = 5, 1e-3  # as `doubly_robust`


# Pass one.


class Totals(NamedTuple):
    """Sums over the rows so far, with u = w / max w: the heaviest row, its number and those of
    all others.

    `rest` Σu and `rest2` Σu² without the heaviest row; `ur`, `u2r` Σu(r−c), Σu²(r−c) with the
    reward c of a row that has weight, so that equal rewards leave exactly nothing; `terms`
    Σ(t−t₀) of the terms t whose mean the value may be.
    """

    n: Array
    top: Array
    heavy: Array
    rest: Array
    rest2: Array
    centre: Array
    ur: Array
    u2r: Array
    first: Array
    terms: Array

    @property
    def shares(self) -> Shares:
        """What `sums` needs of the weights."""
        some, total = jnp.where(self.top > -jnp.inf, 1.0, 0.0), 1 + self.rest
        return Shares(some / total, some * self.rest / total, some * self.rest2 / total**2)

    @property
    def log_total(self) -> Array:
        """log Σw."""
        return self.top + jnp.log1p(self.rest)


def nothing() -> Totals:
    """No rows."""
    zero = jnp.zeros(())
    return Totals(zero, zero - jnp.inf, jnp.asarray(-1), zero, zero, zero, zero, zero, zero, zero)


@jax.jit
def add(
    totals: Totals, block: Block, log_weight: Float[Array, " m"], terms: Float[Array, " m"]
) -> Totals:
    """The totals with a block more."""
    top, here = jnp.max(log_weight), jnp.argmax(log_weight)
    new = top > totals.top  # a tie keeps the earlier row
    above = jnp.maximum(top, totals.top)
    safe = jnp.where(jnp.isfinite(above), above, 0)
    u = jnp.exp(log_weight - safe)
    rest = jnp.where(new & (jnp.arange(u.shape[0]) == here), 0, u)
    shrink = jnp.where(totals.top > -jnp.inf, jnp.exp(totals.top - safe), 0)
    some = totals.top > -jnp.inf
    before = jnp.where(some, totals.rest + jnp.where(new, 1, 0), 0) * shrink
    before2 = jnp.where(some, totals.rest2 + jnp.where(new, 1, 0), 0) * shrink**2
    centre = jnp.where(some, totals.centre, block.rows.reward[here])
    centred = jnp.where(block.kept, block.rows.reward - centre, 0)
    first = jnp.where(totals.n == 0, terms[0], totals.first)
    return Totals(
        n=totals.n + jnp.sum(jnp.where(block.kept, 1.0, 0.0)),
        top=above,
        heavy=jnp.where(new, block.start + here, totals.heavy),
        rest=before + jnp.sum(rest),
        rest2=before2 + jnp.sum(rest * rest),
        centre=centre,
        ur=totals.ur * shrink + jnp.sum(u * centred),
        u2r=totals.u2r * shrink**2 + jnp.sum(u * u * centred),
        first=first,
        terms=totals.terms + jnp.sum(jnp.where(block.kept, terms - first, 0)),
    )


# Estimates in pieces.


class Pieces(NamedTuple):
    """An estimate of n rows: its value, and its rows for any block. Rows that fill up have
    influence and weight 0.
    """

    value: Array
    n: int
    rows: Callable[[Block], Estimate]
    totals: Totals


def fit(
    blocks: Blocks, weighs: Sequence[Weigh], estimator: str, targets: Sequence[Policy | None]
) -> list[Pieces]:
    """Estimates by name (`estimators.NAMED` or doubly_robust) for several targets, in one pass;
    doubly_robust in two.

    Values and rows are those of the estimator on all rows at once, to rounding.
    """
    if estimator == "doubly_robust":
        return _fit_doubly_robust(blocks, weighs, targets)
    totals = sweep(
        blocks,
        [functools.partial(_add_plain, weigh) for weigh in weighs],
        [nothing() for _ in weighs],
    )
    return [_PIECES[estimator](weigh, each) for weigh, each in zip(weighs, totals, strict=True)]


def _add_plain(weigh, totals, block):
    log_weight = weigh(block)
    return add(totals, block, log_weight, jnp.exp(log_weight) * block.rows.reward)


def _snips(weigh, totals):
    shift = jnp.where(totals.top > -jnp.inf, totals.ur / (1 + totals.rest), jnp.nan)
    value = totals.centre + shift
    constants = totals.log_total, totals.n, totals.centre, shift, value
    return Pieces(
        value, int(totals.n), lambda block: _snips_rows(*constants, block, weigh(block)), totals
    )


@jax.jit
def _snips_rows(log_total, n, centre, shift, value, block, log_weight):
    p = jnp.exp(log_weight - jnp.where(jnp.isfinite(log_total), log_total, 0))
    residual = block.rows.reward - centre - shift
    return Estimate(
        value, jnp.where(block.kept, n * p * residual, 0), log_weight, residual, block.rows.reward
    )


def _ips(weigh, totals):
    value = totals.first + totals.terms / totals.n
    mean_weight = jnp.exp(totals.log_total - jnp.log(totals.n))
    constants = (
        jnp.zeros(()),
        jnp.zeros(()),
        totals.first,
        totals.terms / totals.n,
        value,
        mean_weight,
    )
    return Pieces(
        value, int(totals.n), lambda block: _mean_rows(*constants, block, weigh(block)), totals
    )


def _beta_ips(weigh, totals):
    """β* from Σ(w²−w)r and Σ(w²−w), as in `estimators.optimal_baseline`."""
    scale = jnp.exp(totals.top)
    some = jnp.where(totals.top > -jnp.inf, 1.0, 0.0)
    w, w2 = scale * (some + totals.rest), scale**2 * (some + totals.rest2)
    wr, w2r = scale * totals.ur, scale**2 * totals.u2r
    determined = w2 - w > 1e-3 * w2
    beta = jnp.where(
        determined, (w2r - wr) / jnp.where(determined, w2 - w, 1), wr / jnp.where(w > 0, w, 1)
    )
    shift = beta + (wr - beta * w) / totals.n
    value, mean_weight = totals.centre + shift, w / totals.n
    constants = beta, totals.centre, jnp.zeros(()), shift, value, mean_weight
    return Pieces(
        value, int(totals.n), lambda block: _mean_rows(*constants, block, weigh(block)), totals
    )


@jax.jit
def _mean_rows(beta, centre, first, shift, value, mean_weight, block, log_weight):
    """Terms β + w (r − c − β), whose mean is first + shift."""
    gap = block.rows.reward - centre - beta
    influence = jnp.where(block.kept, beta + jnp.exp(log_weight) * gap - first - shift, 0)
    return Estimate(value, influence, log_weight, mean_weight * gap, block.rows.reward)


_PIECES = {"snips": _snips, "ips": _ips, "beta_ips": _beta_ips}


def _fit_doubly_robust(blocks, weighs, targets):
    """A pass for the reward models, one for the values."""
    first = next(iter(blocks())).rows
    d, near = first.action.shape[1], first.reward[0]
    size = 1 + d + d * (d + 1) // 2
    start = [jnp.zeros((FOLDS, size, size + 1)) for _ in targets]
    fitted = sweep(
        blocks, [functools.partial(_add_products, target, near) for target in targets], start
    )
    models = [_model(each, near) for each in fitted]
    updates = [
        functools.partial(_add_robust, *each) for each in zip(weighs, targets, models, strict=True)
    ]
    totals = sweep(blocks, updates, [nothing() for _ in weighs])
    return [_robust(*each) for each in zip(weighs, targets, models, totals, strict=True)]


@jax.jit
def _add_products(target: Gaussian, near, total, block):
    features = jax.vmap(functools.partial(quadratic_features, target))(block.rows.action)
    kept = block.kept.astype(features.dtype)[:, None]
    return total + products(
        features * kept, (block.rows.reward - near) * kept[:, 0], fold_of(block, FOLDS), FOLDS
    )


@jax.jit
def _model(of_folds, near):
    """Coefficients for rewards centred at their mean, as in memory: the ridge then shrinks to
    it.
    """
    size = of_folds.shape[1]
    centre = jnp.sum(of_folds[:, 0, size]) / jnp.sum(of_folds[:, 0, 0])
    centred = of_folds.at[:, :, size].add(-centre * of_folds[:, :, 0])
    return fit_without_each_fold(centred, RIDGE).at[:, 0].add(near + centre)


@jax.jit
def _robust_terms(target, model, block, log_weight):
    """Terms E_π q̂ + w (r − q̂(a)), and r − q̂(a)."""
    features = jax.vmap(functools.partial(quadratic_features, target))(block.rows.action)
    fold = fold_of(block, FOLDS)
    gap = block.rows.reward - jnp.sum(features * model[fold], axis=1)
    return (model @ expected_features(target, features.dtype))[fold] + jnp.exp(
        log_weight
    ) * gap, gap


def _add_robust(weigh, target, model, totals, block):
    log_weight = weigh(block)
    return add(totals, block, log_weight, _robust_terms(target, model, block, log_weight)[0])


def _robust(weigh, target, model, totals):
    value, mean_weight = (
        totals.first + totals.terms / totals.n,
        jnp.exp(totals.log_total - jnp.log(totals.n)),
    )

    def rows(block):
        log_weight = weigh(block)
        terms, gap = _robust_terms(target, model, block, log_weight)
        return Estimate(
            value,
            jnp.where(block.kept, terms - value, 0),
            log_weight,
            mean_weight * gap,
            block.rows.reward,
        )

    return Pieces(value, int(totals.n), rows, totals)


def differences(blocks: Blocks, pieces: Sequence[Pieces], baseline: Pieces) -> list[Pieces]:
    """value − value of `baseline` on the same rows, as `estimators.difference`; a pass for the
    weights of the contrasts.
    """
    made = [functools.partial(_difference, each, baseline) for each in pieces]
    totals = sweep(
        blocks, [functools.partial(_add_rows, rows) for rows in made], [nothing() for _ in made]
    )  # residuals need Σ|p_a − p_b|, which is what the totals are for
    return [
        Pieces(
            each.value - baseline.value,
            each.n,
            functools.partial(_scaled, rows, jnp.exp(total.log_total)),
            total,
        )
        for each, rows, total in zip(pieces, made, totals, strict=True)
    ]


def _add_rows(rows, totals, block):
    return add(totals, block, rows(block).log_weight, jnp.zeros(SIZE))


def _difference(a, b, block):
    return _difference_rows(a.totals, b.totals, a.rows(block), b.rows(block))


@jax.jit
def _difference_rows(totals_a, totals_b, a, b):
    """Rows of the contrast, but for the scale of its residuals."""
    shares = [jnp.exp(x.log_weight - t.log_total) for x, t in ((a, totals_a), (b, totals_b))]
    coefficient = shares[0] - shares[1]
    spread = enough(totals_a.shares.squared) & enough(totals_b.shares.squared)
    size = jnp.where(spread, jnp.abs(coefficient), 0)
    log_size = jnp.where(size > 0, jnp.log(jnp.where(size > 0, size, 1)), -jnp.inf)
    residual = jnp.sign(coefficient) * 0.5 * (a.residual + b.residual)
    return Estimate(a.value - b.value, a.influence - b.influence, log_size, residual, a.reward)


def _scaled(rows, total, block):
    made = rows(block)
    return Estimate(made.value, made.influence, made.log_weight, made.residual * total, made.reward)


# Pass two.


class Summary(NamedTuple):
    """What the intervals that are formulas in sums need; the diagnosis; and what is said of the
    rewards.

    `unusual` of them are not the usual one, `between` not at an end of their range.
    """

    moments: Moments
    diagnosis: weight_diagnostics.Diagnosis
    mean_weight_error: Array
    unusual: Array
    between: Array


class _Second(NamedTuple):
    sums: Sums
    heavy: Array
    entropy: Array
    square: Array
    outside: Array
    unusual: Array
    between: Array


def summarise(
    blocks: Blocks,
    pieces: Sequence[Pieces],
    reward_range: tuple[float, float],
    usual: float,
    unseen: Sequence[Array] | None = None,
) -> tuple[list[Summary], Float[np.ndarray, "k k"]]:
    """Moments and diagnosis of each estimate, and the sums of products of their influences, in
    one pass.

    `usual`: the reward that rows with weight are compared to; `unseen` of each, see
    `weight_diagnostics.unseen`.
    """
    zeros = _Second(Sums(*[jnp.zeros(())] * len(Sums._fields)), *[jnp.zeros(())] * 6)
    carry = [
        [zeros] * len(pieces),
        [np.empty(0)] * len(pieces),
        jnp.zeros((len(pieces), len(pieces))),
    ]

    def update(carry, block):
        made = [each.rows(block) for each in pieces]
        seconds = [
            _second(each.totals, reward_range, usual, block, rows, so_far)
            for each, rows, so_far in zip(pieces, made, carry[0], strict=True)
        ]
        keep = weight_diagnostics.tail_size(pieces[0].n) + 1
        tails = [
            _largest(tail, rows.log_weight, keep) for tail, rows in zip(carry[1], made, strict=True)
        ]
        influence = jnp.stack([rows.influence for rows in made])
        return [seconds, tails, carry[2] + influence @ influence.T]

    ((seconds, tails, products),) = sweep(blocks, [update], [carry])
    unknown = [jnp.asarray(jnp.nan)] * len(pieces)
    found = [
        _summary(*each) for each in zip(pieces, seconds, tails, unseen or unknown, strict=True)
    ]
    return found, np.asarray(products)


@jax.jit
def _second(totals, reward_range, usual, block, rows, so_far):
    log_total = jnp.where(jnp.isfinite(totals.log_total), totals.log_total, 0)
    p = jnp.exp(rows.log_weight - log_total)
    heavy = block.start + jnp.arange(p.shape[0]) == totals.heavy
    influence, residual = rows.influence / totals.n, jnp.where(block.kept, rows.residual, 0)
    mean = jnp.exp(totals.log_total - jnp.log(totals.n))
    reward, low, high = rows.reward, *reward_range
    here = _Second(
        sums=sums(totals.shares, p, heavy, influence, residual),
        heavy=jnp.sum(jnp.square(p * residual)),
        entropy=jnp.sum(jnp.where(p > 0, p * (rows.log_weight - log_total), 0)),
        square=jnp.sum(jnp.where(block.kept, jnp.square(jnp.exp(rows.log_weight) - mean), 0)),
        outside=jnp.sum(jnp.where(block.kept & ((reward < low) | (reward > high)), 1.0, 0.0)),
        unusual=jnp.sum(
            jnp.where(block.kept & (rows.log_weight > -jnp.inf) & (reward != usual), 1.0, 0.0)
        ),
        between=jnp.sum(jnp.where(block.kept & (reward != low) & (reward != high), 1.0, 0.0)),
    )
    return jax.tree.map(jnp.add, so_far, here)


def _largest(tail, log_weight, keep):
    """The `keep` largest log weights so far; those that cannot be among them are dropped before
    they are copied.
    """
    new = np.asarray(log_weight)
    if len(tail) == keep:
        new = new[new > tail[0]]
    both = np.concatenate([tail, new])
    return both if len(both) < keep else np.partition(both, len(both) - keep)[len(both) - keep :]


def _summary(pieces, second, tail, unseen):
    totals, n = pieces.totals, pieces.n
    made = joined(totals.shares, second.sums, totals.n, pieces.value)
    mean = jnp.exp(totals.log_total - jnp.log(totals.n))
    error = jnp.sqrt(second.square / (max(n - 1, 1) * n))
    positive, heavy = made.squared > 0, jnp.nan_to_num(second.heavy)
    facts = {
        "kish": jnp.where(positive, made.kish, 0),
        "max_weight": jnp.where(positive, 1 / jnp.where(positive, made.largest, 1), 0),
        "perplexity": jnp.where(positive, jnp.exp(-second.entropy), 0),
        "reward_aware": jnp.where(
            heavy > 0, jnp.nan_to_num(made.residual) / jnp.where(heavy > 0, heavy, 1), 0
        ),
        "largest_share": made.largest,
        "mean_weight": mean,
        "mean_weight_p_value": weight_diagnostics.mean_weight_p_value(mean, error),
        "pareto_k": weight_diagnostics.tail_shape(
            jnp.sort(jnp.asarray(tail))[-weight_diagnostics.tail_size(n) - 1 :]
        ),
        "out_of_range": second.outside.astype(jnp.int32),
        "unseen": unseen,
    }
    return Summary(made, weight_diagnostics.judged(facts, n), error, second.unusual, second.between)


# Clusters.


def by_cluster(blocks: Blocks, pieces: Sequence[Pieces]) -> list[Estimate]:
    """`clustered` of each estimate, one row a cluster, in one pass: memory grows with the clusters,
    not with the rows.
    """
    totals = sweep(
        blocks,
        [functools.partial(_add_clusters, each) for each in pieces],
        [np.zeros((4, 0))] * len(pieces),
    )
    return [
        of_clusters(each.value, total, each.totals.log_total - jnp.log(each.totals.n), each.n)
        for each, total in zip(pieces, jax.tree.map(jnp.asarray, totals), strict=True)
    ]


def _add_clusters(pieces, totals, block):
    cluster, made = np.asarray(block.rows.cluster), pieces.rows(block)
    columns = map(np.asarray, _cluster_terms(pieces.totals, block, made))
    size = max(totals.shape[1], int(cluster.max()) + 1)
    here = np.stack([np.bincount(cluster, column, size) for column in columns])
    here[:, : totals.shape[1]] += totals
    return here


@jax.jit
def _cluster_terms(totals, block, made):
    p = jnp.exp(made.log_weight - jnp.where(jnp.isfinite(totals.log_total), totals.log_total, 0))
    return p, made.influence, jnp.where(p > 0, p * made.residual, 0), p * block.rows.reward

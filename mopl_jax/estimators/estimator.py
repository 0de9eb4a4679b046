"""`Estimator`: a definition of two small functions that serves wherever the rows of a log lie.

`finish(totals) -> constants` gives the value and what a row needs to know of all rows;
`row(constants, totals, log_weight, reward) -> influence, residual` gives the terms of some rows.
An estimator is called on log weights and rewards in memory; `member` puts it into the passes of
`numerics.reduce`, over blocks, a mesh or prefixes, with the same two functions.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.weight_totals import MERGE, WeightTotals, totals_of
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.reduce import Block, Monoid, Stage, Whole, run_passes, whole_block
from mopl_jax.numerics.shapes import PerBlockRow, PerRow, Scalar


class Columns(NamedTuple):
    """A log in memory as the estimators see it.

    `reward` (n,)
    `log_weights`: log weights (n,) of each target
    `action` (n, d): where an estimator has a model of the rewards
    `cluster` (n,): the user of a row; rows of one user are in one fold of a model
    """

    reward: PerRow
    log_weights: tuple[PerRow, ...] = ()
    action: Float[Array, "n d"] | None = None
    cluster: Int[Array, " n"] | None = None


class Model(NamedTuple):
    """What an estimator fits in a pass of its own, before the weights are summed.

    `summarise`: (block, log weights) -> the summary of a block; None where nothing is left to fit,
        and the model that `adjust` is given is then None
    `monoid`: how summaries meet
    `fit`: summary of all rows -> model
    `adjust`: (model, block) -> (gap, offset): the estimate is that of the gaps (m,) in place of the
        rewards, plus the mean of the offsets (m,)
    `leverage`: (model, totals, block, log weights) -> factor (m,) of the terms of a row, or None:
        what rows that shaped the model leave of their own rewards is too small
    """

    summarise: Callable[[Block, Array], Any] | None
    monoid: Monoid
    fit: Callable[[Any], Any]
    adjust: Callable[[Any, Block], tuple[Array, Array]]
    leverage: Callable[..., Array] | None = None


class Constants(NamedTuple):
    """What `finish` finds: the `value` (), and the `shift` () that its rows are measured from."""

    value: Scalar
    shift: Scalar


@pytree_dataclass()
class Fitted:
    """The state of an estimator between passes: its `model`, the `totals`, the `constants`."""

    model: Any = None
    totals: WeightTotals | None = None
    constants: Any = None

    @property
    def value(self) -> Scalar:
        """The estimate."""
        return self.constants.value


@dataclasses.dataclass(frozen=True)
class Estimator:
    """An estimator of a policy's value.

    `finish`: totals -> constants, among them the `value`
    `row`: (constants, totals, log_weight (m,), gap (m,), offset) -> influence (m,), residual (m,)
    `model`: what is fitted before, or None
    `reweigh`: (log_weight (m,), reward (m,), n) -> modified log weights (m,), or None
    """

    finish: Callable[[WeightTotals], Any]
    row: Callable[..., tuple[Array, Array]]
    model: Model | None = None
    reweigh: Callable[..., Array] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.finish.__doc__)

    def __call__(self, log_weight: PerRow, reward: PerRow) -> Estimate:
        """The estimate of a log in memory."""
        return in_memory(self, Columns(reward, (log_weight,)))


class Member(NamedTuple):
    """Something with a value and rows that is found in passes: an estimator, a difference, …

    `stages`: the passes that find its state, which has `totals` and `value`
    `rows`: (state, block) -> the `Estimate` of a block's rows; those that fill up have influence 0
    """

    stages: tuple[Stage, ...]
    rows: Callable[[Any, Block], Estimate]


def fold_of(block: Block, folds: int) -> Int[Array, " m"]:
    """The fold of each row of a block: its user's, or its own number's."""
    cluster = block.columns.cluster
    own = block.number(block.columns.reward.shape[0])
    return (own if cluster is None else jnp.asarray(cluster)) % folds


def first_weight(block: Block) -> PerBlockRow:
    """The log weights of the first target of a log in memory."""
    return block.columns.log_weights[0]


def member(
    estimator: Estimator,
    weigh: Callable[[Block], Array] = first_weight,
    log_sampling: Callable[[Block], Array] | None = None,
) -> Member:
    """The estimator in passes; `weigh(block)` gives the log weights (m,) of a block's rows.

    `log_sampling(block)`: logarithms (m,) of how many rows each of them speaks for, of mean one
    over the log. They multiply importance weights and influences, as so many equal rows would.
    """
    model = estimator.model

    def sampled(block, log_weight):
        return log_weight if log_sampling is None else log_weight + log_sampling(block)

    def rows_of(block):
        return 1.0 if log_sampling is None else jnp.exp(log_sampling(block))

    def weight_of(block):
        log_weight = weigh(block)
        if estimator.reweigh is None:
            return log_weight
        return estimator.reweigh(log_weight, block.columns.reward, block.num_rows)

    def adjusted(state, block):
        if model is None:
            return block.columns.reward, 0.0
        return model.adjust(None if state is None else state.model, block)

    def sum_weights(state, block):
        log_weight = sampled(block, weight_of(block))
        return totals_of(block, log_weight, *adjusted(state, block), rows_of(block))

    def finish(state, totals):
        model_of = None if state is None else state.model
        return Fitted(model_of, totals, estimator.finish(totals))

    def rows(state, block):
        log_weight, (gap, offset) = weight_of(block), adjusted(state, block)
        terms = estimator.row(state.constants, state.totals, log_weight, gap, offset)
        log_weight = sampled(block, log_weight)
        if model is not None and model.leverage is not None:
            factor = model.leverage(state.model, state.totals, block, log_weight)
            terms = [factor * term for term in terms]
        influence, residual = map(block.mask, (terms[0] * rows_of(block), terms[1]))
        log_weight, reward = block.mask(log_weight, -jnp.inf), block.columns.reward
        return Estimate(state.value, influence, log_weight, residual, reward)

    last = Stage(sum_weights, MERGE, finish)
    summarise = None if model is None else model.summarise
    if model is None or summarise is None:
        return Member((last,), rows)
    first = Stage(
        lambda state, block: summarise(block, sampled(block, weight_of(block))),
        model.monoid,
        lambda state, summary: Fitted(model.fit(summary)),
    )
    return Member((first, last), rows)


def in_memory(estimator: Estimator, columns: Columns) -> Estimate:
    """The estimate of a log in memory, for its first target."""
    return estimate_of(member(estimator), whole_block(columns))


def estimate_of(member: Member, block: Block) -> Estimate:
    """The estimate of all rows of a log in memory."""
    return member.rows(run_passes(Whole(block), member.stages), block)


def given(pick: Callable[[Any], Estimate]) -> Member:
    """An estimate that exists already, in memory: `pick(columns)` finds it in a block's columns."""

    def summarise(state, block):
        estimate = pick(block.columns)
        zero = jnp.zeros_like(estimate.reward)
        return totals_of(block, estimate.log_weight, zero), estimate.value

    def finish(state, summary):
        totals, value = summary
        return Fitted(None, totals, Constants(value, value))

    return Member((Stage(summarise, MERGE, finish),), lambda state, block: pick(block.columns))

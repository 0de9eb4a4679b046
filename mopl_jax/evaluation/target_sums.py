"""What is summed over the rows of a log of several targets, and of their differences to the first.

In memory and in blocks what becomes of every target is compiled once; a query engine, whose rows
have no order, is asked for one target after the other.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mopl_jax.diagnostics.weight_diagnostics import Diagnosis, DiagnosisFacts, diagnosis_stage
from mopl_jax.estimators.contrast import Contrast, contrast, half
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.estimator import Member, given
from mopl_jax.estimators.importance import snips
from mopl_jax.estimators.weight_totals import MERGE, WeightTotals
from mopl_jax.intervals.moments import Halves, Moments, moments_stage
from mopl_jax.numerics.pytree import entries, stacked
from mopl_jax.numerics.reduce import ADD, Stage, of_each, together


class LogFacts(NamedTuple):
    """What is known of the log when its weights are summed.

    `n`: the number of its units
    `reward_range`: ends of the rewards
    `modal`: what rewards are compared to
    `shares`: what is unseen of each target
    `rounding`: of each target, the errors of a block's log weights
    `size`, `sizes`: of the units, see `DiagnosisFacts`
    `ordered`: whether rows have an order
    `within`: where the units are users, block -> the `sums_within` of them of each difference
    """

    n: int
    reward_range: tuple[float, float]
    modal: float
    shares: Sequence
    rounding: Sequence[Callable]
    size: Callable = DiagnosisFacts().size
    sizes: Any = (1.0, 1.0)
    ordered: bool = True
    within: Callable | None = None

    def diagnosis(self, share: Any = math.nan, size: Any = 1.0, error: Any = 0.0) -> Stage:
        """The stage of a target's diagnosis, given what is unseen of it and its errors."""
        facts = DiagnosisFacts(
            self.reward_range,
            lambda totals: share,
            self.modal,
            lambda block: size,
            self.sizes,
            lambda block: error,
        )
        return diagnosis_stage(_ONE, self.n, facts)


class TargetSums(NamedTuple):
    """Of k targets, and then of the differences of all but the first to the first.

    `moments`: 2k − 1 of them
    `diagnoses`: k of them
    `products`: of the influences of the differences, summed over rows
    `halves`: of the differences of rows, where the range of the rewards is known; else none
    """

    moments: list[Moments]
    diagnoses: list[Diagnosis]
    products: Float[Array, "k-1 k-1"]
    halves: list[Halves]


class _State(NamedTuple):
    """The state of an estimate whose rows are given."""

    totals: WeightTotals
    value: Array


_ONE = given(lambda columns: columns)
_BOTH = given(lambda columns: columns[0]), given(lambda columns: columns[1])
_PAIR, _HALVES = contrast(*_BOTH), (half(*_BOTH, 1), half(*_BOTH, -1))
_PAIR_OF_USERS = contrast(*_BOTH, lambda block: block.columns[2])


def sum_targets(place: Any, members: Sequence[Member], states: tuple, known: LogFacts) -> Any:
    """The `TargetSums` of the members, whose passes gave their `states`; and a function from a
    block to the estimates of its rows, 2k − 1 of them.
    """
    k, each = len(members), _Each(known.ordered)
    pairs = _pairs(known) if k > 1 else ()

    def of_targets(states, block):
        return [x.rows(state, block) for x, state in zip(members, states, strict=True)]

    def of_differences(function, states, rows, block, *more):
        base, *others = [_State(state.totals, state.value) for state in states]
        within = [None] * len(others) if known.within is None else known.within(block)

        def of_one(state, own, within, *more):
            columns = block._replace(columns=(own, rows[0], within))
            return function(Contrast(state, base, *more), columns)

        return each(of_one, others, rows[1:], within, *more)

    def sum_sizes(states, block):
        rows = of_targets(states, block)
        return [of_differences(x.stages[-1].summarise, states, rows, block) for x in pairs]

    def all_rows(known_of, block):
        states, sizes = known_of
        rows = of_targets(states, block)
        found = (
            of_differences(x.rows, states, rows, block, totals)
            for x, totals in zip(pairs, sizes, strict=True)
        )
        return [*rows, *itertools.chain(*found)]

    def summarise(known_of, block):
        every, rows, size = _states(*known_of), all_rows(known_of, block), known.size(block)
        errors = [jnp.broadcast_to(x(block), rows[0].reward.shape) for x in known.rounding]

        def moments(state, own):
            return moments_stage(_ONE).summarise(state, block._replace(columns=own))

        def diagnosis(state, own, error):
            stage = known.diagnosis(size=size, error=error)
            return stage.summarise(state, block._replace(columns=own))

        looks = each(diagnosis, every[:k], rows[:k], errors)
        return each(moments, every, rows), looks, _products(rows[k : 2 * k - 1])

    def finish(known_of, sums):
        every, (moments, looks, products) = _states(*known_of), sums
        shares = [jnp.asarray(share, every[0].value.dtype) for share in known.shares]

        def diagnosis(state, sums, share):
            return known.diagnosis(share=share).finish(state, sums)

        diagnoses = each(diagnosis, every[:k], looks, shares)
        found = each(moments_stage(_ONE).finish, every, moments)
        apart = [jnp.exp(totals.log_sum) for totals in itertools.chain(*known_of[1][1:2])]
        halves = map(Halves, apart, found[2 * k - 1 : 3 * k - 2], found[3 * k - 2 :])
        return TargetSums(found[: 2 * k - 1], diagnoses, products, list(halves))

    begin = Stage(sum_sizes, of_each(of_each(MERGE)), lambda states, sizes: (states, sizes))
    met = together(of_each(ADD), of_each(known.diagnosis().monoid), ADD)
    known_of = place.apply(begin, states) if k > 1 else (states, [])
    sums = place.apply(Stage(summarise, met, finish), known_of)
    return sums, lambda block: all_rows(known_of, block)[: 2 * k - 1]


def _pairs(known) -> tuple[Member, ...]:
    """What is taken of each two targets: their difference, of rows in a range its halves too."""
    if known.within is not None:
        return (_PAIR_OF_USERS,)
    return (_PAIR, *(_HALVES if all(map(math.isfinite, known.reward_range)) else ()))


def _states(states, sizes) -> list[_State]:
    """The states of the targets, of their differences from the first one, and of the halves."""
    found = [_State(state.totals, state.value) for state in states]
    for totals in sizes[:1]:
        pairs = zip(states[1:], totals, strict=True)
        found += [_State(size, Contrast(x, states[0], size).value) for x, size in pairs]
    halves = itertools.chain(*sizes[1:])
    return [*found, *(_State(totals, snips.finish(totals).value) for totals in halves)]


def _products(rows: Sequence[Estimate]):
    influence = jnp.stack([own.influence for own in rows]) if rows else jnp.zeros((0, 1))
    return influence @ influence.T


class _Each(NamedTuple):
    """Calls a function with the entries of lists; it is compiled once for all if `ordered`."""

    ordered: bool

    def __call__(self, function, *lists):
        if not self.ordered or len(lists[0]) < 2:
            return [function(*own) for own in zip(*lists, strict=True)]
        found = jax.vmap(function)(*map(stacked, lists))
        return [entries(found, i) for i in range(len(lists[0]))]

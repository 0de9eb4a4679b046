"""Differences of two estimates on the same rows."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mopl_jax.estimators.cluster import clustered, sums_by_cluster
from mopl_jax.estimators.ess import enough
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.estimator import Member, estimate_of, given
from mopl_jax.estimators.importance import snips
from mopl_jax.estimators.weight_totals import MERGE, WeightTotals, totals_of
from mopl_jax.numerics import safe
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.reduce import Block, Stage, Whole, beside, run_passes, whole_block
from mopl_jax.numerics.shapes import Scalar

# Two policies that are the same may be weighed by code that rounds differently: shares that differ
# by less than this many eps, what log weights of a few hundred lose in exp, are equal.
_ROUNDING = 256


@pytree_dataclass()
class Contrast:
    """The states of the two estimates `first` and `second`, and the `totals` of |p₁ − p₂|."""

    first: Any
    second: Any
    totals: WeightTotals | None = None

    @property
    def value(self) -> Scalar:
        """The difference of the two values, 0 where it is their rounding."""
        gap = self.first.value - self.second.value
        size = jnp.abs(self.first.value) + jnp.abs(self.second.value)
        return jnp.where(jnp.abs(gap) > 4 * jnp.finfo(size.dtype).eps * size, gap, 0)


Within = Callable[[Block], Float[Array, "2 m"]]  # see `sums_within`


def contrast(first: Member, second: Member, within: Within | None = None) -> Member:
    """value(first) − value(second), with the difference of the influences (arXiv 2405.10024).

    For SNIPS that is the four-term delta method of the Δ-SNIPS variance. A row's reward enters with
    coefficient p₁ − p₂; its size is the weight of the row, so effective sample sizes speak of the
    contrast. No row has weight where either value rests on one row: the rows that differ would say
    nothing of the row that counts. The sizes need a pass of their own.

    `within(block)`: where the rows of the block are users, their `sums_within`. The size of a user
    is then the larger of |Σ(p₁ − p₂)| and √Σ(p₁ − p₂)² over its rows: no correlation of its rows
    that is alike and not negative makes its part of the difference vary more. Who plays both
    policies in balance, Σp₁ = Σp₂, has the second.
    """

    def sized(state, block):
        size, residual, both = _shares(first, second, state, block)
        if within is None:
            return size, residual, both
        squares, products = within(block)
        rows = jnp.where(_both_enough(state), safe.sqrt(squares), 0)
        size = jnp.maximum(size, rows)
        return size, safe.divide(products, size), both

    def sum_sizes(state, block):
        size, _, _ = sized(state, block)
        return totals_of(block, safe.log(size), jnp.zeros_like(size))

    def rows(state, block):
        size, residual, (a, b) = sized(state, block)
        residual = jnp.exp(state.totals.log_sum) * residual
        influence = a.influence - b.influence
        return Estimate(state.value, influence, safe.log(size), residual, a.reward)

    both = beside(first.stages, second.stages)
    paired = Stage(
        both[-1].summarise, both[-1].monoid, lambda s, x: Contrast(*both[-1].finish(s, x))
    )
    last = Stage(sum_sizes, MERGE, lambda s, totals: Contrast(s.first, s.second, totals))
    return Member((*both[:-1], paired, last), rows)


def _shares(first, second, state, block):
    """|p₁ − p₂| and what it multiplies, (m,) each, and both estimates of a block's rows."""
    a, b = first.rows(state.first, block), second.rows(state.second, block)
    p, q = (x.totals.share(y.log_weight) for x, y in ((state.first, a), (state.second, b)))
    rounding = _ROUNDING * jnp.finfo(p.dtype).eps * (p + q)
    differ = (jnp.abs(p - q) > rounding) & _both_enough(state)
    residual = jnp.sign(p - q) * (0.5 * (a.residual + b.residual))
    return jnp.where(differ, jnp.abs(p - q), 0), residual, (a, b)


def _both_enough(state):
    return enough(state.first.totals.sum_p2) & enough(state.second.totals.sum_p2)


def sums_within(
    first: Member, second: Member, state: Contrast, block: Block, cluster: Array, num_clusters: int
) -> Float[Array, "2 g"]:
    """The sums of (p₁ − p₂)² and of (p₁ − p₂)(e₁ + e₂)/2 over the rows of each user in a block."""
    size, residual, _ = _shares(first, second, state, block)
    return sums_by_cluster(block, (size * size, size * residual), cluster, num_clusters)


def half(first: Member, second: Member, sign: int) -> Member:
    """The mean reward of the rows where p₁ − p₂ has this sign, weighed by |p₁ − p₂|.

    With s = Σ(p₁ − p₂)₊ the difference of two SNIPS is s (V₊ − V₋), V₊ and V₋ the halves' means: of
    different rows, however much the policies share. The one stage starts from a `Contrast` and
    puts the totals of the half into it; their `log_sum` is log s. Of users, whose two weighted
    mean rewards differ, the mean of the two counts.
    """

    def weigh(state, block):
        size, _, (a, b) = _shares(first, second, state, block)
        p, q = (x.totals.share(y.log_weight) for x, y in ((state.first, a), (state.second, b)))
        reward = a.reward + safe.divide(q, p + q) * (b.reward - a.reward)
        return safe.log(jnp.where(jnp.sign(p - q) == sign, size, 0)), reward

    def rows(state, block):
        log_weight, reward = weigh(state, block)
        constants = snips.finish(state.totals)
        terms = snips.row(constants, state.totals, log_weight, reward, 0.0)
        influence, residual = map(block.mask, terms)
        return Estimate(constants.value, influence, log_weight, residual, reward)

    stage = Stage(
        lambda state, block: totals_of(block, *weigh(state, block)),
        MERGE,
        lambda state, totals: Contrast(state.first, state.second, totals),
    )
    return Member((stage,), rows)


_BOTH = given(lambda columns: columns[0]), given(lambda columns: columns[1])


def difference(
    a: Estimate, b: Estimate, cluster: Int[Array, " n"] | None = None, num_clusters: int = 0
) -> Estimate:
    """value(a) − value(b) of two estimates of the same rows in memory, see `contrast`; of users
    where `cluster` says whose each row is, as in `clustered`.
    """
    if cluster is None:
        return estimate_of(contrast(*_BOTH), whole_block((a, b)))
    block = whole_block((a, b))
    state = Contrast(*run_passes(Whole(block), beside(*[x.stages for x in _BOTH])))
    within = sums_within(*_BOTH, state, block, cluster, num_clusters)
    users = [clustered(x, cluster, num_clusters) for x in (a, b)]
    pair = contrast(*_BOTH, lambda block: block.columns[2])
    return estimate_of(pair, whole_block((*users, within)))

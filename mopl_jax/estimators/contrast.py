"""Differences of two estimates on the same rows."""

from typing import Any

import jax.numpy as jnp

from mopl_jax.estimators.ess import enough
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.estimator import Member, estimate_of, given
from mopl_jax.estimators.importance import snips
from mopl_jax.estimators.weight_totals import MERGE, WeightTotals, totals_of
from mopl_jax.numerics import safe
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.reduce import Stage, beside, whole_block
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


def contrast(first: Member, second: Member) -> Member:
    """value(first) − value(second), with the difference of the influences (arXiv 2405.10024).

    For SNIPS that is the four-term delta method of the Δ-SNIPS variance. A row's reward enters with
    coefficient p₁ − p₂; its size is the weight of the row, so effective sample sizes speak of the
    contrast. No row has weight where either value rests on one row: the rows that differ would say
    nothing of the row that counts. The sizes need a pass of their own.
    """

    def sum_sizes(state, block):
        size, _, _ = _shares(first, second, state, block)
        return totals_of(block, safe.log(size), jnp.zeros_like(size))

    def rows(state, block):
        size, sign, (a, b) = _shares(first, second, state, block)
        residual = sign * jnp.exp(state.totals.log_sum) * 0.5 * (a.residual + b.residual)
        influence = a.influence - b.influence
        return Estimate(state.value, influence, safe.log(size), residual, a.reward)

    both = beside(first.stages, second.stages)
    paired = Stage(
        both[-1].summarise, both[-1].monoid, lambda s, x: Contrast(*both[-1].finish(s, x))
    )
    last = Stage(sum_sizes, MERGE, lambda s, totals: Contrast(s.first, s.second, totals))
    return Member((*both[:-1], paired, last), rows)


def _shares(first, second, state, block):
    """|p₁ − p₂| and the sign of p₁ − p₂, (m,) each, and both estimates of a block's rows."""
    a, b = first.rows(state.first, block), second.rows(state.second, block)
    totals = state.first.totals, state.second.totals
    p, q = totals[0].share(a.log_weight), totals[1].share(b.log_weight)
    rounding = _ROUNDING * jnp.finfo(p.dtype).eps * (p + q)
    differ = (jnp.abs(p - q) > rounding) & enough(totals[0].sum_p2) & enough(totals[1].sum_p2)
    return jnp.where(differ, jnp.abs(p - q), 0), jnp.sign(p - q), (a, b)


def half(first: Member, second: Member, sign: int) -> Member:
    """The mean reward of the rows where p₁ − p₂ has this sign, weighed by |p₁ − p₂|.

    With s = Σ(p₁ − p₂)₊ the difference of two SNIPS is s (V₊ − V₋), V₊ and V₋ the halves' means: of
    different rows, however much the policies share. The one stage starts from a `Contrast` and
    puts the totals of the half into it; their `log_sum` is log s. Of users, whose two weighted
    mean rewards differ, the mean of the two counts.
    """

    def weigh(state, block):
        size, side, (a, b) = _shares(first, second, state, block)
        p, q = (x.totals.share(y.log_weight) for x, y in ((state.first, a), (state.second, b)))
        reward = a.reward + safe.divide(q, p + q) * (b.reward - a.reward)
        return safe.log(jnp.where(side == sign, size, 0)), reward

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


def difference(a: Estimate, b: Estimate) -> Estimate:
    """value(a) − value(b) of two estimates of the same rows in memory, see `contrast`."""
    pair = contrast(given(lambda columns: columns[0]), given(lambda columns: columns[1]))
    return estimate_of(pair, whole_block((a, b)))

"""`WeightTotals`: what one pass over the rows of a log keeps of importance weights and rewards.

Totals of two sets of rows merge into the totals of both, in any order and for any number of sets;
the totals of a set of rows are those of its single rows, merged. The heaviest row stands apart, so
that complements to one are sums over the other rows, which float32 holds however near one row is to
all; rewards are centred at that row's, so that equal rewards leave exactly nothing. Of rows without
an order all that are the heaviest lead: one of them stands apart, whichever.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Int

from mopl_jax.numerics.reduce import Block, Monoid, whole_block
from mopl_jax.numerics.shapes import Batch, PerBlockRow, PerRow


class WeightTotals(NamedTuple):
    """Sums over rows with u = w / max w, the heaviest row h (the first of several) left out.

    `num_rows`: n
    `log_max`: log max w, −inf where no row has weight
    `heaviest`: the number of row h; None where rows have no order
    `rest`: Σ u
    `rest2`: Σ u²
    `centre`: c, the reward of row h; the mean of all that lead
    `weighted`: Σ u (r − c)
    `weighted2`: Σ u² (r − c)
    `offset_centre`: the term of row h that an estimator adds to w r
    `offset`: Σ (o − offset_centre) over all rows, o the term of each
    """

    num_rows: Batch
    log_max: Batch
    heaviest: Int[Array, "*batch"] | None
    rest: Batch
    rest2: Batch
    centre: Batch
    weighted: Batch
    weighted2: Batch
    offset_centre: Batch
    offset: Batch

    @property
    def some(self) -> Bool[Array, "*batch"]:
        """Whether any row has weight."""
        return self.log_max > -jnp.inf

    @property
    def shift(self) -> Batch:
        """log max w, and 0 where no row has weight or a weight is infinite."""
        return jnp.where(jnp.isfinite(self.log_max), self.log_max, 0)

    @property
    def max_p(self) -> Batch:
        """The largest normalised weight max p; 0 where no row has weight."""
        return jnp.where(self.some, 1 / (1 + self.rest), 0)

    @property
    def one_minus_max_p(self) -> Batch:
        """Σ p over the other rows."""
        return jnp.where(self.some, self.rest / (1 + self.rest), 0)

    @property
    def rest_p2(self) -> Batch:
        """Σ p² over the other rows."""
        return jnp.where(self.some, self.rest2 / jnp.square(1 + self.rest), 0)

    @property
    def sum_p2(self) -> Batch:
        """S₂ = Σ p²."""
        return jnp.square(self.max_p) + self.rest_p2

    @property
    def log_sum(self) -> Batch:
        """log Σ w."""
        return self.log_max + jnp.log1p(self.rest)

    @property
    def mean_weight(self) -> Batch:
        """Σ w / n: exactly w where all weights are equal."""
        return jnp.exp(self.log_max) * ((1 + self.rest) / self.num_rows)

    @property
    def mean_offset(self) -> Batch:
        """The mean of the terms o: exactly o where all are equal."""
        return self.offset_centre + self.offset / self.num_rows

    def share(self, log_weight: PerBlockRow) -> PerBlockRow:
        """Normalised weights p = w / Σ w of some rows; 0 where no row has weight."""
        return jnp.where(self.some, jnp.exp(log_weight - self.shift) * self.max_p, 0)

    def is_heaviest(self, block: Block, log_weight: PerBlockRow) -> Bool[Array, " m"]:
        """Which rows of a block are row h, or lead with it.

        A query engine computes the same log weight every time; compiled functions may not.
        """
        if self.heaviest is None:
            return log_weight == self.log_max
        return block.number(log_weight.shape[0]) == self.heaviest


_NO_ROW = np.iinfo(np.int32).max  # above the number of any row of a log that is indexed by int32


def merge(parts: WeightTotals) -> WeightTotals:
    """The totals of all parts, stacked along a first axis: the part of the largest weight leads.

    With s = exp(log max − largest log max) and δ = c − c of the leading part, the others add
    s (1 + Σu), s² (1 + Σu²), s (Σu(r−c) + δ (1 + Σu)) and s² (Σu²(r−c) + δ (1 + Σu²)). Without an
    order several lead, and all but one of them add the same, with s = 1.
    """
    largest = jnp.max(lax.stop_gradient(parts.log_max), axis=0)
    heaviest, lead, more = None, parts.log_max == largest, 0
    if parts.heaviest is not None:
        none = np.iinfo(parts.heaviest.dtype).max
        heaviest = jnp.min(jnp.where(lead, parts.heaviest, none), axis=0)
        lead = lead & (parts.heaviest == heaviest)

    def own(x):
        return jnp.sum(jnp.where(lead, x, 0), axis=0)

    def of_lead(x):
        return own(x) if heaviest is not None else own(x) / (more + 1)

    def of_others(x):  # that lead as well
        return own(x) if heaviest is None else 0

    if heaviest is None:
        more = own(jnp.ones_like(parts.rest)) - 1
    log_max = largest if heaviest is None else own(parts.log_max)
    centre = of_lead(parts.centre)
    log_scale = parts.log_max - jnp.where(jnp.isfinite(log_max), log_max, 0)
    s = jnp.where(lead, 0, jnp.exp(log_scale))
    offset_centre = of_lead(parts.offset_centre)
    offset_gap = parts.offset_centre - offset_centre
    gap, whole, whole2 = parts.centre - centre, 1 + parts.rest, 1 + parts.rest2
    return WeightTotals(
        num_rows=jnp.sum(parts.num_rows, axis=0),
        log_max=log_max,
        heaviest=heaviest,
        rest=own(parts.rest) + jnp.sum(s * whole, axis=0) + more,
        rest2=own(parts.rest2) + jnp.sum(s * s * whole2, axis=0) + more,
        centre=centre,
        weighted=own(parts.weighted)
        + jnp.sum(s * (parts.weighted + gap * whole), axis=0)
        + of_others(gap * whole),
        weighted2=own(parts.weighted2)
        + jnp.sum(s * s * (parts.weighted2 + gap * whole2), axis=0)
        + of_others(gap * whole2),
        offset_centre=offset_centre,
        offset=jnp.sum(parts.offset + parts.num_rows * offset_gap, axis=0),
    )


def empty(part: WeightTotals) -> WeightTotals:
    """The totals of no rows."""
    zero = jnp.zeros_like(part.rest)
    none = None if part.heaviest is None else jnp.full_like(part.heaviest, _NO_ROW)
    return WeightTotals(zero, zero - jnp.inf, none, *[zero] * 7)


MERGE = Monoid(merge, empty)


def totals_of(
    block: Block,
    log_weight: PerBlockRow,
    reward: PerBlockRow,
    offset: ArrayLike = 0.0,
    rows: ArrayLike = 1.0,
) -> WeightTotals:
    """The totals of the rows of a block, from their log weights and rewards (m,).

    `rows`: how many each of them speaks for, which its log weight includes.
    """
    zero = jnp.zeros_like(log_weight)
    each = WeightTotals(
        num_rows=block.mask(zero + rows),
        log_max=block.mask(log_weight, -jnp.inf),
        heaviest=None if block.start is None else block.number(log_weight.shape[0]),
        rest=zero,
        rest2=zero,
        centre=block.mask(reward),
        weighted=zero,
        weighted2=zero,
        offset_centre=block.mask(zero + offset),
        offset=zero,
    )
    return merge(each)


def totals_of_weights(log_weight: PerRow) -> WeightTotals:
    """The totals of all rows of a log in memory, without rewards."""
    return totals_of(whole_block(log_weight), log_weight, jnp.zeros_like(log_weight))

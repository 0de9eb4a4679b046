"""Control variates: columns known before the action, whose mean under the target is that of all.

The weighted mean of such a column estimates what its plain mean does, whatever the policy. Where
rewards depend on it, an estimate that misses the one misses the other, by as much: CUPED (Deng, Xu,
Kohavi & Walker, WSDM 2013) for logs that are weighed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.estimator import Member
from mopl_jax.estimators.weight_totals import MERGE, WeightTotals, totals_of
from mopl_jax.numerics import linalg, safe
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.reduce import ADD, Block, Stage, beside
from mopl_jax.numerics.shapes import Scalar, Vector

FEW = 10.0  # effective rows a column, below which none is used: the slope would follow the noise
SAME = 1e-12  # of a variance: columns of which less is left by the others tell nothing of their own


@pytree_dataclass()
class Controlled:
    """The state of an estimate, and the `slope` (c,) that it has on c columns.

    `target`, `logged`: the totals of each column, by the importance weights and by none
    """

    plain: Any
    target: WeightTotals
    logged: WeightTotals
    slope: Any = None

    @property
    def totals(self) -> WeightTotals:
        """Totals of the importance weights."""
        return self.plain.totals

    @property
    def value(self) -> Scalar:
        """The estimate less what its columns say that it misses."""
        return self.plain.value - self.slope @ (_means(self.target) - _means(self.logged))


def controlled(
    plain: Member,
    columns: Callable[[Block], Float[Array, "m c"]],
    log_weights: Sequence[Callable[[Block], Float[Array, " m"]]],
    rows_each: Callable[[Block], Any],
) -> Member:
    """value(plain) − θᵀ(x̄ by weights − x̄), θ by least squares of influence on influence.

    Consistent whatever θ, and of least variance at its best. The interval is that of a population's
    value: of rewards that follow x closely the uncertainty of x̄ itself stays, and goes from the
    difference of two policies on the same rows. The influence is raised for the c columns that were
    fitted, √(1 / (1 − c S₂)). `log_weights` are those of the target and of the log itself, times
    how many rows each row speaks for, `rows_each`.
    """

    def sums(log_weight):
        def summarise(state, block):
            def of(column):
                return totals_of(block, log_weight(block), column, 0.0, rows_each(block))

            return jax.vmap(of)(columns(block).T)

        return (Stage(summarise, MERGE, lambda state, totals: totals),)

    first = beside(plain.stages, *map(sums, log_weights))

    def terms(state, block):
        """Influence (c, m) of each column's gap, and its distance from the weighted mean."""
        x, parts = columns(block).T, []
        for totals, log_weight in zip((state.target, state.logged), log_weights, strict=True):
            kept = block.mask(log_weight(block), -jnp.inf)
            share = jax.vmap(lambda each, kept=kept: each.num_rows * each.share(kept))(totals)
            away = jnp.where(share > 0, x - _means(totals)[:, None], 0)
            parts.append((share * away, away))
        (weighted, away), (all_, _) = parts
        return weighted - all_, away

    def summarise(state, block) -> Float[Array, "c c+1"]:
        z, _ = terms(state, block)
        own = plain.rows(state.plain, block).influence
        return z @ jnp.concatenate([z, own[None]]).T

    def finish(state, products):
        used = products.shape[0] * state.totals.sum_p2 * FEW < 1
        slope = jnp.where(used, _slope(products), 0)
        return Controlled(state.plain, state.target, state.logged, slope)

    def rows(state, block):
        own, (z, away) = plain.rows(state.plain, block), terms(state, block)
        share = jnp.where(jnp.any(state.slope != 0), z.shape[0] * state.totals.sum_p2, 0)
        raised = safe.sqrt(1 / (1 - jnp.minimum(share, 0.5)))
        influence = (own.influence - state.slope @ z) * raised
        residual = own.residual - state.slope @ away
        return Estimate(state.value, influence, own.log_weight, residual, own.reward)

    def begun(state, summary):
        return Controlled(*first[-1].finish(state, summary))

    last = Stage(first[-1].summarise, first[-1].monoid, begun)
    return Member((*first[:-1], last, Stage(summarise, ADD, finish)), rows)


def _means(totals: WeightTotals) -> Vector:
    return totals.centre + totals.weighted / (1 + totals.rest)


def _slope(products: Float[Array, "c c+1"]) -> Vector:
    """θ from the products of the columns' influences with each other and with the estimate's."""
    gram, moment = products[:, :-1], products[:, -1]
    unit = safe.reciprocal(safe.sqrt(jnp.diagonal(gram)))
    scaled = gram * unit[:, None] * unit[None, :]
    return unit * linalg.solve_positive(scaled + SAME * jnp.eye(len(unit)), unit * moment)

"""Control variates: columns known before the action, whose mean under the target is that of all.

The weighted mean of such a column estimates what its plain mean does, whatever the policy. Where
rewards depend on it, an estimate that misses the one misses the other, by as much: CUPED (Deng, Xu,
Kohavi & Walker, WSDM 2013) for logs that are weighed.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.estimator import Member
from mopl_jax.numerics import linalg, safe
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.reduce import ADD, Block, Stage, beside
from mopl_jax.numerics.shapes import Vector

FEW = 10.0  # effective rows a column, below which none is used: the slope would follow the noise
SAME = 1e-12  # of a variance: columns of which less is left by the others tell nothing of their own


@pytree_dataclass()
class Controlled:
    """The states of an estimate and of its controls, and the `slope` (c,) that it has on them."""

    plain: Any
    controls: tuple[Any, ...]
    slope: Vector | None = None

    @property
    def totals(self):
        """Of the importance weights."""
        return self.plain.totals

    @property
    def gaps(self) -> Vector:
        """By how much each weighted mean misses the plain one, (c,)."""
        return jnp.stack([target.value - all_.value for target, all_ in self.controls])

    @property
    def value(self):
        """The estimate less what its controls say that it misses."""
        return self.plain.value - self.slope @ self.gaps


Control = tuple[Member, Member]  # the mean of a column under the target, and that of all rows


def controlled(plain: Member, controls: Sequence[Control]) -> Member:
    """value(plain) − θᵀ(x̄ under the target − x̄ of all), θ by least squares of influence on influence.

    Consistent whatever θ, and of least variance at its best. The interval is that of a population's
    value: of rewards that follow x closely the uncertainty of x̄ itself stays, and goes from the
    difference of two policies on the same rows. The influence is raised for the columns that were
    fitted, √(1 / (1 − c S₂)).
    """
    pairs = [beside(target.stages, all_.stages) for target, all_ in controls]
    first = beside(plain.stages, *pairs)

    def fitted(state, summary):
        own, *others = first[-1].finish(state, summary)
        return Controlled(own, tuple(others))

    def terms(state, block):
        """Influence of the estimate (m,) and of its controls (c, m), and all of their rows."""
        own = plain.rows(state.plain, block)
        both = [
            (target.rows(at, block), all_.rows(over, block))
            for (target, all_), (at, over) in zip(controls, state.controls, strict=True)
        ]
        return own, jnp.stack([one.influence - other.influence for one, other in both]), both

    def summarise(state, block: Block) -> Float[Array, "c c+1"]:
        own, z, _ = terms(state, block)
        return z @ jnp.concatenate([z, own.influence[None]]).T

    def finish(state, products):
        used = len(controls) * state.totals.sum_p2 * FEW < 1
        return Controlled(state.plain, state.controls, jnp.where(used, _slope(products), 0))

    def rows(state, block):
        own, z, both = terms(state, block)
        used = jnp.any(state.slope != 0)
        share = jnp.where(used, len(controls) * state.totals.sum_p2, 0)
        raised = safe.sqrt(1 / (1 - jnp.minimum(share, 0.5)))
        residual = jnp.stack([target.residual for target, _ in both])
        return Estimate(
            state.value,
            (own.influence - state.slope @ z) * raised,
            own.log_weight,
            own.residual - state.slope @ residual,
            own.reward,
        )

    last = Stage(first[-1].summarise, first[-1].monoid, fitted)
    return Member((*first[:-1], last, Stage(summarise, ADD, finish)), rows)


def _slope(products: Float[Array, "c c+1"]) -> Vector:
    """θ from the products of the controls' influences with each other and with the estimate's."""
    gram, moment = products[:, :-1], products[:, -1]
    unit = safe.reciprocal(safe.sqrt(jnp.diagonal(gram)))
    scaled = gram * unit[:, None] * unit[None, :]
    return unit * linalg.solve_positive(scaled + SAME * jnp.eye(len(unit)), unit * moment)

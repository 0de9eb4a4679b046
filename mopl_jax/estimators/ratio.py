"""Estimates of another column than the reward, and ratios of two estimates on the same rows."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array

from mopl_jax.estimators.estimate import Estimate
from mopl_jax.estimators.estimator import Member
from mopl_jax.estimators.weight_totals import WeightTotals
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.reduce import Block, Stage, beside
from mopl_jax.numerics.shapes import Scalar


def of_outcome(member: Member, outcome: Callable[[Block], Array]) -> Member:
    """The `member`'s estimate of `outcome(block)` (m,) in place of the rewards."""

    def swapped(block):
        return block._replace(columns=block.columns._replace(reward=outcome(block)))

    def moved(stage):
        summarise = lambda state, block: stage.summarise(state, swapped(block))  # noqa: E731
        return stage._replace(summarise=summarise)

    rows = lambda state, block: member.rows(state, swapped(block))  # noqa: E731
    return Member(tuple(map(moved, member.stages)), rows)


@pytree_dataclass()
class Ratio:
    """The states of the estimates `above` and `below` the line."""

    above: Any
    below: Any

    @property
    def totals(self) -> WeightTotals:
        """Totals of the importance weights, which numerator and denominator share."""
        return self.above.totals

    @property
    def value(self) -> Scalar:
        """The ratio of the two values."""
        return self.above.value / self.below.value


def ratio(above: Member, below: Member) -> Member:
    """value(above) / value(below), as clicks over views, by its influence (ψₐ − R ψ_b) / B.

    The linearisation of a ratio R = A / B of two means on the same rows (Deng, Knoblich & Lu,
    KDD 2018, arXiv 1803.06336); the reward of a row is R plus what it adds to it, (a − R b) / B.
    """
    both = beside(above.stages, below.stages)

    def paired(state, summary):
        return Ratio(*both[-1].finish(state, summary))

    def rows(state, block):
        a, b = above.rows(state.above, block), below.rows(state.below, block)
        value, mean = state.value, state.below.value

        def linear(x, y):
            return (x - value * y) / mean

        return Estimate(
            value,
            linear(a.influence, b.influence),
            a.log_weight,
            linear(a.residual, b.residual),
            value + linear(a.reward, b.reward),
        )

    last = Stage(both[-1].summarise, both[-1].monoid, paired)
    return Member((*both[:-1], last), rows)

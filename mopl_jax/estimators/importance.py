"""Importance weighting: IPS, SNIPS and β-IPS.

Each estimator is called on log weights (n,) and rewards (n,) in memory, and gives an `Estimate`
whose influence terms every interval is made from. Two small functions define it, see `Estimator`.
"""

import jax
import jax.numpy as jnp

from mopl_jax.estimators.estimator import Constants, Estimator, Model, fold_of
from mopl_jax.estimators.weight_totals import WeightTotals, empty, merge, totals_of
from mopl_jax.numerics.reduce import Block, Monoid
from mopl_jax.numerics.safe import divide
from mopl_jax.numerics.shapes import PerBlockRow, Scalar


def _ips(totals: WeightTotals) -> Constants:
    """Inverse propensity scoring, mean(w r): unbiased, and exposed to every fluctuation of mean(w).

    An estimator with a model adds the mean of its offsets.
    """
    centred = jnp.exp(totals.log_max) * (totals.weighted / totals.num_rows)
    value = totals.centre * totals.mean_weight + centred + totals.mean_offset
    return Constants(value, value)


def _ips_row(constants, totals, log_weight, gap, offset):
    influence = jnp.exp(log_weight) * gap + offset - constants.value
    return influence, totals.mean_weight * gap


ips: Estimator = Estimator(_ips, _ips_row)


def _snips(totals: WeightTotals) -> Constants:
    """Self-normalised importance sampling, Σ p r (Swaminathan & Joachims, NeurIPS 2015).

    NaN if no row has weight. Rewards are centred before they are averaged: equal rewards give
    residuals of exactly zero, and float32 suffices.
    """
    shift = jnp.where(totals.some, totals.weighted / (1 + totals.rest), jnp.nan)
    return Constants(totals.centre + shift, shift)


def _snips_row(constants, totals, log_weight, gap, offset):
    residual = gap - totals.centre - constants.shift
    return totals.num_rows * totals.share(log_weight) * residual, residual


snips: Estimator = Estimator(_snips, _snips_row)


def optimal_baseline(totals: WeightTotals) -> Scalar:
    """β* = Σ(w²−w)(r−c) / Σ(w²−w), the baseline of least variance about the centre c.

    Gupta et al. (RecSys 2024, arXiv 2405.05736). Where the weights hardly vary, that is where
    Σ(w²−w) ≤ Σw²/1000, β* is undetermined (0/0) and irrelevant: the weighted mean stands in.
    """
    heaviest = jnp.where(totals.some, jnp.exp(totals.log_max), 0)
    w, w2 = heaviest * (1 + totals.rest), jnp.square(heaviest) * (1 + totals.rest2)
    wr, w2r = heaviest * totals.weighted, jnp.square(heaviest) * totals.weighted2
    determined = w2 - w > 1e-3 * w2
    return jnp.where(determined, divide(w2r - wr, w2 - w), divide(wr, w))


def _beta_ips(totals: WeightTotals) -> Constants:
    """β-IPS: β + mean(w (r − β)) at the optimal baseline.

    Its asymptotic mean squared error is never above that of SNIPS (arXiv 2602.14914). β* is itself
    a ratio of means of w², so that this needs fourth moments of the weights; where they are
    infinite or not yet seen, the error of β* may cost more than it saves.
    """
    beta = optimal_baseline(totals)
    scale = jnp.where(totals.some, jnp.exp(totals.log_max) / totals.num_rows, 0)
    shift = beta + scale * (totals.weighted - beta * (1 + totals.rest))
    return Constants(totals.centre + shift, beta)


def _beta_ips_row(constants, totals, log_weight, gap, offset):
    beta = constants.shift
    left = gap - totals.centre - beta
    influence = beta + jnp.exp(log_weight) * left - (constants.value - totals.centre)
    return influence, totals.mean_weight * left


beta_ips: Estimator = Estimator(_beta_ips, _beta_ips_row)


# Cross-fitted: each half's baseline comes from the other half. Halves are of users.


def _halves(block: Block, log_weight: PerBlockRow) -> WeightTotals:
    """The totals of even and of odd rows, or users, stacked."""
    odd = fold_of(block, 2) == 1
    log_weights = jnp.stack(
        [jnp.where(odd, -jnp.inf, log_weight), jnp.where(odd, log_weight, -jnp.inf)]
    )
    return jax.vmap(lambda x: totals_of(block, x, block.columns.reward))(log_weights)


_MERGE_HALVES = Monoid(jax.vmap(merge, in_axes=1), empty)


def _adjust(baselines, block):
    """r − β and β, the baseline of an even row or user from the odd ones and conversely."""
    beta = baselines[1 - fold_of(block, 2)]
    return block.columns.reward - beta, beta


beta_ips_cross_fit: Estimator = Estimator(
    _ips,
    _ips_row,
    Model(_halves, _MERGE_HALVES, lambda totals: totals.centre + optimal_baseline(totals), _adjust),
)

NAMED = {"ips": ips, "snips": snips, "beta_ips": beta_ips}

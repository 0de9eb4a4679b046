"""Off-policy estimators of a policy's value.

Contract: `(log_weight (n,), reward (n,)) -> Estimate`. Every estimate carries its influence
terms (per-row, mean zero), from which each interval is made; write an interval once and it
serves every estimator. `rows` says where the rows lie.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mopl_jax.estimators.ess import normalise, spread_out
from mopl_jax.estimators.estimate import Estimate
from mopl_jax.numerics import safe
from mopl_jax.numerics.reduce import WHOLE, Rows


def ips(log_weight: Float[Array, " n"], reward: Float[Array, " n"], rows: Rows = WHOLE) -> Estimate:
    """Inverse propensity scoring, mean(w r): unbiased, and exposed to every fluctuation of
    mean(w).
    """
    w = jnp.exp(log_weight)
    value, influence = _mean(w * reward, rows)
    return Estimate(value, influence, log_weight, _average(w, rows) * reward, reward)


def snips(
    log_weight: Float[Array, " n"], reward: Float[Array, " n"], rows: Rows = WHOLE
) -> Estimate:
    """Self-normalised importance sampling, Σ p r (Swaminathan & Joachims, NeurIPS 2015); NaN if
    no row has weight.

    Rewards are centred before they are averaged: equal rewards give residuals of exactly zero,
    and float32 suffices.
    """
    p = normalise(log_weight, rows)
    centre = _heaviest(log_weight, reward, rows)
    centred = reward - centre
    shift = jnp.where(rows.top(log_weight) > -jnp.inf, rows.total(p * centred), jnp.nan)
    residual = centred - shift
    return Estimate(centre + shift, rows.count(reward) * p * residual, log_weight, residual, reward)


def _heaviest(log_weight, reward, rows):
    """The reward of a heaviest row: once it is subtracted, rewards equal wherever there is weight
    are exactly zero.
    """
    heavy = log_weight == rows.top(log_weight)
    return rows.top(rows.kept(jnp.where(heavy, reward, -jnp.inf), -jnp.inf))


def _mean(terms, rows):
    """Mean, and deviations from it that are exactly zero where the terms are equal: rounding is no
    evidence.
    """
    first = rows.first(terms)
    shift = _average(terms - first, rows)
    return first + shift, rows.kept(terms - first - shift)


def _average(terms, rows):
    return rows.total(rows.kept(terms)) / rows.count(terms)


def optimal_baseline(
    w: Float[Array, " n"], reward: Float[Array, " n"], rows: Rows = WHOLE
) -> Float[Array, ""]:
    """β* = Σ(w²−w)r / Σ(w²−w), the baseline of least variance (Gupta et al., RecSys 2024, arXiv
    2405.05736).

    Where the weights hardly vary β* is undetermined (0/0) and irrelevant: the weighted mean
    reward stands in.
    """
    total, spread = rows.total(w), rows.total(w * w - w)
    determined = spread > 1e-3 * rows.total(w * w)
    fallback = rows.total(w * reward) / safe.positive(total)
    return jnp.where(
        determined, rows.total((w * w - w) * reward) / jnp.where(determined, spread, 1), fallback
    )


def beta_ips(
    log_weight: Float[Array, " n"],
    reward: Float[Array, " n"],
    rows: Rows = WHOLE,
    cross_fit: bool = False,
) -> Estimate:
    """β-IPS: β + mean(w (r − β)) at the optimal baseline; asymptotic MSE never above that of
    SNIPS (arXiv 2602.14914).

    `cross_fit` takes each half's baseline (even and odd rows) from the other half, which removes
    the plug-in bias.
    """
    w = jnp.exp(log_weight)
    centre = _heaviest(log_weight, reward, rows)
    centred = reward - centre
    if cross_fit:
        even, odd = (optimal_baseline(w[k::2], centred[k::2]) for k in (0, 1))
        beta = jnp.where(jnp.arange(w.shape[0]) % 2 == 0, odd, even)
    else:
        beta = optimal_baseline(w, centred, rows)
    value, influence = _mean(beta + w * (centred - beta), rows)
    return Estimate(
        centre + value, influence, log_weight, _average(w, rows) * (centred - beta), reward
    )


def difference(a: Estimate, b: Estimate, rows: Rows = WHOLE) -> Estimate:
    """value(a) − value(b) on the same rows, with the difference of the influences (Δ-OPE, arXiv
    2405.10024).

    For SNIPS the influence gives the four-term delta method of the Δ-SNIPS variance. A row's
    reward enters with coefficient p_a − p_b; its size is the estimate's weight, so effective
    sample sizes speak of the contrast. No row has weight where either value rests on one row:
    the rows that differ would say nothing of the row that counts.
    """
    coefficient = normalise(a.log_weight, rows) - normalise(b.log_weight, rows)
    spread = spread_out(a.log_weight, rows) & spread_out(b.log_weight, rows)
    size = jnp.where(spread, jnp.abs(coefficient), 0)
    residual = jnp.sign(coefficient) * rows.total(size) * 0.5 * (a.residual + b.residual)
    return Estimate(
        a.value - b.value, a.influence - b.influence, safe.log(size), residual, a.reward
    )


NAMED = {"ips": ips, "snips": snips, "beta_ips": beta_ips}


# Modified weights: log weights to log weights, composed with any estimator:
# `ips(clipped(log_weight, bound=10.0), reward)`. Less variance for bias; the interval of the result
# covers the modified value, which is not V.

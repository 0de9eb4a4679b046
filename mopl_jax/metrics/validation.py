"""Would a learnt metric have told past experiments apart better than the North Star? Judged on
held-out experiments.

All numbers here are summaries of z-scores on the host; standard errors resample whole
experiments. Labels that the North Star's own significance decided flatter it: the factor is then
too small, never too large.
"""

import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Float

from mopl_jax.metrics.objectives import Allowed, History, Objective, leave_one_out, z_scores
from mopl_jax.numerics.proportion import wilson_interval
from mopl_jax.numerics.pytree import pytree_dataclass

RESAMPLES = 1000
Scores = Float[np.ndarray, " e"]  # of differences


@pytree_dataclass()
class Errors:
    """How a two-sided test at level α does on known winners: shares of them, and a p-value.

    `agreement`: the sign is right.
    `power`: significant with the right sign.
    `type_ii`: not significant.
    `type_iii`: significant with the wrong sign.
    `median_p`: median one-sided p-value.
    """

    agreement: float
    power: float
    type_ii: float
    type_iii: float
    median_p: float


@pytree_dataclass()
class Validation:
    """Held-out errors of a learnt metric and of the North Star, and what the metric saves.

    `known`, `nulls`: how many known winners and A/A differences there are.
    `metric`, `north_star`, `tandem`: errors of the two, and of both with Bonferroni.
    `factor`: (mean sz / mean sz of the North Star)², the factor on the North Star's users for
    the same certainty, s the known sign; 4 means a quarter of the users.
    `median_factor`: that of the single experiment in the middle.
    `factor_se`, `median_factor_se`: their standard errors.
    `false_positives`: share of A/A differences that are significant; NaN without A/A.
    `false_positives_low`, `false_positives_high`: its 95 % Wilson interval.
    """

    known: int
    nulls: int
    metric: Errors
    north_star: Errors
    tandem: Errors
    factor: float
    factor_se: float
    median_factor: float
    median_factor_se: float
    false_positives: float
    false_positives_low: float
    false_positives_high: float


def validate(
    history: History,
    objective: Objective,
    allowed: Allowed | None = None,
    alpha: float = 0.05,
) -> Validation:
    """Leave-one-experiment-out validation: each z is of a metric learnt without that experiment."""
    return judge(held_out(history, objective, allowed), history, alpha)


def held_out(history: History, objective: Objective, allowed: Allowed | None = None) -> Scores:
    """The z-score of every difference by the metric learnt without its experiment."""
    weights = np.asarray(leave_one_out(history, objective, allowed))
    variance = np.einsum("ei,eij,ej->e", weights, history.covariance, weights)
    signal = np.einsum("ei,ei->e", weights, history.effect)
    return np.where(variance > 0, signal / np.sqrt(np.where(variance > 0, variance, 1)), 0)


def judge(z: Scores, history: History, alpha: float = 0.05) -> Validation:
    """The summary of held-out z-scores, against those of the North Star alone."""
    north = np.asarray(z_scores(np.eye(len(history.names))[history.north_star], history))
    sign, null, experiment = (
        np.asarray(field) for field in (history.sign, history.null, history.experiment)
    )
    known = sign != 0
    ours, theirs = (sign * z)[known], (sign * north)[known]
    critical, stricter = (float(norm.isf(level / 2)) for level in (alpha, alpha / 2))
    factors = [
        (f(ours, theirs), _resampled(f, ours, theirs, experiment[known]))
        for f in (mean_factor, median_factor)
    ]
    return Validation(
        int(known.sum()),
        int(null.sum()),
        errors(ours, critical),
        errors(theirs, critical),
        _tandem(ours, theirs, stricter),
        *factors[0],
        *factors[1],
        *_false_positives(z[null], critical),
    )


def errors(z: Scores, critical: float) -> Errors:
    """Shares of signed z-scores (positive is right) beyond ± `critical`."""
    agreement, power, wrong = (float(np.mean(hit)) for hit in (z > 0, z > critical, z < -critical))
    return Errors(agreement, power, 1 - power - wrong, wrong, float(np.median(norm.sf(z))))


def _tandem(ours, theirs, critical):
    """Bonferroni: the more significant of the two decides, at half the level each; twice its
    p-value.
    """
    chosen = np.where(np.abs(ours) >= np.abs(theirs), ours, theirs)
    found = errors(chosen, critical)
    return Errors(
        found.agreement, found.power, found.type_ii, found.type_iii, min(1.0, 2 * found.median_p)
    )


def mean_factor(ours: Scores, theirs: Scores) -> float:
    """(mean z / mean z_N)², 0 if the metric points the wrong way: z grows as the root of the
    users.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.square(max(np.mean(ours), 0) / np.mean(theirs)))


def median_factor(ours: Scores, theirs: Scores) -> float:
    """Median of z|z| / z_N|z_N|: negative where the two disagree about the winner."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.median(ours * np.abs(ours) / (theirs * np.abs(theirs))))


def _resampled(statistic, ours, theirs, experiment):
    """Bootstrap standard error over experiments."""
    names, index = np.unique(experiment, return_inverse=True)
    rng = np.random.default_rng(0)
    draws = (
        np.bincount(rng.integers(names.size, size=names.size), minlength=names.size)
        for _ in range(RESAMPLES)
    )
    picks = (np.repeat(np.arange(index.size), times[index]) for times in draws)
    with np.errstate(invalid="ignore"):  # of a factor that is infinite
        return float(np.std([statistic(ours[pick], theirs[pick]) for pick in picks], ddof=1))


def _false_positives(z, critical):
    if z.size == 0:
        return float("nan"), float("nan"), float("nan")
    hits = int(np.sum(np.abs(z) > critical))
    return (hits / z.size, *wilson_interval(hits, z.size))

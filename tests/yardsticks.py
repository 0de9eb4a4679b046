"""The yardsticks: intervals of every kind by name, and how far a sample is from a claim.

Tolerances are rounding (a multiple of the dtype's eps) or k standard errors; coverages are judged
by a binomial tail.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from worlds import ESTIMATORS, INTERVALS, WALD

from mopl_jax.intervals import Interval

KEY = jax.random.key(2405)
DTYPES = (np.float32, np.float64)


def cast(tree, dtype):
    """The same record in another float dtype."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def eps(dtype):
    """The relative rounding error of a dtype."""
    return float(jnp.finfo(dtype).eps)


# Compiled once, shared by all tests.


@functools.partial(jax.jit, static_argnames="estimator")
def estimate(log_weight, reward, estimator="snips"):
    """An `Estimate` by name."""
    return ESTIMATORS[estimator](log_weight, reward)


@functools.partial(jax.jit, static_argnames="estimator")
def every_pivot(log_weight, reward, estimator="snips"):
    """The pivot of every Wald interval, by name."""
    made = ESTIMATORS[estimator](log_weight, reward)
    return {name: INTERVALS[name].pivot(made) for name in WALD}


@functools.partial(jax.jit, static_argnames="estimator")
def every_other(log_weight, reward, alpha, estimator):
    """Every interval that is not made of a pivot, by name."""
    made = ESTIMATORS[estimator](log_weight, reward)
    return {name: interval(made, alpha) for name, interval in INTERVALS.items() if name not in WALD}


@jax.jit
def intervals_of(pivots, alpha):
    """All pivots made intervals with one evaluation of the quantile, as in a sweep."""
    made = jax.tree.map(lambda *x: jnp.stack(x), *pivots.values()).interval(alpha)
    return {name: Interval(made.lower[i], made.upper[i]) for i, name in enumerate(pivots)}


def every_interval(log_weight, reward, alpha, estimator="snips") -> dict[str, tuple]:
    """(lower, upper) of every interval, by name; the slow compilations are shared by estimators."""
    made = intervals_of(every_pivot(log_weight, reward, estimator), alpha)
    if len(WALD) < len(INTERVALS):
        made |= every_other(log_weight, reward, alpha, estimator)
    return {name: (interval.lower, interval.upper) for name, interval in made.items()}


# Yardsticks.


def standard_errors(sample, expected, axis=0):
    """How many standard errors the mean of a sample is from its expectation; at most 4 is
    agreement.
    """
    sample = np.asarray(sample, np.float64)
    error = sample.std(axis=axis, ddof=1) / np.sqrt(sample.shape[axis])
    return np.abs(sample.mean(axis=axis) - np.asarray(expected)) / error


def binomial_tail(hits, trials, probability):
    """The smaller of P(X ≤ hits), P(X ≥ hits) for X binomial: how surprising a coverage is."""
    return min(
        stats.binom.cdf(hits, trials, probability), stats.binom.sf(hits - 1, trials, probability)
    )

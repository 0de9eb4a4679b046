"""Every instance to cross with every property, and the statistical yardsticks.

A new policy, effective sample size, estimator, interval or environment is one line in a list
here. Tolerances are rounding (a multiple of the dtype's eps) or k standard errors; coverages are
judged by a binomial tail.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mopl_jax import estimators, intervals
from mopl_jax.estimators import ess
from mopl_jax.intervals import Interval, Wald
from mopl_jax.numerics import random
from mopl_jax.policies import Gaussian, Mixture, Uniform, smooth
from mopl_jax.simulation import environments
from mopl_jax.simulation.environments import Environment

KEY = jax.random.key(2405)
DTYPES = (np.float32, np.float64)

POLICIES = {
    "diagonal": Gaussian.diagonal(np.array([0.5, -1.0, 2.0]), np.array([0.3, 1.0, 2.0])),
    "full": Gaussian.full(
        np.array([0.5, -1.0, 2.0]), np.array([[1.0, 0.4, -0.2], [0.4, 2.0, 0.3], [-0.2, 0.3, 0.5]])
    ),
    "smooth": smooth(np.array([0.1, 0.2, 0.3]), 0.5),
    "uniform": Uniform(jnp.array([0.0, -1.0, 2.0]), jnp.array([1.0, 3.0, 2.5])),
}
POLICIES["mixture"] = Mixture.of(np.array([1.0, 3.0]), [POLICIES["diagonal"], POLICIES["full"]])

ESS = {
    "max_weight": ess.max_weight,
    "renyi_3": functools.partial(ess.renyi, order=3.0),
    "kish": ess.kish,
    "perplexity": ess.perplexity,
    "renyi_half": functools.partial(ess.renyi, order=0.5),
}  # by falling order of the Hill family, so by rising size

ESTIMATORS = {
    **estimators.NAMED,
    "beta_ips_cross_fit": functools.partial(estimators.beta_ips, cross_fit=True),
    "delta_snips": lambda log_weight, reward: estimators.difference(
        estimators.snips(log_weight, reward), estimators.snips(0.5 * log_weight, reward)
    ),
}

INTERVALS = intervals.WALD
WALD = tuple(name for name in INTERVALS if isinstance(INTERVALS[name], Wald))

MEAN_REWARDS = {
    "linear": environments.Linear(jnp.array([0.5, -0.2, 0.3]), jnp.array(0.1)),
    "quadratic": environments.Quadratic(
        jnp.array(1.0),
        jnp.array([0.2, 0.1, -0.3]),
        jnp.array([[0.6, 0.2, 0.0], [0.2, 0.5, -0.1], [0.0, -0.1, 0.4]]),
    ),
    "cosine": environments.Cosine(jnp.array([1.0, 0.5, -0.7]), jnp.array(0.8), jnp.array(0.3)),
    "exponential": environments.Exponential(
        jnp.array([0.3, -0.2, 0.1]), jnp.array(0.5), jnp.array(-0.2)
    ),
}
NOISES = {
    "normal": environments.Normal(jnp.array(0.5)),
    "student_t": environments.StudentT(jnp.array(6.5), jnp.array(0.5)),
    "lognormal": environments.LogNormal(jnp.array(0.5), jnp.array(0.6)),
}
NOISE_VARIANCE = {
    "normal": 0.5**2,
    "student_t": 0.5**2 * 6.5 / 4.5,
    "lognormal": 0.6**2 * np.expm1(0.5**2),
}
ENVIRONMENTS = {
    **{
        f"{m}-{n}": Environment(mean, noise)
        for m, mean in MEAN_REWARDS.items()
        for n, noise in NOISES.items()
    },
    "linear-heteroscedastic": Environment(
        MEAN_REWARDS["linear"], NOISES["normal"], jnp.array([0.4, -0.3, 0.2])
    ),
    "probability-bernoulli": Environment(
        environments.Cosine(jnp.array([1.0, 0.5, -0.7]), jnp.array(0.4), jnp.array(0.5)),
        environments.Bernoulli(),
    ),
    "watch-time": Environment(
        environments.Exponential(jnp.array([0.3, -0.2, 0.1]), jnp.array(0.5), jnp.array(0.0)),
        environments.ZeroInflated(jnp.array(0.4), jnp.array(0.7)),
    ),
}


def cast(tree, dtype):
    """The same record in another float dtype."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def rows(seed, n, dtype=np.float64, spread=1.0):
    """Arbitrary log weights and rewards of n rows."""
    rng = np.random.default_rng(seed)
    log_weight, reward = spread * rng.normal(size=n), rng.normal(size=n) + 0.3
    return jnp.asarray(log_weight, dtype), jnp.asarray(reward, dtype)


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


@functools.partial(jax.jit, static_argnames="n")
def sample_rows(key, policy, n):
    """n actions (n, d) of a policy."""
    return jax.vmap(policy.sample)(random.row_keys(key, n))


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

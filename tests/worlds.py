"""One list of worlds: every policy, estimator, interval, environment and log to cross with every
property.

A new policy, effective sample size, estimator, interval or environment is one line in a list here.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mopl_jax import estimators, intervals
from mopl_jax.coverage.engine import replicate
from mopl_jax.estimators import ess
from mopl_jax.intervals import Wald
from mopl_jax.logs import Logs
from mopl_jax.numerics import random
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.policies import Gaussian, Mixture, Uniform, smooth
from mopl_jax.simulation import environments
from mopl_jax.simulation.environments import Environment
from mopl_jax.simulation.recommender import Visit

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
    "beta_ips_cross_fit": estimators.beta_ips_cross_fit,
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


# Logs in memory.


def standard(d, scale=1.0):
    """The usual logging policy, N(0, scale² I) in d weights."""
    return Gaussian.diagonal(jnp.zeros(d), scale)


@functools.partial(jax.jit, static_argnames="n")
def sample_rows(key, policy, n):
    """n actions (n, d) of a policy."""
    return jax.vmap(policy.sample)(random.row_keys(key, n))


def rows(seed, n, dtype=np.float64, spread=1.0):
    """Arbitrary log weights and rewards of n rows."""
    rng = np.random.default_rng(seed)
    log_weight, reward = spread * rng.normal(size=n), rng.normal(size=n) + 0.3
    return jnp.asarray(log_weight, dtype), jnp.asarray(reward, dtype)


# Logs under stress: every kind of log weights with every kind of rewards, of n rows by a generator.
WEIGHTS = {
    "moderate": lambda rng, n: rng.normal(size=n),
    "wide": lambda rng, n: 30 * rng.normal(size=n),
    "from e^-1e4 to e^1e4": lambda rng, n: 1e4 * rng.uniform(-1, 1, size=n),
    "near e^1e4": lambda rng, n: 1e4 + rng.normal(size=n),
    "near e^-1e4": lambda rng, n: -1e4 + rng.normal(size=n),
    "subnormal": lambda rng, n: -740 + 3 * rng.normal(size=n),
    "subnormal in float32": lambda rng, n: -100 + 3 * rng.normal(size=n),
    "equal": lambda rng, n: np.full(n, rng.choice([0.0, -700.0, 700.0])),
    "one row above all": lambda rng, n: _above(1, rng, n) + rng.normal(size=n),
    "two rows above all": lambda rng, n: _above(2, rng, n),
    "half of them none": lambda rng, n: np.where(rng.random(n) < 0.5, -np.inf, rng.normal(size=n)),
    "none": lambda rng, n: np.full(n, -np.inf),
}
REWARDS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "clicks": lambda rng, n: np.where(rng.random(n) < 0.3, 1.0, 0.0),
    "rare clicks": lambda rng, n: np.where(rng.random(n) < 2 / n, 1.0, 0.0),
    "equal": lambda rng, n: np.full(n, rng.choice([0.0, 1.0, 0.1, -3.3e7])),
    "one rounding of float32 apart": lambda rng, n: 1 + 2.0**-23 * rng.integers(2, size=n),
    "one rounding apart": lambda rng, n: 1 + 2.0**-52 * rng.integers(2, size=n),
    "far from zero": lambda rng, n: 1e9 + rng.normal(size=n),
    "heavy": lambda rng, n: np.exp(4 * rng.normal(size=n)),
    "first two equal": lambda rng, n: np.where(np.arange(n) < 2, 1.0, rng.normal(size=n)),
}
SIZES = {np.float32: (1e-8, 1e8), np.float64: (1e-30, 1e30)}  # of rewards whose fourth powers hold


def _above(count, rng, n):
    """The log weights of some rows, the others' 0."""
    return np.where(np.arange(n) < count, rng.choice([5.0, 10.0, 16.0, 40.0, 80.0, 700.0]), 0.0)


def under_stress(weights, rewards, seed, n, dtype=np.float64, size=1.0):
    """Log weights and rewards of n rows, of kinds of `WEIGHTS` and `REWARDS`."""
    rng = np.random.default_rng(seed)
    log_weight, reward = WEIGHTS[weights](rng, n), size * REWARDS[rewards](rng, n)
    return jnp.asarray(log_weight, dtype), jnp.asarray(reward, dtype)


@functools.partial(jax.jit, static_argnames="n")
def log_of(key, n=2000, noise=0.3, mean=MEAN_REWARDS["quadratic"]):
    """n rows in three weights played by N(0, I): rewards of a mean with normal noise."""
    return replicate(key, Environment(mean, environments.Normal(jnp.array(noise))), standard(3), n)


def logged(action, reward):
    """The log of actions (n, d) that N(0, I) played, and their rewards."""
    return Logs(action, jax.vmap(standard(action.shape[1]).log_density)(action), reward)


def of_users(logs, rows_each):
    """The log with `rows_each` rows after one another of one user."""
    cluster = np.arange(logs.reward.shape[0]) // rows_each
    return dataclasses.replace(logs, cluster=jnp.asarray(cluster))


# Tables.


def write(path, columns, **options):
    """The path of a table written as CSV or Parquet, by its suffix."""
    csv = path.suffix == ".csv"
    (pyarrow.csv.write_csv if csv else pq.write_table)(pa.table(columns), path, **options)
    return path


KUAIRAND_USERS, KUAIRAND_ITEMS, KUAIRAND_ROWS = 40, 30, 3_000
KUAIRAND_COLUMNS = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
).split(",")


def kuairand(seed=0):
    """A table of the KuaiRand layout: items have rates of their own; a tenth of the rows is not
    random.
    """
    rng = np.random.default_rng(seed)
    table = {name: rng.integers(0, 100, KUAIRAND_ROWS) for name in KUAIRAND_COLUMNS}
    item = rng.integers(0, KUAIRAND_ITEMS, KUAIRAND_ROWS)
    table |= {
        "user_id": rng.integers(0, KUAIRAND_USERS, KUAIRAND_ROWS),
        "video_id": item,
        "date": rng.integers(20220422, 20220427, KUAIRAND_ROWS),
    }
    for name in (n for n in KUAIRAND_COLUMNS if n.startswith("is_") or n == "long_view"):
        table[name] = (rng.random(KUAIRAND_ROWS) < rng.beta(1, 4, KUAIRAND_ITEMS)[item]).astype(int)
    return table | {"is_rand": (rng.random(KUAIRAND_ROWS) < 0.9).astype(int)}


# Platforms.


@pytree_dataclass(static=("names",))
class Bowl:
    """A platform with two weights whose North Star is −½|a − best|² + noise; a signal sees half
    of it with little noise.

    Served on a circle through the first weights, N(w, h²) gains bestᵀ(w − first): all depends on
    the angle to `best`.
    """

    best: jax.Array
    names: tuple[str, ...] = ("signal", "north")

    @property
    def signals(self):
        return self.names

    def visit(self, key, action):
        noise = random.normal(key, 2).astype(action.dtype)
        mean = -0.5 * jnp.sum(jnp.square(action - self.best))
        return Visit(jnp.stack([0.5 * mean + 0.1 * noise[0], mean + noise[1]]), mean)


def bowl(x, y):
    return Bowl(jnp.array([x, y], jnp.float32))

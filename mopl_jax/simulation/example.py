"""A small realistic log with its logging policy, a target and past experiments, on which every
command can be tried at once.

Users come back on several days; every visit is ranked by weights drawn from the logging policy. A
user is retained with a probability that a quadratic of the weights and the user's own habit decide.
On the web clicks are worth more and likes less than that, in the app the other way round; the
country says nothing.
"""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Float
from pyarrow import csv

from mopl_jax.io.files import prepare, write_atomically
from mopl_jax.io.policy_json import write_policy
from mopl_jax.io.storage import write_table
from mopl_jax.metrics import experiments
from mopl_jax.numerics.check import check_seed
from mopl_jax.policies.deterministic import Deterministic
from mopl_jax.policies.gaussian import Gaussian

NAMES = ("w_click", "w_like", "w_share", "w_watch")
MEAN, SCALE = np.array([1.0, 2.0, 5.0, 0.5]), np.array([0.2, 0.4, 1.0, 0.1])
SLOPE, BEND = np.array([0.03, 0.0, 0.05, -0.01]), 0.02  # of retention, a scale of each weight
USERS, DAYS = 12_000, 28
WEB, TURN = 0.4, np.array([0.12, -0.12, 0.0, 0.0])  # its share; how much steeper than in the app
COUNTRIES, SHARES = ("DE", "FR", "US", None), (0.45, 0.3, 0.2, 0.05)
PAST, ARM = 40, 20_000  # past experiments, and users in each of their arms
SIGNALS = ("clicks", "shares", "days")
OVER_USERS = np.array([[1.0, 0.2, 0.1], [0.2, 1.0, 0.2], [0.1, 0.2, 4.0]])
LIFT = np.array([0.6, 1.0, 0.8])  # of the signals, of an experiment of size 1
WEEKS, RUNNING = 4, 14  # looks at an experiment of the scorecards; days of the one that runs
FIRST = datetime.date(2026, 3, 1)
SECONDS = 86_400  # of a day
README = """path = "log.parquet"
action = "w_"
reward = "retained"
cluster = "user"
logging = "logging.json"
"""


def retention(action: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """The probability (n,) that a user of no habit is retained, which weights of NAMES decide."""
    z = (action - MEAN) / SCALE
    return 0.4 + z @ SLOPE - 0.5 * BEND * np.square(z).sum(axis=1)


def write_example(folder: Path, seed: int = 0) -> list[Path]:
    """Write log.parquet, log.toml, logging.json, target.json, production.json, past.parquet,
    scorecards.csv and running.csv into `folder`, and return their paths.

    ValueError if the folder cannot be written.
    """
    rng, folder = np.random.default_rng(check_seed(seed)), prepare(folder)
    logging = Gaussian.diagonal(MEAN, SCALE)
    target = Gaussian.diagonal(MEAN + SCALE * np.array([0.5, 0.0, 0.7, 0.0]), 0.7 * SCALE)
    production = Deterministic(jnp.asarray(MEAN))
    about = {"objectives": list(NAMES)}
    return [
        write_table(folder / "log.parquet", _log(rng)),
        write_atomically(folder / "log.toml", lambda path: path.write_text(README)),
        write_policy(folder / "logging.json", logging, **about),
        write_policy(folder / "target.json", target, **about),
        write_policy(folder / "production.json", production, **about),
        experiments.write(folder / "past.parquet", list(_past(rng))),
        _write_csv(folder / "scorecards.csv", _scorecards(rng)),
        _write_csv(folder / "running.csv", _looks(rng, "new ranking", 0.05 * LIFT, RUNNING, 1)),
    ]


def _write_csv(path, rows):
    table = pa.Table.from_pylist(list(rows))
    return write_atomically(path, lambda temporary: csv.write_csv(table, temporary))


def _log(rng) -> pa.Table:
    other, later = rng.spawn(1)[0], rng.spawn(1)[0]  # of what came later into the log, and then
    visits = 1 + rng.poisson(2.5, USERS)
    user = np.repeat(np.arange(USERS), visits)
    order = rng.permutation(len(user))
    user, z = user[order], rng.standard_normal((len(user), len(NAMES)))
    action = MEAN + SCALE * z
    habit = 0.1 * rng.standard_normal(USERS)
    rate = np.clip(retention(action) + habit[user], 0, 1)
    density = -0.5 * np.square(z).sum(axis=1) - np.log(SCALE).sum()
    columns = dict(zip(NAMES, action.T, strict=True)) | {
        "log_propensity": density - 0.5 * len(NAMES) * np.log(2 * np.pi),
        "retained": (rng.random(len(user)) < rate).astype(np.int8),
        "user": [f"u{number:05d}" for number in user],
        "day": np.sort(rng.integers(0, DAYS, len(user))),
    }
    rates = 1 + LIFT * (retention(action) - 0.4)[:, None]
    counts = other.poisson(np.maximum(rates, 0)).astype(np.int8)
    columns |= dict(zip(SIGNALS, counts.T, strict=True))
    web = later.random(len(user)) < _share_of_web(z, rate, columns["retained"])
    columns["platform"] = np.where(web, "web", "app")
    columns["country"] = later.choice(np.array(COUNTRIES, object), USERS, p=SHARES)[user]
    return pa.table(columns | {"time": _moments(later, columns["day"])})


def _share_of_web(z, rate, retained):
    """The probability that a visit was on the web, given what came of it: where the retained are
    of `rate` over both platforms, of which neither has another's weights.
    """
    room = np.minimum(rate, 1 - rate)
    more = (1 - WEB) * np.clip(z @ TURN, -room, room)
    on_web, of_all = (np.where(retained, x, 1 - x) for x in (rate + more, rate))
    return WEB * np.divide(on_web, of_all, out=np.ones_like(rate), where=of_all > 0)


def _moments(rng, day):
    """Times in order, within their days."""
    second = np.sort(day * SECONDS + rng.integers(0, SECONDS, len(day)))
    return np.datetime64(FIRST, "s") + second.astype("timedelta64[s]")


def _past(rng):
    """Experiments whose effect on days clicks and shares show in part, with more certainty."""
    for k in range(PAST):
        truth = _truth(rng, k)
        label = "aa" if truth == 0 else "unknown"
        if abs(truth) > 0.03:
            label = "winner" if truth > 0 else "loser"
        for arm, tag, mean in (("control", "control", 0.0), ("treatment", label, truth)):
            drawn = mean * LIFT + rng.multivariate_normal(np.zeros(3), OVER_USERS / ARM)
            means = {name: float(x) for name, x in zip(SIGNALS, drawn + 1, strict=True)}
            yield experiments.row(f"e{k:02d}", arm, tag, ARM, means, OVER_USERS)


def _truth(rng, k):
    return 0.0 if k % 8 == 7 else 0.04 * rng.standard_normal()


def _scorecards(rng) -> Iterator[dict[str, Any]]:
    """Experiments as most platforms export them: no label, no covariance."""
    for k in range(PAST):
        yield from _looks(rng, f"s{k:02d}", _truth(rng, k) * LIFT, WEEKS, 7)


def _looks(rng, experiment, lift, count, days) -> Iterator[dict[str, Any]]:
    """A row for each arm, look and metric: users and means so far, a look every so many `days`."""
    users = ARM // count
    for arm, mean in (("control", 0 * lift), ("treatment", lift)):
        parts = 1 + mean + rng.multivariate_normal(np.zeros(3), OVER_USERS / users, count)
        for look in range(1, count + 1):
            so_far = parts[:look].mean(axis=0)
            for name, value, variance in zip(SIGNALS, so_far, np.diag(OVER_USERS), strict=True):
                yield {
                    "experiment": experiment,
                    "arm": arm,
                    "time": FIRST + datetime.timedelta(days=days * look - 1),
                    "users": look * users,
                    "metric": name,
                    "mean": float(value),
                    "variance": float(variance),
                }

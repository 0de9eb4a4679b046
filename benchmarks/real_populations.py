"""Do the intervals hold on real rewards? Rows (or users) of real tables, drawn with replacement:
the whole table is the population, and its value the truth.

Hillstrom's e-mail test: three randomised arms, for targets that play them in other shares; rewards
are visits, conversions and spend (1 % of customers, heavy tail). Open Bandit: clicks of the random
logger, for the items that the policy `bts` shows. Conjoint choices (Hainmueller, Hopkins &
Yamamoto 2014): ten profiles a respondent, who is the user; the target plays the better languages
and higher degrees more often. Importance weights are those of the table: their mean is one.

    python -m benchmarks real_populations --path PATH

PATH holds hillstrom/, open_bandit/ and conjoint/ with the Parquet files of these names.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq

from benchmarks import _study
from benchmarks._judge import bound_fails, fails
from benchmarks.open_bandit import item_share
from mopl_jax import intervals
from mopl_jax.estimators import clustered, snips
from mopl_jax.estimators.ess import kish
from mopl_jax.intervals.default import recommended
from mopl_jax.io.table import read_columns

SIZES = {"path": Path("data"), "replicates": 1000, "n": (64, 256, 1024, 4096)}
QUICK = {"replicates": 16, "n": (64,)}
ON_DEMAND = True  # needs a path to data: left out of `all`
ALPHA, AIM = 0.05, 0.945
SHARES = {"men's mail": (0.9, 0.05, 0.05), "a little of each": (0.5, 0.3, 0.2)}
RANGE = "recommended, with its range"


class Population(NamedTuple):
    """A real table: log weights and rewards (n,), the user of each row (None: a row is its own),
    and the range of the rewards, where they have one.
    """

    name: str
    log_weight: np.ndarray
    reward: np.ndarray
    user: np.ndarray | None = None
    reward_range: tuple[float, float] | None = (0.0, 1.0)

    @property
    def truth(self) -> float:
        """The value of the target on the whole table."""
        return float(np.average(self.reward, weights=np.exp(self.log_weight)))


def run(options) -> list[dict]:
    """One row for each population, number of rows or users, and interval."""
    jax.config.update("jax_enable_x64", True)
    return [row for each in populations(options.path) for row in _cells(each, options)]


def populations(path: Path) -> Iterator[Population]:
    """Every table that is there; ValueError where none is."""
    found = [make for name, make in TABLES.items() if (path / name).is_dir()]
    if not found:
        raise ValueError(f"{path}: expected a folder with {', '.join(TABLES)}, found none of them")
    for make in found:
        yield from make(path)


def hillstrom(path: Path) -> Iterator[Population]:
    """Three arms, three rewards, two targets."""
    table = pq.read_table(path / "hillstrom" / "hillstrom.parquet")
    arm = np.unique(table["segment"].to_pylist(), return_inverse=True)[1]
    logged = np.bincount(arm) / arm.size
    for target, shares in SHARES.items():
        log_weight = np.log(np.asarray(shares) / logged)[arm]
        for name in ("visit", "conversion", "spend"):
            bounded = None if name == "spend" else (0.0, 1.0)
            reward = table[name].to_numpy().astype(float)
            yield Population(f"{name}, {target}", log_weight, reward, None, bounded)


def open_bandit(path: Path) -> Iterator[Population]:
    """Clicks of the random logger, for what `bts` shows."""
    columns = ("item_id", "position", "click", "propensity_score")
    for name in ("men", "women"):
        random = read_columns(path / "open_bandit" / f"random_{name}.parquet", columns)
        bts = read_columns(path / "open_bandit" / f"bts_{name}.parquet", columns[:3])
        weight = item_share(bts, random) / random["propensity_score"]
        with np.errstate(divide="ignore"):
            yield Population(f"click, {name}", np.log(weight / weight.mean()), random["click"])


def conjoint(path: Path) -> Iterator[Population]:
    """Choices of respondents, for profiles tilted by two attributes."""
    table = pq.read_table(path / "conjoint" / "immigration.parquet")
    user = np.unique(table["CaseID"].to_numpy(), return_inverse=True)[1]
    weight = np.ones(user.size)
    for column, factor in (("Language Skills", 4.0), ("Education", 2.0)):
        levels, level = np.unique(table[column].to_pylist(), return_inverse=True)
        played = np.where(np.isin(levels, GOOD), factor, 1.0)[level]
        weight *= played / played.mean()
    reward = table["Chosen_Immigrant"].to_numpy().astype(float)
    yield Population("choice, tilted profiles", np.log(weight / weight.mean()), reward, user)


GOOD = ("fluent English", "college degree", "graduate degree", "two-year college")
TABLES = {"hillstrom": hillstrom, "open_bandit": open_bandit, "conjoint": conjoint}


def _cells(population, options) -> Iterator[dict]:
    for n in options.n:
        if population.user is not None and n > population.user.max() + 1:
            continue
        lower, upper, value, size = map(np.asarray, _limits(population, n, options.replicates))
        oracle = 2 * 1.959964 * np.std(value)
        names = [name for name in INTERVALS if population.reward_range or name != RANGE]
        about = {"population": population.name, "n": n, "replicates": options.replicates}
        about |= {"ess_median": float(np.median(size)), "truth": population.truth}
        for i, name in enumerate(names):
            above = float(np.mean(lower[:, i] > population.truth))
            below = float(np.mean(upper[:, i] < population.truth))
            width = float(np.median(upper[:, i] - lower[:, i]) / oracle)
            ends = {"coverage": 1 - above - below, "miss_above": above, "miss_below": below}
            yield about | {"interval": name} | ends | {"width_ratio": width}


INTERVALS = {
    "normal": lambda estimate, bounds: intervals.normal(estimate, ALPHA),
    "ess_exact": lambda estimate, bounds: intervals.ess_exact(estimate, ALPHA),
    "recommended": lambda estimate, bounds: recommended(estimate, ALPHA),
    RANGE: lambda estimate, bounds: recommended(estimate, ALPHA, reward_range=bounds),
}


def _limits(population, n, replicates):
    """Ends (r, interval), values and effective sizes (r,) of logs of `n` rows, or users."""
    bounds = population.reward_range
    functions = [f for name, f in INTERVALS.items() if bounds or name != RANGE]
    draw = _rows_of(population, n)

    @jax.jit
    def of(key):
        estimate = draw(key)
        ends = [f(estimate, bounds) for f in functions]
        lower = jnp.stack([x.lower for x in ends])
        upper = jnp.stack([x.upper for x in ends])
        return lower, upper, estimate.value, kish(estimate.log_weight)

    keys = jax.random.split(jax.random.key(n), replicates)
    return jax.lax.map(of, keys, batch_size=32)


def _rows_of(population, n):
    """A function of a key: the SNIPS estimate of n rows, or of all rows of n users."""
    log_weight, reward = jnp.asarray(population.log_weight), jnp.asarray(population.reward)
    if population.user is None:
        index = lambda key: jax.random.randint(key, (n,), 0, reward.size)  # noqa: E731
        return lambda key: snips(log_weight[i := index(key)], reward[i])
    order = np.argsort(population.user, kind="stable")
    start = np.searchsorted(population.user[order], np.arange(population.user.max() + 2))
    longest = int(np.diff(start).max())
    place = np.minimum(start[:-1, None] + np.arange(longest), start[1:, None] - 1)
    there = jnp.asarray(start[:-1, None] + np.arange(longest) < start[1:, None])
    rows = jnp.asarray(order[place])

    def draw(key):
        users = jax.random.randint(key, (n,), 0, rows.shape[0])
        chosen, kept = rows[users].reshape(-1), there[users].reshape(-1)
        estimate = snips(jnp.where(kept, log_weight[chosen], -jnp.inf), reward[chosen])
        return clustered(estimate, jnp.repeat(jnp.arange(n), longest), n)

    return draw


def table(rows: list[dict]) -> str:
    """Coverage, width over the oracle's and the misses of each end; `*` marks a coverage below
    0.945 by more than two Monte-Carlo standard errors.
    """
    names = [name for name in INTERVALS if any(row["interval"] == name for row in rows)]
    head = ("population", "n", "ESS", *names, "lower end misses", "upper end misses")
    groups = _study.grouped(rows, "population", "n").values()
    return _study.markdown(head, map(lambda some: _line(some, names), groups), "l")


def _line(some, names):
    by_name = {row["interval"]: row for row in some}
    last = by_name.get(RANGE, by_name["recommended"])
    cells = [_cell(by_name[name]) if name in by_name else "" for name in names]
    first = (last["population"], f"{last['n']:,}", f"{last['ess_median']:,.0f}")
    ends = [
        f"{last[side]:.3f}{' *' if bound_fails(last, side) else ''}"
        for side in ("miss_above", "miss_below")
    ]
    return (*first, *cells, *ends)


def _cell(row):
    mark = " *" if fails(row["coverage"], AIM, row["replicates"]) else ""
    return f"{row['coverage']:.3f}{mark} at {row['width_ratio']:.2f} ×"

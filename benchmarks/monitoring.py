"""Looking at a test every day: how often would real tests have been stopped, how early, and how
often against their own end?

Snapshots of the ASOS tests, by the rules of `python -m benchmarks asos`; planned users are those at
the end. A test stops on its North Star, or on a `proxy` learnt from the other metrics on all other
tests. Then what each bound does without effect: on Brownian motion, and on A/A tests of users who
come back, whose increments depend on one another (a conversion comes once, heavy users come often);
with them how often later users differ from earlier ones, the `asos` study's stand-in for A/A tests.

    python -m benchmarks monitoring --path PATH

PATH is asos.parquet.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import _study
from benchmarks.asos import CRITICAL, METRICS, aligned, read
from mopl_jax.metrics import objectives, sequential

RESULTS = ("monitoring", "monitoring_nulls")
SIZES = {"path": Path("asos.parquet"), "paths": 20_000, "looks": 60, "nulls": 2000, "users": 100}
QUICK = {"paths": 200, "nulls": 20}
ON_DEMAND = True  # needs a path to data: left out of `all`
ALPHA = 0.05


def run(options):
    """A row for each North Star, metric and bound; then one for each kind of null test."""
    jax.config.update("jax_enable_x64", True)
    if not options.path.is_file():
        raise ValueError(f"{options.path}: expected the ASOS table, asos.parquet, found none")
    yield [row for north in METRICS for row in _rows(*aligned(read(options.path, north)))]
    yield list(_nulls(options))


def _nulls(options):
    """The share of tests without effect on which each bound is crossed."""
    rng = np.random.default_rng(0)
    n = np.arange(1.0, options.looks + 1)
    steps = rng.standard_normal((options.paths, options.looks))
    brownian = np.cumsum(steps, axis=1) / np.sqrt(n)
    yield {"null": "Brownian motion"} | _crossed(brownian, n) | {"changed": None}
    found: dict[str, list] = {"conversions": [], "visits": [], "spend": []}
    for _ in range(options.nulls):
        for name, looks in _users_who_return(rng, options.looks, options.users).items():
            found[name].append(looks)
    for name, tests in found.items():
        effect, variance = np.array(tests).transpose(1, 0, 2)
        yield {"null": name} | _crossed(effect / np.sqrt(variance), n) | _changed(effect, variance)


def _crossed(z, users):
    bounds = sequential.BOUNDS.items()
    crossed = {name: np.abs(z) > f(users, users[-1], ALPHA) for name, f in bounds}
    shares = {name: float(np.mean(hits.any(axis=1))) for name, hits in crossed.items()}
    return {"tests": len(z)} | shares


def _users_who_return(rng, looks, users):
    """Difference and its variance at each look of an A/A test, of outcomes so far.

    `users` come newly to each arm at each look, and again at random, some much more often.
    """
    shape = (2, looks * users)
    rate = rng.gamma(0.5, 0.2, shape)
    since = np.repeat(np.arange(looks), users)
    visits = np.cumsum(
        [rng.poisson(np.where(since <= look, rate, 0)) for look in range(looks)], axis=0
    )
    worth = np.exp(rng.standard_normal(shape))  # of a user's visits
    outcomes = {"conversions": visits > 0, "visits": visits, "spend": worth * visits}
    return {name: _looks(np.asarray(x, float), users) for name, x in outcomes.items()}


def _looks(so_far, users):
    """(2, looks): difference of the means of those who came, and its variance."""
    n = users * np.arange(1, len(so_far) + 1)[:, None]
    mean, square = so_far.sum(axis=2) / n, np.square(so_far).sum(axis=2) / n
    return np.stack([mean[:, 1] - mean[:, 0], ((square - mean**2) / n).sum(axis=1)])


def _changed(effect, variance):
    """How often the effect among later users differs from that among earlier ones, as said."""
    half = effect.shape[1] // 2
    n, m = 2.0 * half, float(half)
    late = (n * effect[:, -1] - m * effect[:, half - 1]) / (n - m)
    spread = (n**2 * variance[:, -1] - m**2 * variance[:, half - 1]) / (n - m) ** 2
    z = (late - effect[:, half - 1]) / np.sqrt(spread + variance[:, half - 1])
    return {"changed": float(np.mean(np.abs(z) > CRITICAL))}


def _rows(history, looks) -> Iterator[dict[str, Any]]:
    north = np.eye(len(METRICS))[history.north_star]
    proxy = np.asarray(objectives.leave_one_out(history, objectives.proxy))
    correlation = np.asarray(history.covariance)[0]
    spread = np.sqrt(np.diagonal(correlation))
    correlation = correlation / np.outer(spread, spread)
    for name, weights in (("north star", np.tile(north, (len(looks), 1))), ("proxy", proxy)):
        paths = [_path(x, w, correlation) for x, w in zip(looks, weights, strict=True)]
        ends = [_path(x, north, correlation)[-1] for x in looks]
        for bound, function in sequential.BOUNDS.items():
            stops = [
                sequential.first(z, function(x.size, x.size[-1], ALPHA))
                for z, x in zip(paths, looks, strict=True)
            ]
            about = {"north_star": history.names[history.north_star], "metric": name}
            yield about | {"bound": bound} | _judged(stops, paths, ends, looks)


def _path(looks, weights, correlation):
    """The z-scores of a metric at each look."""
    error = np.sqrt(looks.variance) * weights
    return looks.effect @ weights / np.sqrt(np.einsum("si,ij,sj->s", error, correlation, error))


def _judged(stops, paths, ends, looks):
    found = [(i, stop) for i, stop in enumerate(stops) if stop is not None]
    signs = np.array([np.sign(paths[i][stop]) for i, stop in found])
    end = np.array([ends[i] for i, _ in found])
    part = np.array([looks[i].size[stop] / looks[i].size[-1] for i, stop in found])
    return {
        "treatments": len(stops),
        "known": int(np.sum(np.abs(ends) > CRITICAL)),
        "stopped": len(found),
        "confirmed": int(np.sum((np.abs(end) > CRITICAL) & (np.sign(end) == signs))),
        "unconfirmed": int(np.sum(np.abs(end) <= CRITICAL)),
        "contradicted": int(np.sum((np.abs(end) > CRITICAL) & (np.sign(end) != signs))),
        "other_sign": int(np.sum(np.sign(end) != signs)),
        "median_part": float(np.median(part)) if len(part) else None,
    }


def table(rows: list[dict], nulls: list[dict]) -> str:
    """What stopping at the first crossing would have meant; what the bounds do without effect."""
    head = (
        *("North Star", "looked at", "bound", "stopped", "then significant at the end"),
        *("not significant at the end", "contradicted", "median part of the users at the stop"),
    )
    lines = [
        (
            *(row["north_star"], row["metric"], row["bound"], row["stopped"]),
            *(row["confirmed"], row["unconfirmed"], row["contradicted"]),
            "" if row["median_part"] is None else f"{row['median_part']:.0%}",
        )
        for row in rows
    ]
    none = ("without effect", "tests", *sequential.BOUNDS, "later users differ from earlier ones")
    shares = [
        (row["null"], row["tests"], *(_share(row[key]) for key in (*sequential.BOUNDS, "changed")))
        for row in nulls
    ]
    return (
        f"{rows[0]['treatments']} treatments.\n\n{_study.markdown(head, lines, 'lllr')}\n\n"
        f"Crossed at some look:\n\n{_study.markdown(none, shares, 'lr')}"
    )


def _share(x):
    return "" if x is None else f"{x:.1%}"

"""Looking at a test every day: how often would real tests have been stopped, how early, and how
often against their own end?

Snapshots of the ASOS tests, by the rules of `python -m benchmarks asos`; planned users are those at
the end. A test stops on its North Star, or on a `proxy` learnt from the other metrics on all other
tests. Beside it what each bound does on Brownian motion without drift: its size.

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

SIZES = {"path": Path("asos.parquet"), "paths": 20_000, "looks": 60}
QUICK = {"paths": 200}
ON_DEMAND = True  # needs a path to data: left out of `all`
ALPHA = 0.05


def run(options) -> list[dict]:
    """A row for each North Star, metric and bound; `size` is that on Brownian motion."""
    jax.config.update("jax_enable_x64", True)
    if not options.path.is_file():
        raise ValueError(f"{options.path}: expected the ASOS table, asos.parquet, found none")
    size = _sizes(options)
    return [
        row | {"size": size[row["bound"]]}
        for north in METRICS
        for row in _rows(*aligned(read(options.path, north)))
    ]


def _sizes(options):
    """The share of paths without drift on which each bound is crossed."""
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((options.paths, options.looks))
    n = np.arange(1, options.looks + 1)
    z = np.cumsum(steps, axis=1) / np.sqrt(n)
    bounds = sequential.BOUNDS.items()
    return {
        name: float(np.mean((np.abs(z) > f(n, n[-1], ALPHA)).any(axis=1))) for name, f in bounds
    }


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


def table(rows: list[dict]) -> str:
    """What stopping at the first crossing would have meant."""
    head = (
        *("North Star", "looked at", "bound", "size", "stopped", "then significant at the end"),
        *("not significant at the end", "contradicted", "median part of the users at the stop"),
    )
    lines = [
        (
            *(row["north_star"], row["metric"], row["bound"], f"{row['size']:.1%}"),
            *(row["stopped"], row["confirmed"], row["unconfirmed"], row["contradicted"]),
            "" if row["median_part"] is None else f"{row['median_part']:.0%}",
        )
        for row in rows
    ]
    return f"{rows[0]['treatments']} treatments.\n\n{_study.markdown(head, lines, 'lllr')}"

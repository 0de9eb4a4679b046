"""What is a learnt metric worth on real tests: the ASOS data, one metric learnt from the others?

ASOS Digital Experiments Dataset (Liu, Cardoso, Couturier, McCoy, arXiv 2111.10198): 78 tests, 99
treatments, four anonymous metrics, snapshots. Each metric in turn is the North Star, and a metric
learnt from the other three, on all other tests, stands for it. Both are asked early, when a test
has a part of its users, for the sign that the test's own North Star has at its end, where that is
significant. The North Star has an advantage: its own end decides, and its early users are a part of
those.

Rules, those of `mopl metric --leave-out --standardise`: treatments without all variances, and those
whose users become fewer between snapshots, are left out, and tests whose split is not equal by the
sample-ratio test; effects are in standard deviations of a user; one correlation of the metrics for
all tests, from the increments between snapshots. There is no A/A test: for one, the difference
between the effects among earlier and among later users stands, which is zero where an effect does
not change.

The second and the third table ask why that is significant more often than in 5 % of treatments:
whether the variances are too small (then increments between snapshots would spread further than
they say at every distance), whether snapshots have noise that the next ones take back (then only
those of neighbours do), or whether effects change (then long tests are those that differ).

The third table parts the treatments by what they did in the end: a metric is a sum over a user's
time so far, so that an effect may grow with it, and later users seem to differ from earlier ones
where there is an effect. And it compares later with earlier tenths of a test by the
spread of these tenths themselves, over all ways to part them in two: whatever makes them spread,
noise of snapshots or users who come back, that rejects in 5 % unless later ones lie on one side.

    python -m benchmarks asos --path PATH

PATH is asos.parquet.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from mopl_jax.metrics import learnt_metric, objectives, past, snapshots, validation
from mopl_jax.metrics.scorecards import Reading
from mopl_jax.metrics.snapshots import Looks

RESULTS = ("asos", "asos_changes", "asos_nulls")
SIZES = {"path": Path("asos.parquet"), "parts": (0.1, 0.5, 1.0)}
QUICK = {"parts": (0.5,)}
ON_DEMAND = True  # needs a path to data: left out of `all`
CRITICAL = 1.959964
ALPHA = 0.05
METRICS = ("1", "2", "3", "4")
LEARNT = ("proxy", "tested")
PARTS = (4, 16, None)  # of a test, between whose ends increments lie; None: between all snapshots
LONG = 60  # snapshots
TENTHS = 10
ENDS = {"below 1": (0, 1), "to 1.96": (1, CRITICAL), "beyond": (CRITICAL, np.inf)}  # z at the end
COLUMNS = {
    "experiment": "experiment_id",
    "arm": "variant_id",
    "metric": "metric_id",
    "time": "time_since_start",
    "users": "count_t",
    "mean": "mean_t",
    "variance": "variance_t",
    "control_users": "count_c",
    "control_mean": "mean_c",
    "control_variance": "variance_c",
}


def run(options):
    """A row for each correlation, North Star, way to learn and part of the users; what was left
    out and assumed is said with them. Then one for each metric.
    """
    jax.config.update("jax_enable_x64", True)
    if not options.path.is_file():
        raise ValueError(f"{options.path}: expected the ASOS table, asos.parquet, found none")
    cells = [(source, north) for source in ("increments", "independent") for north in METRICS]
    tests = [read(options.path, north, source) for source, north in cells]
    rows = [
        row
        for (source, _), past_tests in zip(cells, tests, strict=True)
        for row in _rows(past_tests, source, options.parts)
    ]
    said = [text.replace(str(options.path), options.path.name) for text in tests[0].warnings]
    yield _study.Rows(rows, said=said)
    yield _changes(*aligned(tests[0]))
    yield [row for past_tests in tests[: len(METRICS)] for row in _nulls(*aligned(past_tests))]


def read(path: Path, north: str, source: str = "increments") -> past.Past:
    """The tests by the rules of the first lines."""
    reading = Reading(columns=COLUMNS, correlation=source, leave_out=True, standardise=True)
    return past.past([path], north, reading)


def aligned(tests: past.Past) -> tuple[objectives.History, list[Looks]]:
    """The history, and the looks of its differences in the same order, in its units.

    Looks whose last one is not the difference of the history are of tests that were left out.
    """
    history = tests.history
    spread = np.sqrt(np.diagonal(history.covariance, axis1=1, axis2=2))
    z = np.asarray(history.effect) / spread
    by_z = {tuple(np.round(x.effect[-1] / np.sqrt(x.variance[-1]), 9)): x for x in tests.looks}
    keep = [i for i, each in enumerate(z) if tuple(np.round(each, 9)) in by_z]
    found = [by_z[tuple(np.round(z[i], 9))] for i in keep]
    units = spread[keep] / np.stack([np.sqrt(x.variance[-1]) for x in found])
    scaled = [
        x._replace(effect=x.effect * unit, variance=x.variance * unit**2)
        for x, unit in zip(found, units, strict=True)
    ]
    picked = jax.tree.map(lambda x: x[jnp.asarray(keep)], _plain(history))
    return dataclasses.replace(history, **picked), scaled


def _plain(history):
    names = ("effect", "covariance", "size", "sign", "null", "experiment")
    return {name: getattr(history, name) for name in names} | (
        {} if history.halves is None else {"halves": history.halves}
    )


def early(history: objectives.History, looks: Sequence[Looks], part: float) -> objectives.History:
    """The history when each test had this part of its users."""
    at = [int(np.searchsorted(x.size, part * x.size[-1] * (1 - 1e-9))) for x in looks]
    effect = np.stack([x.effect[i] for x, i in zip(looks, at, strict=True)])
    variance = np.stack([x.variance[i] for x, i in zip(looks, at, strict=True)])
    return dataclasses.replace(
        history, effect=jnp.asarray(effect), covariance=_rescaled(history, variance)
    )


def _rescaled(history, variance):
    """Covariances of these variances, with the correlations of the history."""
    ratio = np.sqrt(variance / np.diagonal(history.covariance, axis1=1, axis2=2))
    return history.covariance * ratio[:, :, None] * ratio[:, None, :]


def contrast(history: objectives.History, looks: Sequence[Looks]) -> objectives.History:
    """Later minus earlier users: zero where effects do not change."""
    split = [
        min(max(int(np.searchsorted(x.size, x.size[-1] / 2)), 0), len(x.size) - 2) for x in looks
    ]
    effect, variance = [], []
    for x, i in zip(looks, split, strict=True):
        n, m = x.size[-1], x.size[i]
        late = (n * x.effect[-1] - m * x.effect[i]) / (n - m)
        spread = (n**2 * x.variance[-1] - m**2 * x.variance[i]) / (n - m) ** 2
        effect.append(late - x.effect[i])
        variance.append(np.maximum(spread, x.variance[i] * m / n) + x.variance[i])
    return dataclasses.replace(
        history,
        effect=jnp.asarray(np.stack(effect)),
        covariance=_rescaled(history, np.stack(variance)),
    )


def _rows(tests, source, parts) -> list[dict[str, Any]]:
    history, looks = aligned(tests)
    north = np.eye(len(METRICS))[history.north_star]
    final = np.asarray(objectives.z_scores(jnp.asarray(north), history))
    sign = np.where(np.abs(final) > CRITICAL, np.sign(final), 0.0)
    ways = {"north star": np.tile(north, (len(final), 1))} | {
        name: np.asarray(objectives.leave_one_out(history, learnt_metric.NAMED[name]))
        for name in LEARNT
    }
    about = {"correlation": source, "north_star": history.names[history.north_star]}
    about |= {"experiments": len(np.unique(history.experiment)), "treatments": len(final)}
    found = []
    for name, weights in ways.items():
        changed = _z(weights, contrast(history, looks))
        save = {"unchanged_significant": float(np.mean(np.abs(changed) > CRITICAL))}
        for part in parts:
            z, theirs = (_z(w, early(history, looks, part)) for w in (weights, ways["north star"]))
            found.append(
                about | {"metric": name, "part": part} | _judged(z, theirs, sign, history) | save
            )
    return found


def _changes(history, looks) -> list[dict[str, Any]]:
    """Of each metric: how often earlier and later users differ, and how increments spread."""
    later = contrast(history, looks)
    long = np.array([len(x.size) >= LONG for x in looks])
    steps = [np.concatenate([_steps(x, parts) for x in looks]) for parts in PARTS]
    found = []
    for i, name in enumerate(history.names):
        hit = np.abs(_z(np.tile(np.eye(len(METRICS))[i], (len(looks), 1)), later)) > CRITICAL
        row = {"metric": name, "treatments": len(hit), "long": int(long.sum())}
        row |= {"short_differ": int(hit[~long].sum()), "long_differ": int(hit[long].sum())}
        row |= {"returns": _return(looks, i)}
        for parts, step in zip(PARTS, steps, strict=True):
            row[f"spread_{parts}"] = float(np.median(np.abs(step[:, i])) / QUARTILE)
            row[f"correlation_{parts}"] = _mean_correlation(step, i)
        found.append(row)
    return found


def _nulls(history, looks):
    """Of the North Star and its proxy: where later users differ, and whether by more than tenths
    of the test do among themselves.
    """
    north = np.eye(len(METRICS))[history.north_star]
    proxy = np.asarray(objectives.leave_one_out(history, objectives.proxy))
    later = contrast(history, looks)
    for name, weights in (("north star", np.tile(north, (len(looks), 1))), ("proxy", proxy)):
        changed, end = _z(weights, later), np.abs(_z(weights, history))
        own = [_by_own_spread(x, w) for x, w in zip(looks, weights, strict=True)]
        row = {"north_star": history.names[history.north_star], "metric": name}
        for part, (low, high) in ENDS.items():
            some = (end >= low) & (end < high)
            known = np.array([p for p, hit in zip(own, some, strict=True) if hit and p is not None])
            row[f"{part}: differ"] = int(np.sum(np.abs(changed[some]) > CRITICAL))
            row[f"{part}: treatments"] = int(some.sum())
            row[f"{part}: own differ"] = int(np.sum(known <= ALPHA))
            row[f"{part}: own"] = len(known)
        yield row | {"largest": float(np.abs(changed).max())}


def _by_own_spread(looks, weights):
    """Share of all ways to part tenths of a test in two halves that differ as much as later and
    earlier ones; None where the snapshots do not make tenths.
    """
    kept = snapshots.thinned(looks, TENTHS)
    if len(kept.size) < TENTHS:
        return None
    users = np.diff(kept.size, prepend=0)
    each = np.diff(kept.size * (kept.effect @ weights), prepend=0) / users
    apart = (each - np.average(each, weights=users)) * np.sqrt(users)
    ways = [np.isin(range(TENTHS), some) for some in _halves()]
    sums = np.abs([apart[way].sum() - apart[~way].sum() for way in ways])
    return float(np.mean(sums >= sums[0] * (1 - 1e-9)))  # the first way: earlier and later


def _halves():
    return list(itertools.combinations(range(TENTHS), TENTHS // 2))


QUARTILE = 0.6744898  # of a standard normal


def _steps(looks, parts):
    return snapshots.increments(snapshots.thinned(looks, parts))[0]


def _return(looks, i):
    """Median over treatments of the correlation of one increment with the next."""
    each = [_steps(x, None)[:, i] for x in looks]
    return float(np.median([np.corrcoef(z[1:], z[:-1])[0, 1] for z in each if len(z) >= 20]))


def _mean_correlation(steps, i):
    """Of metric i with the others, spikes counting little."""
    calm = steps / np.sqrt(1 + np.mean(np.square(steps), axis=1, keepdims=True))
    moments = calm.T @ calm
    found = moments[i] / np.sqrt(moments[i, i] * np.diagonal(moments))
    return float(np.mean(np.delete(found, i)))


def _z(weights, history):
    variance = np.einsum("ei,eij,ej->e", weights, np.asarray(history.covariance), weights)
    return np.einsum("ei,ei->e", weights, np.asarray(history.effect)) / np.sqrt(variance)


def _judged(z, theirs, sign, history):
    known = sign != 0
    ours, base = (sign * z)[known], (sign * theirs)[known]
    index = np.asarray(history.experiment)[known]
    return {
        "known": int(known.sum()),
        "right": int(np.sum(ours > CRITICAL)),
        "wrong": int(np.sum(ours < -CRITICAL)),
        "sign_right": int(np.sum(ours > 0)),
        "median_z": float(np.median(ours)),
        "factor": validation.mean_factor(ours, base),
        "factor_se": validation._resampled(validation.mean_factor, ours, base, index),
        "unknown_significant": float(np.mean(np.abs(z[~known]) > CRITICAL)),
    }


def table(rows: list[dict], changes: list[dict], nulls: list[dict]) -> str:
    """What each metric calls at a part of the users, of the signs known at the end; where later
    users differ from earlier ones.
    """
    head = (
        *("correlation", "North Star", "metric", "part of the users", "known", "right", "wrong"),
        *("median z", "times fewer users", "significant where nothing changed"),
    )
    lines = [
        (
            *(row["correlation"], row["north_star"], row["metric"], f"{row['part']:.0%}"),
            *(row["known"], row["right"], row["wrong"], f"{row['median_z']:.2f}"),
            _factor(row),
            f"{row['unchanged_significant']:.1%}",
        )
        for row in rows
    ]
    first = rows[0]
    return (
        f"{first['experiments']} of 78 tests, {first['treatments']} of 99 treatments.\n\n"
        f"{_study.markdown(head, lines, 'lllr')}\n\n{_table_of_changes(changes)}\n\n"
        f"{_table_of_nulls(nulls)}"
    )


def _table_of_nulls(nulls):
    head = (
        *("North Star", "metric", *(f"later users differ, z at the end {part}" for part in ENDS)),
        *("largest", *(f"by the test's own spread, {part}" for part in ENDS)),
    )
    lines = [
        (
            *(row["north_star"], row["metric"]),
            *(f"{row[f'{x}: differ']} of {row[f'{x}: treatments']}" for x in ENDS),
            f"{row['largest']:.1f}",
            *(f"{row[f'{x}: own differ']} of {row[f'{x}: own']}" for x in ENDS),
        )
        for row in nulls
    ]
    return _study.markdown(head, lines, "llr")


def _table_of_changes(changes):
    head = (
        *("metric", f"later users differ, under {LONG} snapshots", "… in longer tests"),
        "increments: correlation with the next",
        *(f"{kind}, {_between(x)}" for kind in ("spread", "correlation") for x in PARTS),
    )
    lines = [
        (
            *(row["metric"], f"{row['short_differ']} of {row['treatments'] - row['long']}"),
            *(f"{row['long_differ']} of {row['long']}", f"{row['returns']:.2f}"),
            *(f"{row[f'{kind}_{x}']:.2f}" for kind in ("spread", "correlation") for x in PARTS),
        )
        for row in changes
    ]
    return _study.markdown(head, lines, "lr")


def _between(parts):
    return "all snapshots" if parts is None else f"{parts} parts"


def _factor(row):
    if row["metric"] == "north star":
        return "1"
    return f"{row['factor']:.2f} ± {row['factor_se']:.2f}"

"""A test that is running: looks at its North Star and at a learnt metric that hold all together.

The verb `monitor` reads the snapshots of a test, as `past` reads those of past ones, and gives each
look an interval by a bound of `sequential`: one may look every day and stop at the first that
leaves 0 out.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mopl_jax.io.files import finite
from mopl_jax.metrics import experiments, learnt_reward, metric_json, past, scorecards, snapshots
from mopl_jax.metrics.experiments import Complain
from mopl_jax.metrics.sequential import BOUNDS
from mopl_jax.numerics.check import check_alpha, choose

VALID = {name: bound for name, bound in BOUNDS.items() if name != "fixed"}
LEARNT = learnt_reward.COLUMN
Outcomes = dict[str, Float[np.ndarray, " k"]]


@dataclasses.dataclass(frozen=True)
class Look:
    """One look at a treatment against its control.

    `time`: as the table says it.
    `users`: of all arms of the test so far.
    `effect`, `standard_error`: of the treatment, in units of the outcome.
    `lower`, `upper`: the interval; infinite where the bound says nothing any more.
    """

    time: str | None
    users: float
    effect: float
    standard_error: float
    lower: float
    upper: float


@dataclasses.dataclass(frozen=True)
class Watched:
    """A treatment's looks at one outcome.

    `experiment`, `arm`: whose.
    `outcome`: the North Star's name, or `learnt_metric`.
    `alpha`: level of these looks together.
    `decision`: better, worse, or open.
    `since`: time of the first look whose interval leaves 0 out; None where there is none.
    `looks`: in the order of time.
    """

    experiment: str
    arm: str
    outcome: str
    alpha: float
    decision: str
    since: str | None
    looks: tuple[Look, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class Monitored:
    """Running tests, watched.

    `bound`: a name of `sequential.BOUNDS`.
    `alpha`: for all treatments and outcomes of a test together.
    `planned`: users of all arms at a test's planned end.
    `north_star`: its name, or None where the tables have none.
    `metric`: the learnt metric as a sum of signals, or None.
    `tests`: a treatment and outcome each.
    `warnings`: reasons to distrust it, a sentence each.
    """

    bound: str
    alpha: float
    planned: float
    north_star: str | None
    metric: str | None
    tests: tuple[Watched, ...]
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        told = (f"{x.experiment} {x.arm}: {x.outcome} {x.decision}" for x in self.tests)
        return f"Monitored({'; '.join(told)})"

    def to_dict(self) -> dict[str, Any]:
        """The document of `mopl monitor --json`."""
        return finite(dataclasses.asdict(self))

    def to_arrow(self) -> Any:
        """A `pyarrow.Table`, one row a look."""
        import pyarrow as pa

        whose = ("experiment", "arm", "outcome", "alpha", "decision", "since")
        return pa.Table.from_pylist(
            [
                {name: getattr(each, name) for name in whose} | dataclasses.asdict(look)
                for each in self.tests
                for look in each.looks
            ]
        )


def monitor(
    tables: Path | str | Sequence[Path | str],
    north_star: str | None = None,
    metric: Path | str | None = None,
    *,
    planned: float,
    bound: str = "mixture",
    alpha: float = 0.05,
    **reading: Any,
) -> Monitored:
    """Intervals for every look at the running tests in `tables`, valid at all looks together.

    `north_star` is by default that of the stored `metric`, of which the tables need the signals;
    one of the two is needed. `planned`: users of all arms when a test is to end; `mixture` is
    narrowest half-way there and holds beyond it, `obrien_fleming` says nothing beyond it. A test's
    treatments and outcomes share `alpha` in equal parts. `reading` are the fields of
    `scorecards.Reading`. ValueError in one line for what cannot be used.
    """
    check_alpha(alpha)
    choose([bound], VALID, "bound")
    if not (isinstance(planned, int | float) and 0 < planned < math.inf):
        raise ValueError(f"planned: expected users > 0, all arms together, got {planned}")
    paths = scorecards.paths_of(tables)
    metric = None if metric is None else Path(metric)
    rows, how = past.table_rows(paths, scorecards.Reading(**reading))
    signals = {} if metric is None else _signals(metric)
    star, said = _north_star(rows, north_star, metric)
    names = _names(rows, [*signals, *([star] if star else [])])
    outcomes = _outcomes(names, star, signals)
    known = metric is not None and metric_json.has_correlation(metric)
    if how.correlation is None and known and not _whole(rows[0][1]):
        how = dataclasses.replace(how, correlation=metric)
    left: list[str] = []
    complain = left.append if how.leave_out else experiments.refuse
    rows = [(path, _only(row, names)) for path, row in rows]
    found = _watched(past.controlled(rows, how, complain), names, outcomes, how, complain, said)
    level = {"planned": float(planned), "bound": bound, "alpha": alpha}
    tests = tuple(_judged(*each, **level) for each in found)
    if not tests:
        raise ValueError("; ".join([f"{paths[0]}: expected a treatment to watch, got none", *left]))
    return Monitored(
        bound=bound,
        alpha=alpha,
        planned=float(planned),
        north_star=star,
        metric=learnt_reward.formula([*signals], np.array([*signals.values()])) or None,
        tests=tests,
        warnings=(*past.left_out(left), *said, *_beyond(tests, bound, planned)),
    )


# What is watched.


def _signals(metric):
    """The weights of a stored metric that are not 0."""
    names, weights = metric_json.read_metric(metric)
    return {name: weight for name, weight in zip(names, weights, strict=True) if weight}


def _north_star(rows, given, metric) -> tuple[str | None, list[str]]:
    """Its name; where a table has only the signals of a metric, None, and that it is so."""
    path, row = rows[0]
    known = scorecards.metrics(row)
    if given is not None:
        return choose([given], dict.fromkeys(known), f"North Star in {path}")[0], []
    if metric is None:
        raise ValueError("expected a North Star (--north-star), a learnt metric (--metric) or both")
    name = metric_json.north_star_of(metric)
    if name in known:
        return name, []
    return None, [f"{path} has no metric {name!r}: the North Star is not watched"]


def _names(rows, wanted):
    """The metrics that are needed; all of them where rows have covariances."""
    path, row = rows[0]
    known = scorecards.metrics(row)
    if absent := [name for name in wanted if name not in known]:
        raise ValueError(
            f"{path}: expected the signals of the metric, got no {absent[0]!r}; metrics of the"
            f" table: {', '.join(known)}"
        )
    return known if _whole(row) else tuple(name for name in known if name in wanted)


def _whole(row):
    """Whether a row has covariances of all its metrics."""
    return any(row.get(key) is not None for key in ("covariance", "second_moment"))


def _only(row, names):
    """The row without what it says of other metrics."""
    starts = tuple(f"{kind}_" for kind in scorecards.PREFIXED)
    kept = {start + name for start in starts for name in names}
    return {key: x for key, x in row.items() if key in kept or not key.startswith(starts)}


def _outcomes(names, north_star, signals) -> Outcomes:
    one = {} if north_star is None else {north_star: {north_star: 1.0}}
    both = one | ({LEARNT: signals} if signals else {})
    return {key: np.array([x.get(name, 0.0) for name in names]) for key, x in both.items()}


# Looks.


def _watched(by_experiment, names, outcomes, how, complain, said) -> Iterator[tuple]:
    """Each treatment and outcome: its names, how many share a level, and its looks."""
    snapped = [each for some in by_experiment for each in past.looks_of(some, names, complain)]
    tests = {past.name_of(some): list(_by_time(some, names, complain)) for some in by_experiment}
    last = [arm for looks in tests.values() if looks for arm in looks[-1][2]]
    shared = past.shared_correlation(last, names, how, snapped)
    said += [] if shared is None or len(names) < 2 else [shared.source]
    said += past.zeros(last) if LEARNT in outcomes else []
    said += past.by_shares(last, dataclasses.replace(how, keep=True))[1]
    matrix = None if shared is None else shared.matrix
    for name, looks in tests.items():
        yield from _of_one(name, looks, names, matrix, outcomes, complain, said.append)


def _by_time(rows, names, complain: Complain) -> Iterator[tuple]:
    """Time, users of all arms, and the arms, from the first look."""
    path = rows[0][0]
    for at in snapshots.common([row for _, row in rows], complain, past.place_of(rows)).values():
        arms = list(past.arms_of(path, at, names, complain))
        if len(arms) == len(at):
            yield at[0].get("time"), sum(arm.n for _, arm in arms), arms


def _of_one(name, by_time, names, correlation, outcomes, complain, remark):
    paths: dict[str, list] = {}
    last: dict[tuple[str, str], experiments.Difference] = {}
    for time, users, arms in by_time:
        for arm, found in experiments.differences(name, arms, names, correlation, complain):
            paths.setdefault(arm, []).append((time, users, found.effect, found.covariance))
            last[name, arm] = found
    experiments.doubt(last, list(last.values()), names, remark)
    share = len(paths) * len(outcomes)
    for arm, looks in paths.items():
        for outcome, weights in outcomes.items():
            yield name, arm, outcome, share, [_along(weights, *look) for look in looks]


def _along(weights, time, users, effect, covariance):
    return time, users, float(weights @ effect), float(np.sqrt(weights @ covariance @ weights))


def _judged(experiment, arm, outcome, share, looks, *, planned, bound, alpha) -> Watched:
    users = np.array([look[1] for look in looks])
    critical = BOUNDS[bound](users, planned, alpha / share)
    made = tuple(
        Look(
            None if time is None else str(time),
            *(float(n), effect, error, effect - c * error, effect + c * error),
        )
        for (time, n, effect, error), c in zip(looks, critical, strict=True)
    )
    first = next((look for look in made if look.lower > 0 or look.upper < 0), None)
    decision = "open" if first is None else "better" if first.lower > 0 else "worse"
    since = None if first is None else first.time
    return Watched(experiment, arm, outcome, alpha / share, decision, since, made)


def _beyond(tests, bound, planned):
    most = max(each.looks[-1].users for each in tests)
    if bound == "obrien_fleming" and most > planned:
        yield (
            f"{most:,.0f} users are more than the {planned:,.0f} that were planned: obrien_fleming"
            " says nothing of the looks beyond; a bound that holds beyond is mixture"
        )

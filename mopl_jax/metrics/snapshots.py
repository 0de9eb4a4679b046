"""Snapshots: several looks at one test, each with the users and means so far."""

import contextlib
import datetime
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mopl_jax.io.refusals import short, within
from mopl_jax.metrics.experiments import Complain, refuse, told
from mopl_jax.metrics.scorecards import USERS, Row

LEAST = 1.0 + 1e-9  # growth of a test between two looks that says anything


class Looks(NamedTuple):
    """Looks at one treatment against its control, s of them, in the order of time.

    `experiment`, `arm`: whose.
    `time`: when.
    `size`: users so far, 1/(1/n_t + 1/n_c).
    `effect`: the difference so far, of k metrics.
    `variance`: of that difference.
    """

    experiment: str
    arm: str
    time: Float[np.ndarray, " s"]
    size: Float[np.ndarray, " s"]
    effect: Float[np.ndarray, "s k"]
    variance: Float[np.ndarray, "s k"]


def moment(time: Any) -> float:
    """A time as a number: numbers as they are, dates and times of ISO 8601 in seconds."""
    if isinstance(time, int | float):
        return float(time)
    text = str(time)
    for read in (float, _seconds):
        with contextlib.suppress(ValueError):
            return read(text)
    raise ValueError(f"expected a time, a number or a date as 2026-01-31, got {short(time)}")


def _seconds(text):
    return datetime.datetime.fromisoformat(text).timestamp()


def common(
    rows: Sequence[Row], complain: Complain = refuse, where: str = ""
) -> dict[float, list[Row]]:
    """The rows of one experiment at each time at which all arms have one, from the first.

    `complain` is told of an arm with two rows at one time, and of one whose users become fewer,
    with `where` before it; both are left out.
    """
    arms: dict[str, list[Row]] = {}
    for row in rows:
        arms.setdefault(str(row.get("arm")), []).append(row)
    good = {}
    for name, some in arms.items():
        with told(complain), within(where):
            good[name] = _in_time(name, some)
    times = sorted(set.intersection(*map(set, good.values()))) if good else []
    return {time: [looks[time] for looks in good.values()] for time in times}


def until(
    when: float | None,
    rows: Sequence[Row],
    complain: Complain = refuse,
    where: str = "",
) -> list[list[Row]]:
    """The rows of `common` at each of its times, not after `when`."""
    looks = common(rows, complain, where)
    return [some for time, some in looks.items() if when is None or time <= when]


def _in_time(name, rows):
    """The rows of one arm by time; ValueError for two at one time, or users who become fewer."""
    looks: dict[float, Row] = {}
    for row in rows:
        at = moment(row["time"]) if row.get("time") is not None else 0.0
        if at in looks:
            raise ValueError(f"expected each arm once, got {name!r} twice{_remedy(row)}")
        looks[at] = row
    for before, after in itertools.pairwise(sorted(looks)):
        older, newer = _users(looks[before]), _users(looks[after])
        for metric, old in older.items():
            new = newer.get(metric)
            if isinstance(old, int | float) and isinstance(new, int | float) and new < old:
                raise ValueError(
                    f"arm {name!r}{metric}: expected users that grow from snapshot to snapshot, got"
                    f" {old:,.0f} and then {new:,.0f} at {looks[after]['time']}; drop the snapshot"
                )
    return looks


def _users(row):
    """Users of the row, and of each of its metrics where they are known."""
    each = row.get(USERS)
    each = each if isinstance(each, dict) else {}
    known = {f", metric {x!r}": n for x, n in each.items() if f"mean_{x}" in row}
    return {"": row.get("n")} | known


def _remedy(row):
    if row.get("time") is not None:
        return f" at {row['time']}; drop one of the rows"
    return "; merge the rows, or name the time of snapshots by --column time=COLUMN"


def looks(rows: Sequence[Row], names: Sequence[str]) -> Iterator[Looks]:
    """The looks at each treatment of one experiment that can be used: all variances, more users."""
    arms: dict[str, dict[float, Row]] = {}
    for row in rows:
        if row.get("time") is not None and usable(row, names):
            arms.setdefault(str(row["arm"]), {})[moment(row["time"])] = row
    control = [name for name, some in arms.items() if _label(some) == "control"]
    for name, some in arms.items():
        if len(control) == 1 and name != control[0]:
            times = sorted(set(some) & set(arms[control[0]]))
            if len(times) > 1:
                pairs = [(some[time], arms[control[0]][time]) for time in times]
                yield _growing(str(some[times[0]].get("experiment")), name, times, pairs, names)


def _label(some):
    return next(iter(some.values())).get("label")


def usable(row: Row, names: Sequence[str]) -> bool:
    """Whether a row has users, means and variances of all metrics."""
    columns = ["n", *(f"{kind}_{name}" for kind in ("mean", "variance") for name in names)]
    values = [row.get(column) for column in columns]
    numbers = all(isinstance(x, int | float) and np.isfinite(x) for x in values)
    return numbers and row["n"] >= 2 and all(row[f"variance_{name}"] > 0 for name in names)


def _growing(experiment, arm, times, pairs, names):
    treated, control = (_sides(rows, names) for rows in zip(*pairs, strict=True))
    (mean, variance, n), (base, base_variance, base_n) = treated, control
    size = (1 / (1 / n + 1 / base_n))[:, 0]
    keep = np.concatenate([[True], size[1:] > LEAST * np.maximum.accumulate(size)[:-1]])
    found = np.array(times), size, mean - base, variance / n + base_variance / base_n
    return Looks(experiment, arm, *(part[keep] for part in found))


def _sides(rows, names):
    """Means (s, k), variances (s, k) and users (s, 1) of one arm's rows."""
    mean, variance = (
        np.array([[row[f"{key}_{name}"] for name in names] for row in rows], float)
        for key in ("mean", "variance")
    )
    return mean, variance, np.array([row["n"] for row in rows], float)[:, None]


def thinned(looks: Looks, parts: int | None) -> Looks:
    """The looks nearest to each of so many equal parts of the users; all of them without `parts`.

    What snapshots have of noise that the next ones take back counts less, the further apart they
    are.
    """
    if parts is None:
        return looks
    wanted = looks.size[-1] * np.arange(1, parts + 1) / parts
    kept = np.unique(np.abs(looks.size[:, None] - wanted).argmin(axis=0))
    return looks._replace(**{name: getattr(looks, name)[kept] for name in Looks._fields[2:]})


@np.errstate(over="ignore", invalid="ignore")  # of variances whose multiples no float holds
def increments(looks: Looks) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
    """What came between two looks, about the effect at the last one, in its own standard errors.

    z = (N₂Δ₂ − N₁Δ₁ − (N₂−N₁) Δ) / √(v (1 − 2w) + w²N²V), v = N₂²V₂ − N₁²V₁, w = (N₂−N₁)/N, V the
    variance of Δ: standard normal with the correlation of the metrics if users came one after the
    other and effects do not change; and the users, N₂ − N₁.
    """
    n = looks.size[:, None]
    total, spread = n * looks.effect, np.square(n) * looks.variance
    grown, own = np.diff(n, axis=0), np.diff(spread, axis=0)
    part = grown / n[-1]
    variance = own * (1 - 2 * part) + np.square(part) * spread[-1]
    good = ((own > 0) & (variance > 0)).all(axis=1)
    shift = np.diff(total, axis=0) - grown * looks.effect[-1]
    return shift[good] / np.sqrt(variance[good]), grown[good, 0]


def halves(looks: Looks) -> Float[np.ndarray, "2 k"]:
    """The effect among the first half of the users, and among those who came later."""
    n = looks.size
    i = min(max(int(np.searchsorted(n, n[-1] / 2)), 0), len(n) - 2)
    late = (n[-1] * looks.effect[-1] - n[i] * looks.effect[i]) / (n[-1] - n[i])
    return np.stack([looks.effect[i], late])

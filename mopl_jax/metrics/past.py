"""Past tests: tables in any layout in, the history and what must be said of it out."""

import collections
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mopl_jax.io.refusals import within
from mopl_jax.metrics import correlation, experiments, sample_ratio, scorecards, snapshots, splits
from mopl_jax.metrics.experiments import Arm, Complain
from mopl_jax.metrics.objectives import History
from mopl_jax.metrics.scorecards import Reading, Row
from mopl_jax.metrics.snapshots import Looks
from mopl_jax.metrics.splits import Rows
from mopl_jax.numerics.check import choose

# Smallest eigenvalue of the correlation of effects, below which a metric is a combination of
# others: two of correlation 1 − 1e-8 over users have as much. A sum of means rounded to four digits
# leaves 1e-5 or so.
NO_NOISE, ROUNDED = 1e-8, 1e-4


class Past(NamedTuple):
    """What the tables say.

    `history`: the differences.
    `looks`: the snapshots of each treatment that has several.
    `labelled`: whether the table says of any treatment that it won or lost.
    `warnings`: what was left out or assumed, a sentence each.
    """

    history: History
    looks: tuple[Looks, ...]
    labelled: bool
    warnings: tuple[str, ...]


def read(tables: Iterable[Path], north_star: str, reading: Reading | None = None) -> History:
    """The history in one or more tables with the same metrics; ValueError in one line for what
    cannot be learnt from.
    """
    return past(tables, north_star, reading or Reading()).history


def past(tables: Iterable[Path], north_star: str, reading: Reading) -> Past:
    """What the tables say of past tests; ValueError in one line as for `read`."""
    left: list[str] = []
    lost: list[str] = []
    complain, pass_over = (
        some.append if reading.leave_out else experiments.refuse for some in (left, lost)
    )
    rows, reading = table_rows(tables, reading)
    names = _metrics(rows[0], north_star)
    by_experiment, split = _without_folds(controlled(rows, reading, complain), names)
    looks = tuple(each for some in by_experiment for each in looks_of(some, names, complain))
    kept, odd = by_shares(list(_arms(by_experiment, names, reading, complain, pass_over)), reading)
    _check_kept(rows[0][0], kept, odd, left, reading)
    shared = shared_correlation(kept, names, reading, looks)
    with experiments.told(
        lambda text: experiments.refuse("; ".join([text, *odd, *left_out(left)]))
    ):
        history = experiments.history(
            kept,
            names,
            north_star,
            correlation=None if shared is None else shared.matrix,
            halves=split or {(x.experiment, x.arm): snapshots.halves(x) for x in looks} or None,
            standardise=reading.standardise,
            complain=complain,
            remark=odd.append,
        )
    sums = _sums(rows[0][0], history, shared)
    said = [*left_out(left), *left_out(lost, "snapshots of arms"), *odd, *sums]
    said += _known(shared, kept, history)
    labelled = any(row.get("label") in ("winner", "loser") for _, row in rows)
    return Past(history, looks, labelled, tuple(said))


def _metrics(first, north_star) -> tuple[str, ...]:
    """The metrics of the first row, which all rows must have; ValueError without others than the
    North Star.
    """
    path, row = first
    names = scorecards.metrics(row)
    choose([north_star], dict.fromkeys(names), f"North Star in {path}")
    if len(names) < 2:
        raise ValueError(
            f"{path}: {scorecards.place(row)}: expected metrics besides the North Star"
            f" {north_star!r}, got none; add columns mean_NAME, or in a long table rows of others"
        )
    return names


def _without_folds(by_experiment, names) -> tuple[list[Rows], splits.Halves]:
    """A row for each arm, of all its folds, and the differences among two halves of them."""
    if all(row.get("fold") is None for some in by_experiment for _, row in some):
        return by_experiment, {}
    split: splits.Halves = {}
    for some in by_experiment:
        split |= splits.halves(some, names)
    return [splits.whole(some, names) for some in by_experiment], split


def _check_kept(path, kept, odd, left, reading):
    """ValueError where no arm is kept, with what was left out."""
    if kept:
        return
    if not odd and not left:
        raise ValueError(
            f"{path}: --at: expected a time not before the first snapshots, got {reading.at};"
            " name a later one"
        )
    refused = f"{path}: expected at least two experiments, got none that can be used"
    experiments.refuse("; ".join([refused, *odd, *left_out(left)]))


def shared_correlation(
    arms: Sequence[tuple[Path, Arm]], names: Sequence[str], reading: Reading, looks: Sequence[Looks]
) -> correlation.SharedCorrelation | None:
    """One for all arms, where any has variances alone."""
    if any(arm.variances for _, arm in arms):
        nulls = experiments.nulls(arms)
        return correlation.shared(reading.correlation, names, nulls, looks)
    for path, arm in arms if reading.correlation is not None else ():
        if arm.covariance is not None or arm.second_moment is not None:
            raise ValueError(
                f"{path}: --correlation: expected a table without covariances, got one; drop it"
            )
    return None


def table_rows(tables: Iterable[Path], reading: Reading) -> tuple[Rows, Reading]:
    """The rows of all tables as wide ones, and how they were read."""
    found: Rows = []
    for table in tables:
        path, reading = scorecards.described(Path(table), reading)
        found += [(path, row) for row in scorecards.rows(path, reading)]
    return found, reading


def controlled(rows: Rows, reading: Reading, complain: Complain) -> list[Rows]:
    """The rows of each experiment, with labels."""
    experiments_: dict[str, Rows] = {}
    for path, row in rows:
        experiments_.setdefault(str(row.get("experiment")), []).append((path, row))
    found = []
    usual = _usual(experiments_.values())
    for name, some in experiments_.items():
        with experiments.told(complain), within(f"{some[0][0]}: experiment {name!r}"):
            found.append(_labelled(some, reading.control, usual))
    return found


def _usual(experiments_) -> str | None:
    """The first arm of most of several experiments."""
    firsts = collections.Counter(str(some[0][1].get("arm")) for some in experiments_)
    name, count = firsts.most_common(1)[0]
    return name if count > max(1, len(experiments_) / 2) else None


def _labelled(rows, control, usual) -> Rows:
    """Rows with a label each: the control is the one that is named, or labelled, or the arm that
    comes first in most experiments, or in this one.
    """
    names = [str(row.get("arm")) for _, row in rows]
    if control is None and any(row.get("label") is not None for _, row in rows):
        return rows
    first = control or usual or names[0]
    if first not in names:
        whose = "(--control)" if control else "as in most experiments (else name it by a label)"
        raise ValueError(
            f"expected an arm named {first!r} {whose}, got {', '.join(dict.fromkeys(names))}"
        )
    labels = ("control" if name == first else "unknown" for name in names)
    return [
        (path, row | {"label": "control" if label == "control" else row.get("label") or label})
        for label, (path, row) in zip(labels, rows, strict=True)
    ]


def looks_of(rows: Rows, names: Sequence[str], complain: Complain) -> list[Looks]:
    """The snapshots of each treatment of one experiment that can be used."""
    found: list[Looks] = []
    with experiments.told(complain), within(place_of(rows)):
        found += snapshots.looks([row for _, row in rows], names)
    return found


def name_of(rows: Rows) -> str:
    """The name of the experiment of some rows."""
    return str(rows[0][1].get("experiment"))


def place_of(rows: Rows) -> str:
    """The file and the experiment of some rows, for a complaint."""
    return f"{rows[0][0]}: experiment {name_of(rows)!r}"


def _arms(by_experiment, names, reading, complain, pass_over) -> Iterator[tuple[Path, Arm]]:
    """The arms at the time that is asked for; `pass_over` is told of snapshots before it."""
    when = None if reading.at is None else snapshots.moment(reading.at)
    for some in by_experiment:
        looks = snapshots.until(when, [row for _, row in some], complain, place_of(some))
        odd = [x for rows in looks[:-1] for x in rows if not snapshots.usable(x, names)]
        collections.deque(arms_of(some[0][0], odd, names, pass_over), maxlen=0)
        yield from arms_of(some[0][0], looks[-1] if looks else (), names, complain)


def arms_of(
    path: Path, rows: Iterable[Row], names: Sequence[str], complain: Complain
) -> Iterator[tuple[Path, Arm]]:
    """The arms of rows of one time; `complain` is told of those that cannot be used."""
    for row in rows:
        with experiments.told(complain), within(_where(path, row), _REMEDY):
            yield path, experiments.arm_of(row, names)


_REMEDY = "; fill it in or drop the row"


def _where(path, row):
    number = f"row {row['row']}, " if "row" in row else ""
    return f"{path}: {number}{scorecards.place(row)}"


# What is left out, and what is said.


def by_shares(
    arms: Sequence[tuple[Path, Arm]], reading: Reading
) -> tuple[list[tuple[Path, Arm]], list[str]]:
    """The arms of experiments that have the planned shares, or all to `keep`; a warning."""
    odd, kept = [], []
    for name, some in experiments.grouped(arms).items():
        each = [arm for _, arm in some]
        shares = sample_ratio.planned(
            name, [str(arm.arm) for arm in each], [arm.share for arm in each], reading.shares
        )
        if sample_ratio.p_value([arm.n for arm in each], shares) < sample_ratio.MISMATCH:
            odd.append(f"{name} ({' and '.join(f'{arm.n:,.0f}' for arm in each)})")
            if not reading.keep:
                continue
        kept += some
    if not odd:
        return kept, []
    planned = "the planned shares" if reading.shares else "equal shares (say others by --shares)"
    done = "kept, but not to be trusted" if reading.keep else "left out; --keep keeps them"
    return kept, [
        f"sample ratio mismatch, users who are not in {planned}, p < {sample_ratio.MISMATCH:g}:"
        f" {experiments.first_few(odd)}: {done}"
    ]


def left_out(left: Sequence[str], what: str = "") -> Iterator[str]:
    """What was left out, in one sentence, or nothing."""
    if left:
        few = experiments.first_few(list(dict.fromkeys(left)), " · ")
        yield f"left out, because they cannot be used{what and f', {len(left)} {what}'}: {few}"


def _known(shared, arms, history) -> Iterator[str]:
    """Where the covariance between metrics comes from; that it is no covariance where all are 0."""
    if shared is not None:
        yield shared.source + (_moving(history) if shared.guess else "")
    yield from (text + _moving(history) for text in zeros(arms))


def zeros(arms: Sequence[tuple[Path, Arm]]) -> Iterator[str]:
    """How many arms have covariances between metrics that are all 0, in a sentence, or nothing."""
    filled = sum(_filled_in(arm) for _, arm in arms)
    if filled:
        yield (
            f"every covariance between metrics is exactly 0 in {filled} of {len(arms)} arms, as"
            f" exports fill in what they do not know; {correlation.INDEPENDENT}"
        )


def _filled_in(arm):
    k = len(arm.means)
    if k < 2 or arm.covariance is None or arm.covariance.size != k * k:
        return False
    return not arm.covariance.reshape(k, k)[~np.eye(k, dtype=bool)].any()


def _moments(history):
    """Correlations of the metrics over tests, of z-scores about 0; 0 where one never moves."""
    z = np.asarray(history.effect) / np.sqrt(np.diagonal(history.covariance, axis1=1, axis2=2))
    moments = z.T @ z
    scale = np.sqrt(np.outer(np.diagonal(moments), np.diagonal(moments)))
    return np.divide(moments, scale, out=np.zeros_like(moments), where=scale > 0)


def _sums(path, history, shared) -> Iterator[str]:
    """Where a combination of metrics never moves, not even by noise, one is a sum: ValueError, or a
    warning if it may be by rounding that it moves, or if its covariances say that it can.
    """
    k = len(history.names)
    found = _moments(history) * (1 - np.eye(k)) + np.eye(k)
    smallest = float(np.linalg.eigvalsh(found)[0])
    if len(history.effect) <= k + 1 or smallest >= ROUNDED:
        return
    names = experiments.determined(found, history.names)
    if smallest < NO_NOISE and shared is not None:
        raise ValueError(
            f"{path}: expected metrics that can move by themselves, got {names}, which determine"
            " one another in every test, as a sum its parts; drop one of them"
        )
    yield (
        f"{names} nearly determine one another in every test, as a rounded sum its parts: what"
        " combines them is then far less certain than is said here; drop one of them"
    )


def _moving(history) -> str:
    """How strongly the two metrics that move together most do so."""
    found = _moments(history)
    i, j = np.unravel_index(np.argmax(np.abs(np.triu(found, 1))), found.shape)
    return (
        f" (differences of {history.names[i]} and {history.names[j]} correlate"
        f" {found[i, j]:.2f} over these tests)"
    )

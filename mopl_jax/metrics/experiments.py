"""Arms of past experiments, and the history that they become. `objectives` documents the columns of
a row, `scorecards` the other layouts.

Every complaint is a one-line ValueError: file, experiment and arm, what was expected, the remedy.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax.numpy as jnp
import msgspec
import numpy as np
import pyarrow as pa
from jaxtyping import Float
from msgspec import Meta

from mopl_jax.io.documents import ABSENT, Number, Numbers, Positive, fit
from mopl_jax.io.files import write_atomically
from mopl_jax.io.refusals import within
from mopl_jax.io.storage import write_table
from mopl_jax.metrics.objectives import History

SIGNS = {"winner": 1.0, "loser": -1.0, "aa": 0.0, "unknown": 0.0}
_PREFIX = "mean_"
_ROUNDING = 1e-10  # of the largest eigenvalue of the correlations: less is not positive
# Times as large standard deviations, which are another unit: alone, as no two kinds of users differ
# by that (an outlier may make it a thousand); with a mean that is as many times as large, within a
# test, which no treatment does, and between tests, of which one may be of heavy users.
UNIT, ARMS, TESTS = 1e4, 5.0, 50.0
KNOWN = 5.0  # standard errors of that mean: one user who makes both so large makes it one
APART = 10.0  # standard deviations of a user between two arms: on real tests (ASOS) at most 0.1
DOUBT = 1.0  # … of the arm where it is smaller: what effects on means never are, but units may be
EXACT = 2.0**53  # whole numbers that floats hold, from here on not all
SAID = 3  # experiments that a warning names
_PART = 0.1  # of a metric in what another metric determines: less is not named

Users = Annotated[float, Meta(ge=2, le=1e15)]  # more are no number of users
Row = Mapping[str, Any]
Square = Float[np.ndarray, "k k"]
Complain = Callable[[str], None]


class Difference(NamedTuple):
    """The difference of a treatment to its control; fields as in `History`, and

    `base`: the means of the control.
    `apart`: the difference, in standard deviations of a user of the arm where that is smaller.
    """

    effect: Float[np.ndarray, " k"]
    covariance: Square
    size: float
    sign: float
    null: bool
    user_covariance: Square
    base: Float[np.ndarray, " k"]
    apart: Float[np.ndarray, " k"]


class Arm(msgspec.Struct):
    """A row of the table.

    `experiment`, `arm`: their names.
    `label`: what is known of the arm.
    `n`: its users.
    `means`: of the metrics over them.
    `covariance`: of the metrics over them.
    `second_moment`: the mean of x xᵀ, instead of the covariance.
    `variances`: of the metrics, where their covariances are not known.
    `share`: its planned share of the users, in any unit.
    """

    experiment: Any
    arm: Any
    label: Literal["control", "winner", "loser", "aa", "unknown"]
    n: Users
    means: list[Number]
    covariance: Numbers = ABSENT
    second_moment: Numbers = ABSENT
    variances: list[Number] = ABSENT
    share: Positive = ABSENT


def row(
    experiment: str,
    arm: str,
    label: str,
    n: int,
    means: Mapping[str, float],
    covariance: Square,
) -> dict[str, Any]:
    """One row of the experiments table; `means` by metric name, `covariance` over users in the same
    order.
    """
    return {
        "experiment": experiment,
        "arm": arm,
        "label": label,
        "n": int(n),
        **{_PREFIX + name: float(mean) for name, mean in means.items()},
        "covariance": np.asarray(covariance, float).tolist(),
    }


def write(path: Path, rows: Sequence[Row]) -> Path:
    """The experiments table as .parquet or .json."""
    plain = [dict(row) for row in rows]
    if path.suffix == ".json":
        return write_atomically(path, lambda temporary: temporary.write_text(json.dumps(plain)))
    return write_table(path, pa.Table.from_pylist(plain))


def arm_of(row: Row, names: Sequence[str]) -> Arm:
    """A row of the table with the metrics `names`; ValueError for entries that do not fit."""
    got = _metrics(row)
    if got != list(names):
        odd = sorted(set(got) ^ set(names))
        what = f"only one of the two has {', '.join(odd)}" if odd else "their order differs"
        raise ValueError(f"expected the metrics {', '.join(names)}, got {', '.join(got)}: {what}")
    for name in names:
        with within(_PREFIX + name):
            number(row[_PREFIX + name], Number)
    given = {key: value for key, value in row.items() if value is not None}
    with within("users"):
        number(row.get("n"), Users)
    if "covariance" in given:
        given.pop("second_moment", None)
    if given.keys().isdisjoint(("covariance", "second_moment")):
        given |= _variances(given, names)
    return fit(given | {"means": [row[_PREFIX + name] for name in names]}, Arm)


def number(value: Any, kind: Any) -> Any:
    """A number of a row as `kind`: nothing is none, and a whole number of floats a whole one."""
    if value is None:
        raise ValueError("expected a number, got none")
    whole = isinstance(value, float) and value.is_integer() and abs(value) < EXACT
    return fit(int(value) if whole else value, kind)


def _metrics(row):
    return [column.removeprefix(_PREFIX) for column in row if column.startswith(_PREFIX)]


def _variances(given, names):
    """The variances of all metrics, or nothing where the row has none."""
    if not any(key.startswith(("variance_", "std_error_")) for key in given):
        return {}
    found = []
    for name in names:
        kind = "standard error" if f"std_error_{name}" in given else "variance"
        with within(f"metric {name!r}"):
            key = f"{kind.replace('standard error', 'std_error')}_{name}"
            if key not in given:
                raise ValueError("expected a variance or a standard error, got none")
            found.append(fit(given[key], Number))
            if found[-1] <= 0:
                raise ValueError(f"expected a {kind} > 0, got {found[-1]:.4g}")
    return {"variances": found}


def refuse(complaint: str) -> None:
    """Raise it."""
    raise ValueError(complaint)


@contextlib.contextmanager
def told(complain: Complain):
    """Complaints of the block go to `complain`, which may raise them or keep them."""
    try:
        yield
    except ValueError as error:
        complain(str(error))


def grouped(arms: Sequence[tuple[Path, Arm]]) -> dict[str, list[tuple[Path, Arm]]]:
    """The arms of each experiment."""
    experiments: dict[str, list[tuple[Path, Arm]]] = {}
    for path, arm in arms:
        experiments.setdefault(str(arm.experiment), []).append((path, arm))
    return experiments


def history(
    arms: Sequence[tuple[Path, Arm]],
    names: Sequence[str],
    north_star: str,
    *,
    correlation: Square | None = None,
    halves: Mapping[tuple[str, str], Float[np.ndarray, "2 k"]] | None = None,
    standardise: bool = False,
    complain: Complain = refuse,
    remark: Complain = lambda text: None,
) -> History:
    """Differences treatment − control of the arms, each with the file it came from.

    `correlation` of the metrics over users, for arms that have variances alone; `halves` as in
    `History`, by experiment and arm; `standardise`: in standard deviations of a user. `complain` is
    told of each arm that cannot be used, and `remark` of what is doubtful.
    """
    index, keys, pairs = _pairs(arms, names, correlation, complain)
    doubt(keys, pairs, names, remark)
    if not standardise:
        _check_units(arms[0][0], keys, pairs, names)
    effect, covariance, size, sign, null, users, *_ = map(np.array, zip(*pairs, strict=True))
    half = None if halves is None else np.array([halves.get(key, _unknown(names)) for key in keys])
    if standardise:
        unit = np.sqrt(np.diagonal(users, axis1=1, axis2=2))
        outer = unit[:, :, None] * unit[:, None, :]
        effect, covariance, users = effect / unit, covariance / outer, users / outer
        half = None if half is None else half / unit[:, None]
    pooled = np.einsum("e,eij->ij", size / size.sum(), users)
    experiment = np.unique(index, return_inverse=True)[1]
    columns = effect, covariance, size, sign, null, experiment, pooled
    return History(
        *map(jnp.asarray, columns),
        names=tuple(names),
        north_star=list(names).index(north_star),
        halves=None if half is None else jnp.asarray(half),
    )


def _pairs(arms, names, correlation, complain):
    """The number, the names (experiment, arm) and the `Difference` of each treated arm."""
    pairs = [
        (i, (name, arm), pair)
        for i, (name, some) in enumerate(grouped(arms).items())
        for arm, pair in differences(name, some, names, correlation, complain)
    ]
    found = len({pair[0] for pair in pairs})
    if found < 2:
        raise ValueError(
            f"{arms[0][0] if arms else 'table'}: expected at least two experiments, got {found}; a"
            " metric learnt from one cannot be checked"
        )
    return zip(*pairs, strict=True)


def doubt(
    keys: Iterable[tuple[str, str]],
    pairs: Sequence[Difference],
    names: Sequence[str],
    remark: Complain,
) -> None:
    """A remark on the arms, by experiment and arm, that are further apart than arms are."""
    far = [
        f"experiment {name!r}, arm {arm!r}, metric {names[i]!r} ({pair.apart[i]:.2g})"
        for (name, arm), pair in zip(keys, pairs, strict=True)
        for i in np.flatnonzero(pair.apart > DOUBT).tolist()
    ]
    if far:
        remark(
            f"arms differ by more than {DOUBT:g} standard deviation of a user, as by another unit"
            f" in one of them, or by variances of means for those of users: {first_few(far)}"
        )


def first_few(names: Sequence[str], separator: str = ", ") -> str:
    """The first of them, and how many others."""
    more = f" and {len(names) - SAID} others" if len(names) > SAID else ""
    return separator.join(names[:SAID]) + more


def _check_units(path, keys, pairs, names):
    """ValueError for an experiment whose metric is in other units than in at least half of them."""
    sides = [(pair.base, np.diagonal(pair.user_covariance), pair.size) for pair in pairs]
    mean, variance, size = map(np.array, zip(*sides, strict=True))
    middle = np.argsort(variance, axis=0)[(len(pairs) - 1) // 2]
    each = np.arange(len(names))
    usual = mean[middle, each], variance[middle, each], size[middle]
    for side, (name, arm) in zip(sides, keys, strict=True):
        with within(f"{path}: experiment {name!r}, arm {arm!r}", ", or --standardise"):
            _one_unit(side, usual, names, "half of the experiments or more", TESTS)


def _unknown(names):
    return np.full((2, len(names)), np.nan)


# One experiment.


def differences(
    name: str,
    arms: Sequence[tuple[Path, Arm]],
    names: Sequence[str],
    correlation: Square | None = None,
    complain: Complain = refuse,
) -> Iterator[tuple[str, Difference]]:
    """Each treated arm of the experiment `name`, and its difference to the control."""
    path = arms[0][0]
    with told(complain):
        with within(f"{path}: experiment {name!r}"):
            control = _control([arm for _, arm in arms])
        base = _moments(path, control, names, correlation)
        for path, arm in (part for part in arms if part[1] is not control):
            with told(complain):
                moments = _moments(path, arm, names, correlation)
                where = f"{path}: experiment {name!r}, arm {str(arm.arm)!r}"
                yield str(arm.arm), _difference(moments, base, arm.label, where, names)


def _control(arms):
    labels = [str(arm.arm) for arm in arms]
    if len(set(labels)) < len(labels):
        raise ValueError(f"expected each arm once, got {', '.join(labels)}; merge the rows")
    controls = [arm for arm in arms if arm.label == "control"]
    if len(controls) != 1 or len(arms) == 1:
        raise ValueError(
            f"expected one control and at least one other arm, got {len(controls)} control and"
            f" {len(arms) - len(controls)} other ({', '.join(labels)}); add the missing arm or drop"
            " the experiment"
        )
    return controls[0]


def _difference(treatment, control, label, where, names):
    (mean_t, cov_t, n_t), (mean_c, cov_c, n_c) = treatment, control
    size = 1 / (1 / n_t + 1 / n_c)
    with np.errstate(over="ignore", invalid="ignore"):
        users = (n_t * cov_t + n_c * cov_c) / (n_t + n_c)
        made = mean_t - mean_c, cov_t / n_t + cov_c / n_c, size
        fits = (*made, users, np.square(made[0]) / np.diagonal(made[1]))
    if not all(np.isfinite(part).all() for part in fits):
        raise ValueError(
            f"{where}: expected numbers whose sums can be computed, got some beyond 1e308; use"
            " larger units"
        )
    sides = (mean_t, np.diagonal(cov_t), n_t), (mean_c, np.diagonal(cov_c), n_c)
    with within(where):
        _one_unit(*sides, names, "the control", ARMS)
        _near(*sides, names)
    smaller = np.sqrt(np.minimum(sides[0][1], sides[1][1]))
    apart = np.abs(made[0]) / smaller
    return Difference(*made, SIGNS[label], label == "aa", users, mean_c, apart)


def _one_unit(side, other, names, whose, most):
    """ValueError for the metric that is in another unit than in the `other` side, as cents and
    euros; a side is means, variances and users.

    A unit multiplies the standard deviation, and the mean by as much: then `most` times are enough.
    """
    ratio = np.sqrt(side[1] / other[1])
    score, theirs = (mean / np.sqrt(variance) for mean, variance, _ in (side, other))
    alike = (score * theirs > 0) & (np.abs(score) < 2 * np.abs(theirs))
    alike &= np.abs(theirs) < 2 * np.abs(score)
    for mean, variance, n in (side, other):
        alike &= np.abs(mean) > KNOWN * np.sqrt(variance / n)
    beyond = np.abs(np.log(ratio)) / np.log(np.where(alike, most, UNIT))
    i = int(np.argmax(beyond))
    if beyond[i] >= 1:
        raise ValueError(
            f"metric {names[i]!r}: expected the unit of {whose}, got a standard deviation"
            f" {ratio[i]:.2g} times as large; bring all to one unit"
        )


def _near(side, control, names):
    """ValueError for the metric whose mean alone is in another unit than that of the control."""
    spread = np.sqrt(np.maximum(side[1], control[1]))
    apart = np.abs(side[0] - control[0]) / spread
    i = int(np.argmax(apart))
    if apart[i] > APART:
        raise ValueError(
            f"metric {names[i]!r}: expected the unit of the control, got a mean of"
            f" {side[0][i]:.4g} and in the control {control[0][i]:.4g}, {apart[i]:.3g} standard"
            " deviations of a user apart; bring means and variances (over users) of both to one"
            " unit"
        )


def nulls(arms: Sequence[tuple[Path, Arm]]) -> Float[np.ndarray, "m k"]:
    """z-scores of A/A differences, metric by metric, of arms that have variances."""
    found = []
    for some in grouped(arms).values():
        controls = [arm for _, arm in some if arm.label == "control" and arm.variances]
        for _, arm in some:
            if arm.label == "aa" and arm.variances and len(controls) == 1:
                sides = [(np.array(x.means), np.array(x.variances) / x.n) for x in (arm, *controls)]
                found.append((sides[0][0] - sides[1][0]) / np.sqrt(sides[0][1] + sides[1][1]))
    return np.array(found) if found else np.zeros((0, len(arms[0][1].means)))


def _moments(path, arm, names, correlation):
    """Mean (k,), covariance (k, k) over users, n; the covariance must be positive definite."""
    where = f"{path}: experiment {str(arm.experiment)!r}, arm {str(arm.arm)!r}"
    mean = np.array(arm.means)
    with within(where):
        if arm.covariance is not None:
            matrix = _square(arm.covariance, len(names), "covariance")
        elif arm.second_moment is not None:
            second = _square(arm.second_moment, len(names), "second_moment")
            with np.errstate(over="ignore", invalid="ignore"):
                matrix = (second - np.outer(mean, mean)) * arm.n / (arm.n - 1)
        elif arm.variances is not None and correlation is not None:
            deviation = np.sqrt(arm.variances)
            matrix = correlation * np.outer(deviation, deviation)
        else:
            raise ValueError(
                "expected covariance or second_moment, or a variance or std_error of each metric,"
                " got none; export one of them"
            )
        return mean, _positive(matrix, names), arm.n


def _square(numbers, k, column):
    """K lists, or K² numbers by row."""
    if numbers.shape not in ((k, k), (k * k,)):
        raise ValueError(
            f"{column}: expected {k} × {k} = {k * k} numbers, one row and column a metric,"
            f" got {numbers.size}"
        )
    return numbers.reshape(k, k)


def determined(correlation: Square, names: Sequence[str]) -> str:
    """The metrics that have a part in the direction without variance."""
    part = np.abs(np.linalg.eigh(correlation)[1][:, 0])
    return ", ".join(name for name, x in zip(names, part, strict=True) if x > _PART)


def _positive(matrix, names):
    if not np.isfinite(matrix).all():
        raise ValueError("expected a finite covariance, got none; use larger units")
    variance = np.diagonal(matrix)
    if not (variance > 0).all():
        bad = names[int(np.argmin(variance > 0))]
        raise ValueError(
            f"metric {bad!r}: expected a variance > 0, got {np.min(variance):.4g}; drop the metric"
        )
    deviation = np.sqrt(variance)
    correlation = matrix / np.outer(deviation, deviation)
    if np.abs(correlation - correlation.T).max() > 1e-6:
        raise ValueError("expected a symmetric covariance; check the order of its rows and columns")
    smallest = np.linalg.eigvalsh(correlation)[0]
    if smallest <= _ROUNDING:
        raise ValueError(
            f"expected a positive definite covariance, got one whose correlations have"
            f" smallest eigenvalue {smallest:.3g}: {determined(correlation, names)} determine one"
            " another, as a sum its parts; drop one of them"
        )
    return matrix / 2 + matrix.T / 2

"""The table of past experiments in, the learnt metric out and in again. `metrics` documents the
table's columns.

Every complaint is a one-line ValueError: file, experiment and arm, what was expected, the remedy.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float
from msgspec import Meta

from mopl_jax.io.documents import ABSENT, Number, Numbers, fit, load
from mopl_jax.io.files import write_atomically, write_json
from mopl_jax.io.policy_json import finite
from mopl_jax.io.refusals import within
from mopl_jax.io.storage import write_table
from mopl_jax.metrics.objectives import History
from mopl_jax.numerics.check import choose

SIGNS = {"winner": 1.0, "loser": -1.0, "aa": 0.0, "unknown": 0.0}
VERSION = 1
_PREFIX = "mean_"
MISMATCH = 1e-4  # of a split of one half: the level at which platforms are alarmed is 1e-3
ABOUT = ("experiment", "arm", "label", "n")
_ROUNDING = 1e-10  # of the largest eigenvalue of the correlations: less is not positive

Row = Mapping[str, Any]


class Arm(msgspec.Struct):
    """A row of the table.

    `experiment`, `arm`: their names.
    `label`: what is known of the arm.
    `n`: its users.
    `means`: of the metrics over them.
    `covariance`: of the metrics over them.
    `second_moment`: the mean of x xᵀ, instead of the covariance.
    """

    experiment: Any
    arm: Any
    label: Literal["control", "winner", "loser", "aa", "unknown"]
    n: Annotated[float, Meta(ge=2, le=sys.float_info.max)]
    means: list[Number]
    covariance: Numbers = ABSENT
    second_moment: Numbers = ABSENT


def row(
    experiment: str,
    arm: str,
    label: str,
    n: int,
    means: Mapping[str, float],
    covariance: Float[np.ndarray, "k k"],
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


def read(paths: Iterable[Path], north_star: str) -> History:
    """The history in one or more files with the same metrics; ValueError for what cannot be learnt
    from.
    """
    return history(*read_arms(paths, north_star), north_star)


def read_arms(
    paths: Iterable[Path], north_star: str
) -> tuple[list[tuple[Path, Arm]], tuple[str, ...]]:
    """The arms in one or more files, each with its file, and the metrics, which are the same in
    all; ValueError for rows that are not of such a table.
    """
    tables = [(Path(path), _rows(Path(path))) for path in paths]
    first, rows = tables[0]
    names = _metrics(rows[0])
    absent = [column for column in ABOUT if column not in rows[0]]
    if absent:
        raise ValueError(
            f"{first}: no column {', '.join(map(repr, absent))}; columns:"
            f" {', '.join(map(str, rows[0]))}; a row is one arm of one experiment, with"
            f" {', '.join(ABOUT)}, mean_NAME of each metric and covariance"
        )
    if not names:
        raise ValueError(
            f"{first}: expected columns mean_NAME, one for each metric, got"
            f" {', '.join(map(str, rows[0]))}"
        )
    choose([north_star], dict.fromkeys(names), f"North Star in {first}")
    return [arm for table in tables for arm in _arms(*table, names)], tuple(names)


def mismatches(arms: Sequence[tuple[Path, Arm]]) -> list[str]:
    """Experiments whose arms have nearly, but not by chance, as many users, a phrase each.

    Between half and twice the control's users a split of one half was meant, most likely; then the
    difference of the two is n^½ Z, and `MISMATCH` its p-value.
    """
    controls = {str(arm.experiment): arm for _, arm in arms if arm.label == "control"}
    found = []
    for _, arm in arms:
        control = controls.get(str(arm.experiment))
        if control is None or arm.label == "control" or not 0.5 < arm.n / control.n < 2:
            continue
        p_value = math.erfc(abs(arm.n - control.n) / math.sqrt(2 * (arm.n + control.n)))
        if p_value < MISMATCH:
            found.append(f"{arm.experiment} ({control.n:,.0f} and {arm.n:,.0f})")
    return found


def _arms(path, rows, names):
    for number, row in enumerate(rows, 1):
        with within(f"{path}: row {number}", "; fill it in or drop the row"):
            arm = arm_of(row, names)
        yield path, arm


def arm_of(row: Row, names: Sequence[str]) -> Arm:
    """A row of the table with the metrics `names`; ValueError for entries that do not fit."""
    got = _metrics(row)
    if got != list(names):
        odd = sorted(set(got) ^ set(names))
        what = f"only one of the two has {', '.join(odd)}" if odd else "their order differs"
        raise ValueError(f"expected the metrics {', '.join(names)}, got {', '.join(got)}: {what}")
    for name in names:
        with within(_PREFIX + name):
            fit(row[_PREFIX + name], Number)
    given = {key: value for key, value in row.items() if value is not None}
    if "covariance" in given:
        given.pop("second_moment", None)
    return fit(given | {"means": [row[_PREFIX + name] for name in names]}, Arm)


def _metrics(row):
    return [column.removeprefix(_PREFIX) for column in row if column.startswith(_PREFIX)]


def history(arms: Sequence[tuple[Path, Arm]], names: Sequence[str], north_star: str) -> History:
    """Differences treatment − control of the arms, each with the file it came from."""
    experiments: dict[str, list[tuple[Path, Arm]]] = {}
    for path, arm in arms:
        experiments.setdefault(str(arm.experiment), []).append((path, arm))
    pairs = [
        (i, *pair)
        for i, (name, some) in enumerate(experiments.items())
        for pair in _pairs(name, some, names)
    ]
    if len(experiments) < 2:
        raise ValueError(
            f"{arms[0][0]}: expected at least two experiments, got {len(experiments)}; a metric"
            " learnt from one cannot be checked"
        )
    columns = [jnp.asarray(np.array(column)) for column in zip(*pairs, strict=True)]
    index, effect, covariance, size, sign, null, users = columns
    pooled = jnp.einsum("e,eij->ij", size / size.sum(), users)
    north = list(names).index(north_star)
    return History(effect, covariance, size, sign, null, index, pooled, tuple(names), north)


# One experiment.


def _pairs(name, arms, names):
    """(Δ, S, size, sign, A/A, covariance over users) of each treated arm against the control."""
    path = arms[0][0]
    with within(f"{path}: experiment {name!r}"):
        labels = [str(arm.arm) for _, arm in arms]
        if len(set(labels)) < len(labels):
            raise ValueError(f"expected each arm once, got {', '.join(labels)}; merge the rows")
        controls = [part for part in arms if part[1].label == "control"]
        treated = [part for part in arms if part[1].label != "control"]
        if len(controls) != 1 or not treated:
            raise ValueError(
                f"expected one control and at least one other arm, got {len(controls)} control and"
                f" {len(treated)} other; add the missing arm or drop the experiment"
            )
    path, arm = controls[0]
    control = _moments(path, arm, names)
    for path, arm in treated:
        with np.errstate(over="ignore", invalid="ignore"):
            made = _difference(_moments(path, arm, names), control, arm.label)
        if not all(np.isfinite(part).all() for part in made):
            raise ValueError(
                f"{path}: experiment {name!r}: expected numbers whose sums can be computed, got"
                " some beyond 1e308; use larger units"
            )
        yield made


def _difference(treatment, control, label):
    (mean_t, cov_t, n_t), (mean_c, cov_c, n_c) = treatment, control
    size = 1 / (1 / n_t + 1 / n_c)
    users = (n_t * cov_t + n_c * cov_c) / (n_t + n_c)
    return mean_t - mean_c, cov_t / n_t + cov_c / n_c, size, SIGNS[label], label == "aa", users


def _moments(path, arm, names):
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
        else:
            raise ValueError(
                "expected covariance or second_moment, got neither; export one of them"
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
            f" smallest eigenvalue {smallest:.3g}; drop a metric that the others determine"
        )
    return matrix / 2 + matrix.T / 2


# The file.


def _rows(path):
    if path.suffix.lower() == ".json":
        rows = load(path, json.loads, "not valid JSON ({}); export the file again")
    elif path.suffix.lower() in (".parquet", ".pq"):
        rows = _parquet_rows(path)
    else:
        raise ValueError(
            f"{path}: expected a file ending in .parquet or .json, got {path.suffix!r}; convert it"
        )
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) for r in rows):
        raise ValueError(
            f"{path}: expected a list of rows, one for each experiment and arm, got none; see the"
            " columns"
        )
    return rows


def _parquet_rows(path):
    try:
        return pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        words = str(getattr(error, "strerror", None) or error).splitlines()[0][:160]
        raise ValueError(
            f"{path}: cannot be read ({words}); check the path and the format"
        ) from None


# The learnt metric.


class Metric(msgspec.Struct):
    """What is read back of a stored metric: names, and a weight for each."""

    metrics: list[str]
    weights: list[Number]


def write_metric(
    path: Path, names: Sequence[str], weights: Float[np.ndarray, " k"], about: Mapping[str, Any]
) -> Path:
    """A JSON document: metric names, weights, and whatever `about` says (objective, validation,
    provenance).
    """
    document = {"mopl_metric": VERSION, "metrics": list(names), "weights": weights, **about}
    return write_json(path, finite(document))


def read_metric(
    path: Path, names: Sequence[str] | None = None
) -> tuple[tuple[str, ...], Float[np.ndarray, " k"]]:
    """Metric names and weights of a stored metric, in the order of `names` where given; ValueError
    if they differ.
    """
    refusal = "cannot be read as JSON ({}); learn it again with mopl metric"
    document = load(path, json.loads, refusal)
    if not isinstance(document, dict) or document.get("mopl_metric") != VERSION:
        raise ValueError(
            f"{path}: expected a learnt metric of format {VERSION}, got another document; see mopl"
            " metric"
        )
    with within(str(path), "; learn it again"):
        metric = fit(document, Metric)
        if not 0 < len(metric.metrics) == len(metric.weights):
            raise ValueError("expected as many finite weights as metrics, at least one")
    wanted = tuple(metric.metrics if names is None else names)
    if set(wanted) != set(metric.metrics):
        odd = sorted(set(wanted) ^ set(metric.metrics))
        raise ValueError(
            f"{path}: metrics differ from the signals: only one of the two has {', '.join(odd)}"
        )
    by_name = dict(zip(metric.metrics, metric.weights, strict=True))
    return wanted, np.array([by_name[name] for name in wanted], float)

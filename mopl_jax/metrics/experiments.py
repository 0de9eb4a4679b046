"""The table of past experiments in, the learnt metric out and in again. `metrics` documents the
table's columns.

Every complaint is a one-line ValueError: file, experiment and arm, what was expected, the remedy.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from mopl_jax.io.files import write_atomically
from mopl_jax.io.policy_json import finite
from mopl_jax.metrics.objectives import History
from mopl_jax.numerics.check import choose

SIGNS = {"winner": 1.0, "loser": -1.0, "aa": 0.0, "unknown": 0.0}
VERSION = 1
_PREFIX = "mean_"
_REQUIRED = ("experiment", "arm", "label", "n")
_ROUNDING = 1e-10  # of the largest eigenvalue of the correlations: less is not positive

Row = Mapping[str, Any]


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
    if path.suffix == ".json":
        return write_atomically(
            path, lambda temporary: temporary.write_text(json.dumps([dict(r) for r in rows]))
        )
    table = pa.Table.from_pylist([dict(r) for r in rows])
    return write_atomically(
        path, lambda temporary: pq.write_table(table, temporary, compression="zstd")
    )


def read(paths: Iterable[Path], north_star: str) -> History:
    """The history in one or more files with the same metrics; ValueError for what cannot be learnt
    from.
    """
    tables = [(Path(path), _rows(Path(path))) for path in paths]
    names = _metrics(*tables[0])
    for path, rows in tables:
        _check_rows(path, rows, names)
    choose([north_star], dict.fromkeys(names), f"North Star in {tables[0][0]}")
    return history([(path, r) for path, rows in tables for r in rows], names, north_star)


def history(rows: Sequence[tuple[Path, Row]], names: Sequence[str], north_star: str) -> History:
    """Differences treatment − control of checked rows, each with the file it came from."""
    arms: dict[str, list[tuple[Path, Row]]] = {}
    for path, r in rows:
        arms.setdefault(str(r["experiment"]), []).append((path, r))
    pairs = [
        (i, *pair)
        for i, (name, some) in enumerate(arms.items())
        for pair in _pairs(name, some, names)
    ]
    if len(arms) < 2:
        raise ValueError(
            f"{rows[0][0]}: expected at least two experiments, got {len(arms)}; a metric learnt"
            " from one cannot be checked"
        )
    columns = [jnp.asarray(np.array(column)) for column in zip(*pairs, strict=True)]
    index, effect, covariance, size, sign, null, users = columns
    pooled = jnp.einsum("e,eij->ij", size / size.sum(), users)
    return History(
        effect,
        covariance,
        size,
        sign,
        null,
        index,
        pooled,
        tuple(names),
        list(names).index(north_star),
    )


# One experiment.


def _pairs(name, rows, names):
    """(Δ, S, size, sign, A/A, covariance over users) of each treated arm against the control."""
    path = rows[0][0]
    arms = [str(r["arm"]) for _, r in rows]
    if len(set(arms)) < len(arms):
        raise ValueError(
            f"{path}: experiment {name!r}: expected each arm once, got {', '.join(arms)}; merge the"
            " rows"
        )
    controls = [r for _, r in rows if r["label"] == "control"]
    treated = [(p, r) for p, r in rows if r["label"] != "control"]
    if len(controls) != 1 or not treated:
        raise ValueError(
            f"{path}: experiment {name!r}: expected one control and at least one other arm, got"
            f" {len(controls)} control and {len(treated)} other; add the missing arm or drop the"
            " experiment"
        )
    control = _moments(path, controls[0], names)
    for p, r in treated:
        yield _difference(_moments(p, r, names), control, r["label"])


def _difference(treatment, control, label):
    (mean_t, cov_t, n_t), (mean_c, cov_c, n_c) = treatment, control
    size = 1 / (1 / n_t + 1 / n_c)
    users = (n_t * cov_t + n_c * cov_c) / (n_t + n_c)
    return mean_t - mean_c, cov_t / n_t + cov_c / n_c, size, SIGNS[label], label == "aa", users


def _moments(path, r, names):
    """Mean (k,), covariance (k, k) over users, n; the covariance must be positive definite."""
    where = f"{path}: experiment {str(r['experiment'])!r}, arm {str(r['arm'])!r}"
    n, k = _number(r["n"], where, "n"), len(names)
    if n < 2:
        raise ValueError(f"{where}: expected n ≥ 2 users, got {n:g}; drop the arm")
    mean = np.array([_number(r[_PREFIX + name], where, _PREFIX + name) for name in names])
    if r.get("covariance") is not None:
        matrix = _matrix(r["covariance"], k, where, "covariance")
    elif r.get("second_moment") is not None:
        matrix = (
            (_matrix(r["second_moment"], k, where, "second_moment") - np.outer(mean, mean))
            * n
            / (n - 1)
        )
    else:
        raise ValueError(
            f"{where}: expected covariance or second_moment, got neither; export one of them"
        )
    return mean, _positive(matrix, where, names), n


def _matrix(value, k, where, column):
    try:
        flat = np.array(
            [x for part in value for x in (part if isinstance(part, list | tuple) else [part])],
            float,
        )
    except (TypeError, ValueError):
        raise ValueError(
            f"{where}: {column}: expected {k} × {k} numbers, got {str(value)[:60]}; export it again"
        ) from None
    if flat.size != k * k:
        raise ValueError(
            f"{where}: {column}: expected {k} × {k} = {k * k} numbers, one row and column a metric,"
            f" got {flat.size}"
        )
    if not np.isfinite(flat).all():
        raise ValueError(
            f"{where}: {column}: expected finite numbers, got {flat[~np.isfinite(flat)][0]}; drop"
            " the arm"
        )
    return flat.reshape(k, k)


def _positive(matrix, where, names):
    variance = np.diagonal(matrix)
    if (variance <= 0).any():
        bad = names[int(np.argmin(variance))]
        raise ValueError(
            f"{where}: metric {bad!r}: expected a variance > 0, got {variance.min():.4g}; drop the"
            " metric"
        )
    correlation = matrix / np.sqrt(np.outer(variance, variance))
    if np.abs(correlation - correlation.T).max() > 1e-6:
        raise ValueError(
            f"{where}: expected a symmetric covariance; check the order of its rows and columns"
        )
    smallest = np.linalg.eigvalsh(correlation)[0]
    if smallest <= _ROUNDING:
        raise ValueError(
            f"{where}: expected a positive definite covariance, got one whose correlations have"
            f" smallest eigenvalue {smallest:.3g}; drop a metric that the others determine"
        )
    return (matrix + matrix.T) / 2


def _number(value, where, column):
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(
            f"{where}: {column}: expected a finite number, got {value!r}; fill it in or drop"
            " the arm"
        )
    return float(value)


# The file.


def _rows(path: Path) -> list[Row]:
    try:
        if path.suffix.lower() == ".json":
            rows = json.loads(path.read_text())
        elif path.suffix.lower() in (".parquet", ".pq"):
            rows = pq.read_table(path).to_pylist()
        else:
            raise ValueError(
                f"{path}: expected a file ending in .parquet or .json, got {path.suffix!r};"
                " convert it"
            )
    except (OSError, pa.ArrowException) as error:
        words = str(getattr(error, "strerror", None) or error).splitlines()[0][:160]
        raise ValueError(
            f"{path}: cannot be read ({words}); check the path and the format"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: not valid JSON ({str(error)[:100]}); export the file again"
        ) from None
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) for r in rows):
        raise ValueError(
            f"{path}: expected a list of rows, one for each experiment and arm, got none; see the"
            " columns"
        )
    return rows


def _metrics(path, rows):
    names = [column.removeprefix(_PREFIX) for column in rows[0] if column.startswith(_PREFIX)]
    if not names:
        raise ValueError(
            f"{path}: expected columns mean_NAME, one for each metric, got"
            f" {', '.join(map(str, rows[0]))}"
        )
    return names


def _check_rows(path, rows, names):
    for number, r in enumerate(rows, 1):
        if missing := [column for column in _REQUIRED if r.get(column) is None]:
            raise ValueError(
                f"{path}: row {number}: expected a {missing[0]!r}, got none; fill it in or drop"
                " the row"
            )
        got = [column.removeprefix(_PREFIX) for column in r if column.startswith(_PREFIX)]
        if got != list(names):
            odd = sorted(set(got) ^ set(names))
            what = f"only one of the two has {', '.join(odd)}" if odd else "their order differs"
            raise ValueError(
                f"{path}: row {number}: expected the metrics {', '.join(names)}, got"
                f" {', '.join(got)}: {what}"
            )
        choose([r["label"]], {"control": 0, **SIGNS}, f"label in {path}, row {number}")


# The learnt metric.


def write_metric(
    path: Path, names: Sequence[str], weights: Float[np.ndarray, " k"], about: Mapping[str, Any]
) -> Path:
    """A JSON document: metric names, weights, and whatever `about` says (objective, validation,
    provenance).
    """
    document = {"mopl_metric": VERSION, "metrics": list(names), "weights": weights, **about}
    text = json.dumps(finite(document), indent=1, allow_nan=False, default=str) + "\n"
    return write_atomically(path, lambda temporary: temporary.write_text(text))


def read_metric(
    path: Path, names: Sequence[str] | None = None
) -> tuple[tuple[str, ...], Float[np.ndarray, " k"]]:
    """Metric names and weights of a stored metric, in the order of `names` where given; ValueError
    if they differ.
    """
    try:
        document = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read as JSON ({str(error)[:100]}); learn it again with mopl metric"
        ) from None
    if not isinstance(document, dict) or document.get("mopl_metric") != VERSION:
        raise ValueError(
            f"{path}: expected a learnt metric of format {VERSION}, got another document; see mopl"
            " metric"
        )
    stored, weights = document.get("metrics", []), document.get("weights", [])
    numbers = all(isinstance(w, int | float) and np.isfinite(w) for w in weights)
    if not stored or len(stored) != len(weights) or not numbers:
        raise ValueError(
            f"{path}: expected as many finite weights as metrics, at least one; learn it again"
        )
    by_name = dict(zip(stored, weights, strict=True))
    wanted = tuple(stored if names is None else names)
    if set(wanted) != set(stored):
        odd = sorted(set(wanted) ^ set(stored))
        raise ValueError(
            f"{path}: metrics differ from the signals: only one of the two has {', '.join(odd)}"
        )
    return wanted, np.array([by_name[name] for name in wanted], float)

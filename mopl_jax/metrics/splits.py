"""User splits: an arm in several folds of its users, which do not overlap."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mopl_jax.io.documents import Number
from mopl_jax.io.refusals import within
from mopl_jax.metrics.experiments import number
from mopl_jax.metrics.scorecards import USERS, Row

Rows = list[tuple[Path, Row]]
Halves = dict[tuple[str, str], Float[np.ndarray, "2 k"]]


def whole(rows: Rows, names: Sequence[str]) -> Rows:
    """A row for each arm, of all its folds; rows without `fold` as they are.

    σ² of all users is that within folds and between their means. ValueError for a fold that comes
    twice, or one without variances.
    """
    return [(path, _pooled(path, some, names)) for path, some in _by_arm(rows)]


def halves(rows: Rows, names: Sequence[str]) -> Halves:
    """The difference to the control of each arm, by name, among every other fold and the rest."""
    means: dict[str, dict[str, Any]] = {}
    for path, some in _by_arm(rows):
        if len(some) > 1:
            parts = [_pooled(path, some[i::2], names) for i in range(2)]
            values = np.array([[part[f"mean_{name}"] for name in names] for part in parts], float)
            first = some[0]
            label = "" if first.get("label") == "control" else str(first.get("arm"))
            means.setdefault(str(first.get("experiment")), {})[label] = values
    return {
        (experiment, arm): values - arms[""]
        for experiment, arms in means.items()
        for arm, values in arms.items()
        if arm and "" in arms
    }


def _by_arm(rows):
    arms: dict[tuple, tuple[Path, list[Row]]] = {}
    for i, (path, row) in enumerate(rows):
        split = row.get("fold") is not None
        key = tuple(str(row.get(name)) for name in ("experiment", "arm", "time"))
        arms.setdefault(key if split else (i,), (path, []))[1].append(row)
    return arms.values()


def _pooled(path, rows, names) -> Row:
    first = rows[0]
    if first.get("fold") is None:
        return first
    folds = [str(row["fold"]) for row in rows]
    place = f"{path}: experiment {str(first.get('experiment'))!r}, arm {str(first.get('arm'))!r}"
    with within(place):
        if len(set(folds)) < len(folds):
            raise ValueError(f"expected each fold once, got {', '.join(folds)}; merge the rows")
        n = np.array([_read(row, "n") for row in rows])
        means, variances = (
            np.array([[_read(row, f"{kind}_{name}") for name in names] for row in rows])
            for kind in ("mean", "variance")
        )
        share = (n / n.sum())[:, None]
    mean = (share * means).sum(axis=0)
    variance = (share * (variances + np.square(means - mean))).sum(axis=0)
    found = {key: value for key, value in first.items() if key not in ("fold", "row", USERS)}
    for i, name in enumerate(names):
        found |= {f"mean_{name}": float(mean[i]), f"variance_{name}": float(variance[i])}
    if isinstance(first.get(USERS), dict):
        found[USERS] = {name: sum(row[USERS].get(name, 0) for row in rows) for name in first[USERS]}
    return found | {"n": float(n.sum())}


def _read(row, key):
    with within(f"fold {str(row['fold'])!r}: {key}", "; fill it in or drop the arm"):
        value = number(row.get(key), Number)
        if key == "n" and value <= 0:
            raise ValueError(f"expected users, got {value:g}")
        return value

"""A learnt metric as JSON: names, weights, and what is known of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Float

from mopl_jax.io.documents import Number, fit, load, numbered
from mopl_jax.io.files import finite, write_json
from mopl_jax.io.refusals import short, within

VERSION = 1


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


def is_metric(path: Path) -> bool:
    """Whether a JSON file says that it is a learnt metric."""
    if path.suffix.lower() != ".json":
        return False
    document = load(path, numbered, "not valid JSON ({}); export the file again")
    return isinstance(document, dict) and "mopl_metric" in document


def north_star_of(path: Path) -> str:
    """The metric that a stored one stands for; ValueError where it does not say so."""
    found = json.loads(path.read_text(encoding="utf-8")).get("north_star")
    if not isinstance(found, str):
        raise ValueError(
            f"{path}: key 'north_star': expected a name, got {short(found)}; learn it again"
        )
    return found


def has_correlation(path: Path) -> bool:
    """Whether a stored metric says how its metrics correlate over users."""
    return json.loads(path.read_text(encoding="utf-8")).get("user_correlation") is not None


def read_metric(
    path: Path, names: Sequence[str] | None = None
) -> tuple[tuple[str, ...], Float[np.ndarray, " k"]]:
    """Metric names and weights of a stored metric, in the order of `names` where given; ValueError
    if they differ.
    """
    refusal = "cannot be read as JSON ({}); learn it again with mopl metric"
    document = load(path, numbered, refusal)
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

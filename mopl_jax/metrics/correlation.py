"""One correlation of the metrics over users, for tables that have variances alone.

From the best there is: a file, A/A tests, what came between snapshots. Without any the metrics
count as independent, which flatters whatever combines them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from mopl_jax.io.columns import Place, numbers
from mopl_jax.io.documents import load, numbered
from mopl_jax.io.refusals import within
from mopl_jax.io.sources import open_source
from mopl_jax.metrics.experiments import Square
from mopl_jax.metrics.snapshots import Looks, increments, thinned

FEWEST = 10  # A/A tests, or increments, a metric: the error of a correlation is then 0.2 at most
# Snapshots have noise of their own that the next ones take back: of the increments of real tests
# (ASOS), those of half a day spread 1.2 to 1.5 times as far as users make them and correlate 0.14
# to 0.33, those of quarters of a test 1.0 times and 0.35 to 0.58. Quarters, where they are enough.
PARTS = (4, 8, 16, 32, None)
Scores = Float[np.ndarray, "m k"]


class SharedCorrelation(NamedTuple):
    """A correlation, where it comes from, in words, and whether it is a guess."""

    matrix: Square
    source: str
    guess: bool = False


INDEPENDENT = (
    "covariances between metrics are not known and count as zero: combinations of metrics that move"
    " together are then far less certain than is said here (on 60 real tests, of metrics that"
    " correlate 0.34 to 0.55 over users, factors on the North Star came out 1.5 to 1.7 times too"
    " large), and only A/A tests would show it; give --correlation"
)


def shared(
    given: Path | str | None, names: Sequence[str], nulls: Scores, looks: Sequence[Looks]
) -> SharedCorrelation:
    """The correlation that is `given` by a name or a file, or the best that the table has.

    `nulls`: z-scores of A/A differences; `looks`: snapshots of tests.
    """
    moved = _moved(looks, len(names))
    if given is None:
        enough = [len(some) >= FEWEST * len(names) for some in (nulls, moved)]
        given = "nulls" if enough[0] else "increments" if enough[1] else "independent"
    if given == "independent":
        return SharedCorrelation(np.eye(len(names)), INDEPENDENT, guess=True)
    if given == "nulls":
        words = f"correlation of the metrics from {len(nulls)} A/A differences"
        return SharedCorrelation(_of_scores(nulls, "A/A differences"), words)
    if given == "increments":
        return _of_increments(moved, len(looks))
    return SharedCorrelation(
        _of_file(Path(given), names), f"correlation of the metrics from {given}"
    )


def _moved(looks, k) -> Scores:
    """Increments between snapshots, of parts of the tests as large as give enough of them."""
    moved = np.zeros((0, k))
    for parts in PARTS:
        steps = [increments(thinned(each, parts))[0] for each in looks]
        moved = np.concatenate([np.zeros((0, k)), *steps])
        if len(moved) >= FEWEST * k:
            break
    return moved


def _of_increments(moved, tests):
    """Each increment counts by 1/(1 + its mean square): a spike of the telemetry says little."""
    spread = float(np.median(np.abs(moved))) / stats.norm.ppf(0.75) if len(moved) else 0.0
    calm = moved / np.sqrt(1 + np.mean(np.square(moved), axis=1, keepdims=True))
    words = (
        f"correlation of the metrics from {len(moved)} increments between snapshots of {tests}"
        f" treatments, which spread {spread:.2f} times as far as users alone would make them: what"
        " is beyond 1.00 are effects that changed and users who came back"
    )
    return SharedCorrelation(_of_scores(calm, "increments between snapshots"), words)


def _of_scores(scores, what):
    """Second moments over their roots, drawn to none as far as their number calls for."""
    m, k = scores.shape
    if m < max(FEWEST, k + 1):
        raise ValueError(
            f"--correlation: expected at least {max(FEWEST, k + 1)} {what}, got {m}; name another"
            " source, or independent"
        )
    moments = scores.T @ scores
    spread = np.sqrt(np.diagonal(moments))
    spread = np.where(spread > 0, spread, 1)  # what never moved goes along with nothing
    found = moments / np.outer(spread, spread)
    off = ~np.eye(k, dtype=bool)
    error = np.sum(np.square(1 - np.square(found[off]))) / m
    share = min(1.0, error / max(np.sum(np.square(found[off])), np.finfo(float).tiny))
    return np.where(off, (1 - share) * found, 1.0)


def _of_file(path, names):
    """Of users, a row each, with a column a metric; or JSON with `metrics` and `correlation`, or a
    stored metric.
    """
    stored = path.suffix.lower() == ".json"
    said = (
        load(path, numbered, "not valid JSON ({}); export the file again")
        if stored
        else open_source(path)
    )
    with within(f"--correlation {path}"):
        matrix = (_stored if stored else _sampled)(said, names)
        if np.linalg.eigvalsh(matrix)[0] <= 1e-10:
            raise ValueError("expected a positive definite matrix; drop a metric that others make")
    return matrix


def _stored(said, names):
    try:
        given = [str(name) for name in said["metrics"]]
        matrix = np.array(said.get("user_correlation", said.get("correlation")), float)
        order = [given.index(name) for name in names]
    except (AttributeError, KeyError, TypeError, ValueError):
        order, matrix, given = [], np.zeros(0), []
    if matrix.shape != (len(given), len(given)) or not order:
        raise ValueError(
            f'expected {{"metrics": […], "correlation": [[…], …]}} with {", ".join(names)}'
        )
    matrix = matrix[np.ix_(order, order)]
    good = np.isfinite(matrix).all() and np.allclose(matrix, matrix.T, atol=1e-6)
    if not good or not np.allclose(np.diagonal(matrix), 1) or (np.abs(matrix) > 1 + 1e-9).any():
        raise ValueError("expected a symmetric matrix of correlations, with ones on its diagonal")
    return matrix


def _sampled(source, names):
    found = [_numbers(piece) for piece in source.scan([source.column(x) for x in names], ())]
    values = np.concatenate([np.zeros((0, len(names))), *found])
    if len(values) <= len(names):
        raise ValueError(
            f"expected more than {len(names)} users with numbers in {', '.join(names)}, got"
            f" {len(values)}; export a sample of users"
        )
    values = values / np.maximum(np.abs(values).max(axis=0), np.finfo(float).tiny)
    if not (values.std(axis=0) > 0).all():
        raise ValueError("expected metrics that vary over users; drop the constant one")
    return np.atleast_2d(np.corrcoef(values, rowvar=False))


def _numbers(piece):
    return np.stack(
        [
            numbers(column, Place(piece.place, name, piece.first_row))
            for name, column in zip(piece.rows.schema.names, piece.rows.columns, strict=True)
        ],
        axis=1,
    )

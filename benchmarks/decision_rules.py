"""What does a launch rule earn, and by how much does it flatter itself when the metric that chose
is also the judge?

The defaults of Chou, Bibaut, Ejdemyr & Kallus (arXiv 2502.08763; code winston-chou/
linear-proxy-metrics, decision_rules): 100 tests of a million users an arm, a proxy whose true
effects correlate 0.8 with the reward's; published 3.685e-3 naive, 1.843e-3 true and 1.778e-3 in ten
folds for "ship if the proxy is up". Cross-validation here draws no folds: `mopl_jax.metrics.rules`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import _study
from mopl_jax.metrics import rules

SIZES = {"histories": 2000, "tests": 100, "folds": (2, 10), "correlations": (0.2, 0.8)}
QUICK = {"histories": 20}
ARM = 1_000_000
REWARD, PROXY = (1e-4, 0.10), (1e-2, 10.0)  # standard deviations of true effects, of a user
NOISE = 0.4  # correlation over users


def run(options) -> list[dict]:
    """A row for each correlation of true effects, number of folds and rule."""
    return [
        row
        for correlation in options.correlations
        for folds in options.folds
        for row in _rows(correlation, folds, options)
    ]


def _rows(correlation, folds, options) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(folds)
    true = _covariance(PROXY[0], REWARD[0], correlation)
    noise = 2 / ARM * _covariance(PROXY[1], REWARD[1], NOISE)
    spread = np.broadcast_to(noise, (options.tests, 2, 2))
    each = np.arange(options.tests)
    found: dict[str, list] = {name: [] for name in rules.RULES}
    for _ in range(options.histories):
        effect = rng.multivariate_normal(np.zeros(2), true, options.tests)
        measured = effect + rng.multivariate_normal(np.zeros(2), noise, options.tests)
        z = measured / np.sqrt(np.diagonal(noise))
        for said in rules.returns(measured, spread, each, 1.96, folds):
            ships = rules.RULES[said.rule](z[:, 0], z[:, 1], 1.96)
            truth = effect[ships, 1].sum()
            found[said.rule].append((truth, said.naive, said.cross_validated, said.standard_error))
    about = {"correlation": correlation, "folds": folds, "tests": options.tests}
    for name, values in found.items():
        columns = np.array(values)
        truth, naive, cross, error = columns.mean(axis=0)
        yield about | {
            "rule": name,
            "true": truth,
            "naive": naive,
            "cross_validated": cross,
            "error_of_means": (columns.std(axis=0) / len(columns) ** 0.5).tolist(),
            "standard_error": error,
            "spread": columns[:, 2].std(),
        }


def _covariance(one, other, correlation):
    return np.array([[one**2, correlation * one * other], [correlation * one * other, other**2]])


def table(rows: list[dict]) -> str:
    """Returns of a hundred tests, and the factors by which estimates differ from the truth."""
    head = (
        *("correlation", "folds", "rule", "true return", "naive", "cross-validated"),
        *("naive / true", "cross-validated / true", "standard error said / found"),
    )
    lines = [
        (
            *(f"{row['correlation']:g}", row["folds"], row["rule"]),
            *(f"{row[key]:.3e}" for key in ("true", "naive", "cross_validated")),
            *(f"{row[key] / row['true']:.3f}" for key in ("naive", "cross_validated")),
            f"{row['standard_error'] / row['spread']:.2f}",
        )
        for row in rows
    ]
    return _study.markdown(head, lines, "lrlr")

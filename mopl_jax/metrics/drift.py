"""Does the North Star still follow the signals as it did? A test over the order of a history.

With true effects of covariance Λ and measured ones x, of noise S, the North Star's measured effect
y regresses on what x says of the true effects,

    E[y − S_yx (Λ+S)⁻¹ x | x] = βᵀ Λ (Λ+S)⁻¹ x,

whatever the users of a test. If β is one for all tests, the scores of that regression add up to
nothing beyond noise before any test: the largest Wald statistic of their partial sums over all
times of a change (Andrews, Econometrica 1993), against the same with random signs.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mopl_jax.metrics import objectives
from mopl_jax.metrics.objectives import History

LEVEL = 0.02  # at which it is told: every history is asked, and the test rejects up to 7 % at 5 %
DRAWS = 999  # of signs: p-values of 0.001 at least
EDGE, CUTS = 0.15, 25  # part of the tests before the first time that is tried; times
TESTS = 12  # a direction of the signals, or more; fewer directions lose less to their noise
LEAST = 0.01  # of the evidence, that a direction is asked for
FEWEST = 8  # tests


class Drift(NamedTuple):
    """Where a history most likely changes, and what a metric was worth before and after.

    `first`, `of`: tests before the change, and of all; A/A tests do not count.
    `before`, `after`: North Star units for a unit of the metric's effect.
    `p_value`: that nothing changes; NaN where the signals do not move beyond noise.
    """

    first: int
    of: int
    before: float
    after: float
    p_value: float


class _Scores(NamedTuple):
    """Scores of the regression, test by test, in r directions of the signals.

    `found`: design × residual.
    `spread`: the same by residuals that have the variance of errors, which fitting took away.
    `information`: design × design; its sum is I.
    """

    found: Float[np.ndarray, "e r"]
    spread: Float[np.ndarray, "e r"]
    information: Float[np.ndarray, "e r r"]


def drift(weights: Float[np.ndarray, " k"], history: History) -> Drift:
    """The test in the order of the table's experiments; `weights` are of the metric whose worth is
    told.
    """
    tests = np.unique(np.asarray(history.experiment)[~np.asarray(history.null)])
    scores = _scores(history) if len(tests) >= FEWEST else None
    if scores is None:
        return Drift(len(tests), len(tests), np.nan, np.nan, np.nan)
    cut, p_value = _largest(scores)
    later = np.asarray(history.experiment) >= tests[cut]
    before, after = (rate(weights, history, some) for some in (~later, later))
    return Drift(cut, len(tests), before, after, p_value)


def rate(weights: Float[np.ndarray, " k"], history: History, some: np.ndarray) -> float:
    """Σ n (ωᵀΔ Δ_N − ωᵀSe_N) / Σ n ((ωᵀΔ)² − ωᵀSω) of some tests that are no A/A tests."""
    above, below, _ = rate_terms(weights, history, some)
    return float(above.sum() / below.sum()) if below.sum() > 0 else np.nan


def rate_terms(
    weights: Float[np.ndarray, " k"], history: History, some: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The terms of both sums, and the experiment of each."""
    some = some & ~np.asarray(history.null)
    effect, noise = np.asarray(history.effect)[some], np.asarray(history.covariance)[some]
    size, ours = np.asarray(history.size)[some], effect @ weights
    shared = noise @ weights
    above = size * (ours * effect[:, history.north_star] - shared[:, history.north_star])
    below = size * (np.square(ours) - shared @ weights)
    return above, below, np.asarray(history.experiment)[some]


def _largest(scores):
    """The time of the largest statistic, and its p-value."""
    count, r = scores.found.shape
    cuts = np.unique(np.linspace(EDGE * count, (1 - EDGE) * count, CUTS).astype(int))
    before = np.cumsum(scores.information, axis=0)[cuts - 1]
    # A sum before a time, less its part of the sum of all, has the variance I_t − I_t I_t.
    inverse = np.linalg.pinv(before @ (np.eye(r) - before), rtol=1e-9, hermitian=True)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (DRAWS, count))
    drawn = np.stack([signs[:, :cut] @ scores.spread[:cut] for cut in cuts], axis=1)
    drawn -= np.einsum("cij,bj->bci", before, signs @ scores.spread)
    found, null = (
        np.einsum("...ci,cij,...cj->...c", x, inverse, x)
        for x in (np.cumsum(scores.found, axis=0)[cuts - 1], drawn)
    )
    beyond = np.sum(null.max(axis=1) >= found.max())
    return int(cuts[found.argmax()]), float(1 + beyond) / (DRAWS + 1)


def _scores(history) -> _Scores | None:
    """None where no signal moves beyond its noise."""
    design, outcome, index = _regression(history)
    values, vectors = np.linalg.eigh(design.T @ design)
    kept = min(max(1, len(design) // TESTS), int(np.sum(values > LEAST * values.sum())))
    if kept == 0:
        return None
    basis = design @ vectors[:, -kept:] / np.sqrt(values[-kept:])
    residual = outcome - basis @ (basis.T @ outcome)
    leverage = np.sum(np.square(basis), axis=1)
    error = residual / np.sqrt(1 - np.minimum(leverage, 0.9))
    both = basis[:, :, None] * basis[:, None, :]
    parts = basis * residual[:, None], basis * error[:, None], both
    order = np.unique(index, return_inverse=True)[1]
    sums = [np.zeros((order.max() + 1, *part.shape[1:])) for part in parts]
    for total, part in zip(sums, parts, strict=True):
        np.add.at(total, order, part)
    return _Scores(*sums)


def _regression(history):
    """Weighted design (e, k) and outcome (e,) of the formula above, and each one's experiment."""
    standard, _ = objectives.scaled(history)
    some, star = ~np.asarray(history.null), history.north_star
    true = np.asarray(objectives.effect_covariance(standard, jnp.asarray(some, float)))
    effect, noise = np.asarray(standard.effect)[some], np.asarray(standard.covariance)[some]
    x = np.delete(np.arange(effect.shape[1]), star)
    shared, spread = noise[:, x, star], true[np.ix_(x, x)]
    said = np.linalg.solve(spread + noise[:, x[:, None], x], effect[:, x, None])[..., 0]
    outcome = effect[:, star] - np.sum(shared * said, axis=1)
    root = np.sqrt(noise[:, star, star] + true[star, star])
    return said @ spread / root[:, None], outcome / root, np.asarray(history.experiment)[some]

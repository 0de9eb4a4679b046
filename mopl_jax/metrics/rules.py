"""Decision rules: what would "ship if the metric is up" have earned on past tests?

The return of a rule is the sum, over treatments that it ships, of their true effects on the North
Star. Judged by the measured effects that chose them it flatters itself, because the noise that
shipped is added up (Chou, Bibaut, Ejdemyr, Kallus, Evaluating decision rules across many weak
experiments, arXiv 2502.08763). Cross-validated in F folds of the users a rule decides by F−1 of
them and is judged by the other. That needs no folds: with noise ε of covariance S,

    Δ + √(F−1) ε   and   Δ − ε / √(F−1),   ε ~ N(0, S) drawn anew,

are independent given the true effect, and have the covariances F S and F S / (F−1) of one fold and
of the others. The mean over draws of ε is what the mean over all splits of the users would be.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

FOLDS = 10
DRAWS = 400  # of ε for each treatment: its error is far below that of the sum over treatments
Z = Any  # z-scores: a float or an array of any shape
Rule = Callable[[Z, Z, float], Any]  # of the metric and the North Star; what is shipped


def metric_up(metric: Z, north: Z, critical: float) -> Any:
    """Ship what the learnt metric takes for better."""
    return metric > 0


def north_star_up(metric: Z, north: Z, critical: float) -> Any:
    """Ship what the North Star takes for better."""
    return north > 0


def both_up(metric: Z, north: Z, critical: float) -> Any:
    """Ship what both take for better."""
    return (metric > 0) & (north > 0)


def metric_significant(metric: Z, north: Z, critical: float) -> Any:
    """Ship what the learnt metric shows to be better."""
    return metric > critical


def north_star_significant(metric: Z, north: Z, critical: float) -> Any:
    """Ship what the North Star shows to be better."""
    return north > critical


def guarded(metric: Z, north: Z, critical: float) -> Any:
    """Ship what the learnt metric shows to be better and the North Star not to be worse."""
    return (metric > critical) & (north > -critical)


RULES: dict[str, Rule] = {
    "North Star up": north_star_up,
    "metric up": metric_up,
    "both up": both_up,
    "North Star significant": north_star_significant,
    "metric significant": metric_significant,
    "metric significant, North Star not worse": guarded,
}


@dataclasses.dataclass(frozen=True)
class Return:
    """What a rule earned, in units of the North Star, summed over treatments.

    `rule`: its name.
    `shipped`: how many treatments it ships, with all users.
    `cross_validated`, `standard_error`: its return, and the error over experiments.
    `naive`: the same judged by what chose it.
    `flattery`: naive / cross-validated; NaN where the latter is not beyond its error.
    """

    rule: str
    shipped: int
    cross_validated: float
    standard_error: float
    naive: float
    flattery: float


def returns(
    effect: Float[np.ndarray, "e 2"],
    covariance: Float[np.ndarray, "e 2 2"],
    experiment: np.ndarray,
    critical: float,
    folds: int = FOLDS,
    rules: dict[str, Rule] = RULES,
) -> list[Return]:
    """The return of each rule; `effect` and `covariance` are of the metric and the North Star.

    The metric of each treatment must be one that was learnt without its experiment.
    """
    if folds < 2:
        raise ValueError(f"expected at least 2 folds, got {folds}; one decides, another judges")
    judged, z = _thinned(effect, covariance, folds)
    whole = effect / np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    found = []
    for name, rule in rules.items():
        ships = rule(whole[:, 0], whole[:, 1], critical)
        each = np.mean(judged * rule(z[..., 0], z[..., 1], critical), axis=0)
        naive, value = float(effect[ships, 1].sum()), float(each.sum())
        error = _error(each, experiment)
        ratio = naive / value if value > error else float("nan")
        found.append(Return(name, int(ships.sum()), value, error, naive, ratio))
    return found


def _thinned(effect, covariance, folds):
    """North Star effects of one fold (d, e), and z-scores of the others (d, e, 2)."""
    rng = np.random.default_rng(0)
    half = rng.standard_normal((DRAWS // 2, *effect.shape))
    noise = np.einsum("eij,dej->dei", np.linalg.cholesky(covariance), np.concatenate([half, -half]))
    others = effect - noise / (folds - 1) ** 0.5
    spread = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2) * folds / (folds - 1))
    return effect[:, 1] + (folds - 1) ** 0.5 * noise[..., 1], others / spread


def _error(each, experiment):
    """Standard error of a sum over experiments, whose treatments share a control."""
    sums = np.bincount(np.unique(experiment, return_inverse=True)[1], weights=each)
    return float(np.sqrt(sums.size * np.var(sums, ddof=1))) if sums.size > 1 else float("nan")

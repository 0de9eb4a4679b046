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
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float

from mopl_jax.metrics.objectives import Allowed, History, Objective, leave_one_out

FOLDS = 10
DRAWS = 400  # of ε for each treatment: its error is far below that of the sum over treatments
Z = Any  # z-scores: a float or an array of any shape
Rule = Callable[[Z, Z, float], Any]  # z of metric and North Star, critical value: what is shipped


GUARDED = "metric significant, North Star not worse"
RULES: dict[str, Rule] = {
    "North Star up": lambda metric, north, critical: north > 0,
    "metric up": lambda metric, north, critical: metric > 0,
    "both up": lambda metric, north, critical: (metric > 0) & (north > 0),
    "North Star significant": lambda metric, north, critical: north > critical,
    "metric significant": lambda metric, north, critical: metric > critical,
    GUARDED: lambda metric, north, critical: (metric > critical) & (north > -critical),
}
# Those that launch a change without effect in α of tests at most, not in every other one.
SIGNIFICANT = ("North Star significant", "metric significant", GUARDED)


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


def of_history(
    history: History, objective: Objective, allowed: Allowed | None = None, alpha: float = 0.05
) -> list[Return]:
    """What the rules would have earned on each past test by the metric that the others teach."""
    weights = np.asarray(leave_one_out(history, objective, allowed))
    north = np.broadcast_to(np.eye(len(history.names))[history.north_star], weights.shape)
    both = np.stack([weights, north], axis=1)
    effect = np.einsum("eaj,ej->ea", both, np.asarray(history.effect))
    noise = np.einsum("eai,eij,ebj->eab", both, np.asarray(history.covariance), both)
    some = (weights != 0).any(axis=1) & ~np.asarray(history.null)
    index = np.asarray(history.experiment)[some]
    return returns(effect[some], noise[some], index, -NormalDist().inv_cdf(alpha / 2))


def best(found: Sequence[Return]) -> str:
    """The rule of `SIGNIFICANT` with the largest cross-validated return; ties keep to `GUARDED`."""
    values = {each.rule: each.cross_validated for each in found if each.rule in SIGNIFICANT}
    return max(values, key=lambda rule: (values[rule], rule == GUARDED))


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

"""The policy that actions look drawn from: families compared by their likelihood."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from mopl_jax.policies.discrete import Discrete
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.transformed import EXP, Transformed
from mopl_jax.policies.uniform import Uniform

ROWS_A_NUMBER = 10  # that is estimated: with fewer, the density is not known well enough
ROWS_AN_ARM = 50  # of actions that repeat, below which they are not taken for arms


class Fitted(NamedTuple):
    """A policy by maximum likelihood, its `family`, and how many `numbers` were estimated."""

    family: str
    policy: Any
    log_likelihood: float
    numbers: int

    def score(self, n: int) -> float:
        """Schwarz's criterion: log likelihood − ½ numbers · log n."""
        return self.log_likelihood - 0.5 * self.numbers * np.log(n)


def fit_policy(action: Float[np.ndarray, "n d"]) -> Fitted:
    """The family, of those that have one, with the best score: arms where actions repeat, else a
    normal policy of independent or correlated weights, a log-normal one, or a box.

    With the density estimated by maximum likelihood a weighted mean has no more variance than with
    the true one, to first order (Hirano, Imbens & Ridder, Econometrica 2003): intervals that take
    it for known hold. ValueError for fewer than ten rows a number.
    """
    action = np.asarray(action, float)
    n = len(action)
    arms, count = np.unique(action, axis=0, return_counts=True)
    if len(arms) * ROWS_AN_ARM <= n:
        found = [Fitted("discrete", Discrete.of(arms, count), 0.0, len(arms) - 1)]
    else:
        found = [*_normals(action, "normal"), _box(action)]
        if (action > 0).all():
            jacobian = -np.log(action).sum()
            found += [
                x._replace(
                    policy=Transformed(x.policy, EXP), log_likelihood=x.log_likelihood + jacobian
                )
                for x in _normals(np.log(action), "log-normal")
            ]
    best = max(found, key=lambda x: x.score(n))
    if n < ROWS_A_NUMBER * best.numbers:
        raise ValueError(
            f"expected {ROWS_A_NUMBER * best.numbers:,} rows or more to estimate the {best.numbers}"
            f" numbers of a {best.family} policy, got {n:,}"
        )
    return best


def levels_of(policy: Any, action: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"] | None:
    """The distribution function of each weight at the actions; None for arms."""
    if isinstance(policy, Transformed):
        return levels_of(policy.base, np.log(action))
    if isinstance(policy, Uniform):
        low, high = np.asarray(policy.low), np.asarray(policy.high)
        return (action - low) / (high - low)
    if not isinstance(policy, Gaussian):
        return None
    spread = np.sqrt(np.diagonal(np.asarray(policy.covariance)))
    return ndtr((action - np.asarray(policy.mean)) / spread)


def _normals(z, family):
    """Independent weights, and correlated ones where there are rows enough."""
    n, d = z.shape
    mean, scale = z.mean(axis=0), z.std(axis=0)
    if not scale.min() > 0:
        raise ValueError("expected weights that vary, got one that does not; there is no density")
    half = 0.5 * n * d * (1 + np.log(2 * np.pi))
    yield Fitted(family, Gaussian.diagonal(mean, scale), -half - n * np.log(scale).sum(), 2 * d)
    sign, log_determinant = np.linalg.slogdet(covariance := np.cov(z.T, bias=True).reshape(d, d))
    if d > 1 and sign > 0:
        likelihood = -half - 0.5 * n * log_determinant
        policy = Gaussian.full(mean, covariance)
        yield Fitted(f"correlated {family}", policy, likelihood, d + d * (d + 1) // 2)


def _box(action):
    """The ends raised by the mean gap of uniform draws, so that all actions are inside."""
    low, high = action.min(axis=0), action.max(axis=0)
    gap = (high - low) / max(len(action) - 1, 1)
    likelihood = -len(action) * np.log(high - low + 2 * gap).sum()
    ends = jnp.asarray(low - gap), jnp.asarray(high + gap)
    return Fitted("uniform", Uniform(*ends), likelihood, 2 * action.shape[1])

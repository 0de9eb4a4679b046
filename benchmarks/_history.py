"""A platform's past experiments, drawn: seven user signals and a North Star, truth known.

An experiment changes four latent drivers of the experience; signals and North Star respond
linearly, the North Star mostly to one, weakly and through wide user noise. A third of the
experiments are A/A. A winner is known where the North Star's true effect is among the larger
half, as if by a longer test: labels do not look at the measured difference. A share of them is
wrong. Elsewhere the label is unknown.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from scipy import stats

from mopl_jax.metrics import objectives

SIGNALS = ("sessions", "likes", "shares", "long_views", "watch_minutes", "comments", "skips")
NAMES = (*SIGNALS, "retention")
NULLS, KNOWN = 0.33, 0.5  # shares: A/A; largest effects that are labelled
WRONG = (0.0, 0.1)  # shares of wrong labels
ALPHA = 0.05

# Rows: response to the four drivers (quality, novelty, sociality, load), in user standard
# deviations × 1e-2 for a usual change.
RESPONSE = np.array(
    [
        [1.2, 0.2, 0.2, -0.2],
        [0.3, 0.9, 0.8, 0.0],
        [0.2, 0.1, 1.2, 0.1],
        [0.9, -0.3, 0.0, 0.3],
        [0.4, -0.8, 0.1, 1.0],
        [0.0, 0.2, 0.9, 0.3],
        [-0.6, 0.3, 0.0, 0.9],
        [0.45, 0.0, 0.1, -0.2],
    ]
)
# The North Star of later: it follows what is social, and what loads less.
LATER = np.array([0.1, 0.05, 0.45, 0.1])
# One factor of activity correlates all metrics over users.
USER_LOAD = np.array([0.5, 0.4, 0.3, 0.6, 0.7, 0.3, -0.2, 0.4])


def covariance() -> np.ndarray:
    """Over users: one common factor, unit variances."""
    return np.outer(USER_LOAD, USER_LOAD) + np.diag(1 - USER_LOAD**2)


def draw(
    rng: np.random.Generator, count: int, wrong: float = 0.0, later: bool | np.ndarray = False
) -> dict[str, np.ndarray]:
    """True and estimated effects of `count` experiments, users, labels; those that are `later` have
    the North Star of later.
    """
    users = np.exp(rng.uniform(np.log(20_000), np.log(400_000), count)).astype(int)
    null = rng.random(count) < NULLS
    drivers = stats.t(5).rvs((count, 4), random_state=rng) * 0.6
    drivers = np.where(null[:, None], 0, 1e-2 * drivers)
    effect = drivers @ RESPONSE.T
    effect[:, -1] = np.where(later, drivers @ LATER, effect[:, -1])
    noise = rng.normal(size=(count, len(NAMES))) @ np.linalg.cholesky(covariance()).T
    large = np.abs(effect[:, -1]) > np.quantile(np.abs(effect[~null, -1]), 1 - KNOWN)
    flip = np.where(rng.random(count) < wrong, -1, 1)
    return {
        "users": users,
        "null": null,
        "effect": effect,
        "sign": np.where(~null & large, flip * np.sign(effect[:, -1]), 0.0),
        "truth": np.sign(effect[:, -1]),
        "estimate": effect + noise * np.sqrt(2 / users)[:, None],
    }


def past(number: int, size: int, wrong: float, changing: bool = False) -> objectives.History:
    """The history of that number: `size` experiments; the later half with the other North Star if
    it is `changing`; with the effects among two halves of the users.
    """
    rng = np.random.default_rng(100 + number)
    later = changing & (np.arange(size) >= size // 2)
    drawn = draw(rng, size, wrong, later)
    root = np.linalg.cholesky(covariance())
    apart = rng.normal(size=drawn["estimate"].shape) @ root.T * np.sqrt(2 / drawn["users"])[:, None]
    halves = np.stack([drawn["estimate"] + apart, drawn["estimate"] - apart], axis=1)
    return dataclasses.replace(history(drawn), halves=jnp.asarray(halves))


def history(drawn: dict[str, np.ndarray]) -> objectives.History:
    """The record that an experiments table of these differences becomes."""
    count, users = drawn["users"].size, drawn["users"]
    each = covariance() * (2 / users)[:, None, None]
    labels = drawn["sign"], drawn["null"], np.arange(count)
    columns = (drawn["estimate"], each, users / 2, *labels, covariance())
    effect, noise, size, sign, null, index, over_users = (jnp.asarray(column) for column in columns)
    return objectives.History(
        effect, noise, size, sign, null, index, over_users, NAMES, len(NAMES) - 1
    )

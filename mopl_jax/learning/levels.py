"""Logs that are pooled differ in level, as by a season between them: a surface of all rows would
take that for the work of weights that moved with it.
"""

import numpy as np
from jaxtyping import Float, Int

from mopl_jax.numerics import quadratic


def level_above(
    action: Float[np.ndarray, "n d"], outcome: Float[np.ndarray, " n"], log: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """How far the level of each row's log is above the mean of all rows, by least squares of a
    quadratic surface with one level for each log.

    Each row is weighed by its own log's density, so what is constant within a log cancels in a gain
    and may be taken out of the outcome; the mean over all rows stays. 0 of an outcome that is not
    finite or does not vary, which is refused later.
    """
    if not np.isfinite(outcome).all() or np.ptp(outcome) == 0:
        return np.zeros(len(outcome))
    z = (action - action.mean(axis=0)) / np.maximum(action.std(axis=0), 1e-300)
    own = np.eye(int(log.max()) + 1)[log]
    table = np.concatenate([np.asarray(quadratic.features(z))[:, 1:], own], axis=1)
    levels = np.linalg.lstsq(table, outcome, rcond=None)[0][-own.shape[1] :]
    return (levels - own.mean(axis=0) @ levels)[log]

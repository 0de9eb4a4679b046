"""Logs: one row per decision; and the importance weights that a target policy gives them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mopl_jax.numerics.pytree import record
from mopl_jax.policies import Policy


@record()
class Logs:
    """What a platform records while it randomises its scalarisation weights.

    `action` (n, d) the weights played; `log_propensity` (n,) their log density under the logging policy; `reward` (n,)
    the North Star; optionally `context` (n, c), `cluster` (n,) the user, `time` (n,).
    """

    action: Float[Array, "n d"]
    log_propensity: Float[Array, " n"]
    reward: Float[Array, " n"]
    context: Float[Array, "n c"] | None = None
    cluster: Int[Array, " n"] | None = None
    time: Float[Array, " n"] | None = None


def check(logs: Logs) -> Logs:
    """Return `logs`, or raise `ValueError` for wrong shapes, no rows, or entries that are not finite.

    Needs concrete values: call it once, at the door, not inside `jit`.
    """
    if np.ndim(logs.action) != 2:
        raise ValueError(
            f"expected action of shape (n, d), got {np.shape(logs.action)}; stack the d weights as columns"
        )
    n = np.shape(logs.action)[0]
    if n == 0:
        raise ValueError("expected at least one row, got an empty log; check the filter that produced it")
    for name in ("log_propensity", "reward", "context", "cluster", "time"):
        _check_rows(name, getattr(logs, name), n)
    _check_finite("action", logs.action)
    _check_finite("log_propensity", logs.log_propensity)
    _check_finite("reward", logs.reward)
    return logs


def _check_rows(name, column, n):
    if column is not None and np.shape(column)[:1] != (n,):
        raise ValueError(f"expected {name} with {n} rows, one per action, got shape {np.shape(column)}")


def _check_finite(name, column):
    bad = np.argwhere(~np.isfinite(np.asarray(column)))
    if bad.size:
        where = tuple(int(i) for i in bad[0])
        value = np.asarray(column)[where]
        raise ValueError(f"expected finite {name}, got {value} in row {where[0]}; drop or repair the row")


def log_weights(policy: Policy, logs: Logs) -> Float[Array, " n"]:
    """Log importance weights log π(aᵢ) − log π₀(aᵢ), (n,); −inf where the policy cannot play the action."""
    return jax.vmap(policy.log_density)(jnp.asarray(logs.action)) - logs.log_propensity

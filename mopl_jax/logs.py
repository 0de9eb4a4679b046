"""Logs: one row per decision; and the importance weights that a target policy gives them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.policies.policy import Policy


@pytree_dataclass()
class Logs:
    """What a platform records while it randomises its scalarisation weights.

    `action` (n, d) the weights played; `log_propensity` (n,) their log density under the logging
    policy; `reward` (n,) the North Star; optionally `context` (n, c), `cluster` (n,) the user,
    `time` (n,).
    """

    action: Float[Array, "n d"]
    log_propensity: Float[Array, " n"]
    reward: Float[Array, " n"]
    context: Float[Array, "n c"] | None = None
    cluster: Int[Array, " n"] | None = None
    time: Float[Array, " n"] | None = None


def check(logs: Logs) -> Logs:
    """Return `logs`, or raise `ValueError` for wrong shapes, no rows, or entries that are not
    finite.

    Needs concrete values: call it once, at the door, not inside `jit`.
    """
    if np.ndim(logs.action) != 2:
        raise ValueError(
            f"expected action of shape (n, d), got {np.shape(logs.action)}; stack the d weights as"
            " columns"
        )
    n = np.shape(logs.action)[0]
    if n == 0:
        raise ValueError(
            "expected at least one row, got an empty log; check the filter that produced it"
        )
    for name in ("log_propensity", "reward", "context", "cluster", "time"):
        _check_rows(name, getattr(logs, name), n)
    _check_finite("action", logs.action)
    _check_finite("log_propensity", logs.log_propensity)
    _check_finite("reward", logs.reward)
    return logs


def _check_rows(name, column, n):
    if column is not None and np.shape(column)[:1] != (n,):
        raise ValueError(
            f"expected {name} with {n} rows, one per action, got shape {np.shape(column)}"
        )


def _check_finite(name, column):
    bad = np.argwhere(~np.isfinite(np.asarray(column)))
    if bad.size:
        where = tuple(int(i) for i in bad[0])
        value = np.asarray(column)[where]
        raise ValueError(
            f"expected finite {name}, got {value} in row {where[0]}; drop or repair the row"
        )


def log_weights(policy: Policy, logs: Logs) -> Float[Array, " n"]:
    """Log importance weights log π(aᵢ) − log π₀(aᵢ), (n,); −inf where the policy cannot play the
    action.
    """
    return jax.vmap(policy.log_density)(jnp.asarray(logs.action)) - logs.log_propensity


def folds_of(logs: Logs, folds: int, seed: int = 0) -> list[tuple[Logs, Logs]]:
    """`folds` pairs (learning rows, certification rows): each user's rows are in one fold;
    ValueError if one is empty.
    """
    fold = _fold(logs, folds, seed)
    return [(rows(logs, fold != k), rows(logs, fold == k)) for k in range(folds)]


def split(logs: Logs, share: float = 0.5, seed: int = 0) -> tuple[Logs, Logs]:
    """Learning rows and certification rows, `share` of the users (of the rows, without clusters) in
    the latter.
    """
    if not 0 < share < 1:
        raise ValueError(f"expected a certification share strictly between 0 and 1, got {share}")
    unit, count = _units(logs)
    held = np.random.default_rng(seed).permutation(count)[: max(1, round(share * count))]
    certify_rows = np.isin(unit, held)
    if certify_rows.all() or not certify_rows.any():
        raise ValueError(
            f"expected rows on both sides of the split, got all {len(unit)} on one; lower the share"
        )
    return rows(logs, ~certify_rows), rows(logs, certify_rows)


def rows(logs: Logs, kept) -> Logs:
    """The rows where `kept` (n,), clusters numbered anew from 0."""
    part = jax.tree.map(lambda column: jnp.asarray(np.asarray(column)[kept]), logs)
    if part.cluster is None:
        return part
    number = np.unique(np.asarray(part.cluster), return_inverse=True)[1]
    return dataclasses.replace(part, cluster=jnp.asarray(number))


def _units(logs):
    """The number of the independent unit of each row, and how many there are."""
    n = np.shape(logs.action)[0]
    if logs.cluster is None:
        unit, count = np.arange(n), n
    else:
        values, unit = np.unique(np.asarray(logs.cluster), return_inverse=True)
        count = len(values)
    if count < 2:
        raise ValueError(
            f"all {n} rows are of one user: none is left to certify on; split by another column, or"
            " not at all"
        )
    return unit, count


def _fold(logs, folds, seed):
    unit, count = _units(logs)
    if not 2 <= folds <= count:
        raise ValueError(f"expected 2 to {count} folds, one user at least in each, got {folds}")
    return np.random.default_rng(seed).permutation(count)[unit] % folds

"""Logs: one row per decision; and the importance weights that a target policy gives them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from mopl_jax.numerics.check import check_seed
from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import PerRow
from mopl_jax.policies.policy import Policy


@pytree_dataclass(static=("num_clusters",))
class Logs:
    """What a platform records while it randomises its scalarisation weights, one row a decision.

    `action` (n, d): the weights played
    `log_propensity` (n,): their log density under the logging policy
    `reward` (n,): the North Star
    `context` (n, c): what else was known, optional
    `cluster` (n,): the user of each row, optional; rows of one user may depend on one another
    `time` (n,): optional
    `sampling_weight` (n,): how many rows of the platform each row speaks for, in any unit; optional
    `num_clusters`: how many users there are, static under `jit`; counted from `cluster`, and users
        are then numbered from 0 in the order of their values. That is before `jit`, which cannot
        count; take rows by `rows`, which counts anew.
    """

    action: Float[Array, "n d"]
    log_propensity: PerRow
    reward: PerRow
    context: Float[Array, "n c"] | None = None
    cluster: Int[Array, " n"] | None = None
    time: PerRow | None = None
    sampling_weight: PerRow | None = None
    num_clusters: int | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.cluster is None:
            object.__setattr__(self, "num_clusters", None)
        elif _is_new(self.cluster, self.num_clusters):
            values, number = np.unique(np.asarray(self.cluster), return_inverse=True)
            object.__setattr__(self, "cluster", number)
            object.__setattr__(self, "num_clusters", len(values))


def _is_new(cluster, num_clusters):
    """Whether users are to be counted: in NumPy always, on a device once; a tracer has no values.

    JAX also builds records of placeholders, which are neither.
    """
    uncounted = num_clusters is None and not isinstance(cluster, Tracer)
    return isinstance(cluster, np.ndarray) or (uncounted and isinstance(cluster, jax.Array))


def num_units(logs: Logs) -> int:
    """How many independent units a log has: its users, or its rows where it has no users.

    ValueError for users that came into being inside `jit`, uncounted.
    """
    if logs.cluster is None:
        return np.shape(logs.action)[0]
    if logs.num_clusters is None:
        raise ValueError(
            "expected logs whose users are counted, got some made inside jit; make them outside, or"
            " give num_clusters"
        )
    return logs.num_clusters


def check(logs: Logs) -> Logs:
    """Return `logs`, or raise `ValueError` for wrong shapes, no rows, entries that are not
    finite, or rewards that JAX's default precision cannot tell apart.

    Needs concrete values: call it once, at the door, not inside `jit`.
    """
    check_shapes(logs)
    _check_finite("action", logs.action)
    _check_finite("log_propensity", logs.log_propensity)
    _check_finite("reward", logs.reward)
    if logs.sampling_weight is not None:
        _check_finite("sampling_weight", logs.sampling_weight)
        if not np.min(logs.sampling_weight) > 0:
            row = int(np.argmin(logs.sampling_weight))
            raise ValueError(
                f"expected sampling weights > 0, got {np.min(logs.sampling_weight):g} in row {row};"
                " drop rows that stand for none"
            )
    check_precision(logs.reward)
    return logs


FINE = 0.05  # of the standard error of a mean: that moves an interval by 1 % of its width


def check_precision(reward: Any, place: str = "log") -> None:
    """ValueError where rewards (n,) differ by so little, for their size, that an interval in JAX's
    default precision would be that of rounding errors: at 3·10⁷ float32 knows even numbers only.
    Where it cannot hold their fourth powers, too.
    """
    rewards, kind = np.asarray(reward, float), jnp.result_type(float)
    largest = np.float64(np.abs(rewards).max() or 1.0)
    share = rewards / largest
    spread, reach = float(np.std(share)), float(np.abs(share - np.mean(share)).max() * largest)
    with np.errstate(over="ignore", invalid="ignore"):
        step = float(np.spacing(largest.astype(kind))) / largest  # NaN beyond what it holds
    if spread > 0 and not step <= FINE * spread / np.sqrt(len(rewards)):
        raise ValueError(
            f"{place}: expected rewards that {kind.name} can tell apart, got a standard deviation"
            f" of {spread * largest:.3g} and rewards to {largest:.6g}; subtract a constant from all"
            " of them, or compute in float64 (JAX_ENABLE_X64=1)"
        )
    held = (float(jnp.finfo(kind).max) / len(rewards)) ** 0.25
    if spread > 0 and not 1 / held <= reach <= held:  # sums of fourth powers
        raise ValueError(
            f"{place}: expected rewards whose distance from their mean goes to between"
            f" {1 / held:.1g} and {held:.1g}, fourth powers that {kind.name} holds, got"
            f" {reach:.4g}; give them in another unit, or compute in float64 (JAX_ENABLE_X64=1)"
        )


def check_shapes(logs: Logs) -> Logs:
    """Return `logs`, or raise `ValueError` for wrong shapes or no rows."""
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
    for name in ("log_propensity", "reward", "context", "cluster", "time", "sampling_weight"):
        _check_rows(name, getattr(logs, name), n)
    return logs


def check_unsampled(logs: Logs, what: str) -> Logs:
    """Return `logs`, or raise `ValueError` where rows have sampling weights, which `what` does not
    know.
    """
    if logs.sampling_weight is not None:
        raise ValueError(
            f"{what}: expected a log without sampling weights, which check, evaluate, compare and"
            " learn take into account; draw rows in proportion to the weights before"
        )
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


def log_weights(policy: Policy, logs: Logs) -> PerRow:
    """Log importance weights log π(aᵢ) − log π₀(aᵢ), (n,), of a log with sampling weights sᵢ those
    of the rows that each speaks for, + log sᵢ/s̄; −inf where the policy cannot play the action.
    """
    found = jax.vmap(policy.log_density)(jnp.asarray(logs.action)) - logs.log_propensity
    return found if logs.sampling_weight is None else found + jnp.log(speaks_for(logs))


def speaks_for(logs: Logs, kept: PerRow | None = None) -> PerRow:
    """How many rows each row speaks for, over the mean of those that are `kept` (1, not 0; all,
    unless given); 0 for the others, (n,).
    """
    one = jnp.ones_like(logs.log_propensity)
    kept = one if kept is None else jnp.asarray(kept, one.dtype)
    if logs.sampling_weight is None:
        return kept
    each = kept * jnp.asarray(logs.sampling_weight, one.dtype)
    return each * (jnp.sum(kept) / jnp.sum(each))


def logged_mean(logs: Logs) -> Float[np.ndarray, " d"]:
    """The mean of the weights played, of the rows that each row speaks for."""
    return np.average(np.asarray(logs.action), axis=0, weights=logs.sampling_weight)


def folds_of(logs: Logs, folds: int, seed: int = 0) -> Int[np.ndarray, " n"]:
    """The fold of each row, 0 … folds − 1; each user's rows are in one.

    ValueError if a fold would be empty.
    """
    unit, count = _units(logs)
    if not 2 <= folds <= count:
        raise ValueError(
            f"folds: expected 2 to {count}, one user (or row) at least in each, got {folds}"
        )
    return _shuffled(count, seed)[unit] % folds


def split(logs: Logs, share: float = 0.5, seed: int = 0) -> tuple[Logs, Logs]:
    """Learning rows and certification rows, which are a `share` of the users.

    Of the rows, where the log has no users.
    """
    held = held_out(logs, share, seed)
    return rows(logs, ~held), rows(logs, held)


def held_out(logs: Logs, share: float = 0.5, seed: int = 0) -> Bool[np.ndarray, " n"]:
    """Whether each row is one of those that `split` holds out to certify."""
    if not 0 < share < 1:
        raise ValueError(f"expected a certification share strictly between 0 and 1, got {share}")
    unit, count = _units(logs)
    held = _shuffled(count, seed)[: max(1, round(share * count))]
    certify_rows = np.isin(unit, held)
    if certify_rows.all() or not certify_rows.any():
        raise ValueError(
            f"expected rows on both sides of the split, got all {len(unit)} on one; lower the share"
        )
    return certify_rows


def check_splits(logs: Logs) -> None:
    """ValueError where all rows are of one user."""
    _units(logs)


def rows(logs: Logs, kept: Any) -> Logs:
    """The rows where `kept` (n,), users counted and numbered anew from 0."""
    part = jax.tree.map(lambda column: jnp.asarray(np.asarray(column)[kept]), logs)
    if part.cluster is None:
        return part
    again = dataclasses.replace(part, num_clusters=None)
    return dataclasses.replace(again, cluster=jnp.asarray(again.cluster))


def _shuffled(count, seed):
    return np.random.default_rng(check_seed(seed, "seed")).permutation(count)


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

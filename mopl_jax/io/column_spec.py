"""Which column of a log plays which role, before a value is looked at."""

import fnmatch
from collections.abc import Sequence
from typing import Any

import msgspec

from mopl_jax.io.kinds import SEASONS, is_nested
from mopl_jax.io.source import Source
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy


class ColumnSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a log; `log_` where a column holds logarithms of densities.

    `reward`: the North Star.
    `action`: the weights played: names, a prefix, a pattern, or one column (of numbers, lists, or
        named fields).
    `propensity`, `log_propensity`: density of the logged action under the logging policy.
    `target_propensity`, `log_target_propensity`: its density under a target policy.
    `cluster`: the user.
    `time`: when the row was logged.
    `context`: named as the action.
    `sampling_weight`, `keep_probability`: how many rows a row speaks for, or the inverse of it.
    `half_life`, `time_feature`: how a row's time says what it speaks for; see `recency`.
    `weekdays`: that the feature is the weekday.
    `count`: how many equal rows a row is.
    `sum_of_squares`: of the rewards of so many rows; `reward` is then their sum.
    `per`: what the reward is counted by, as views: the value is then a ratio.
    `aggregate`: how the rewards of a user become one; see `aggregation`.
    `missing_reward`: what rows without a reward are; see `missing`.
    `fit_logging`: whether the logging policy is estimated from the actions; see `fitting`.
    """

    reward: str | None = "reward"
    action: str | Sequence[str] | None = None
    propensity: str | None = None
    log_propensity: str | None = None
    target_propensity: str | None = None
    log_target_propensity: str | None = None
    cluster: str | None = None
    time: str | None = None
    context: str | Sequence[str] | None = None
    sampling_weight: str | None = None
    keep_probability: str | None = None
    count: str | None = None
    sum_of_squares: str | None = None
    per: str | None = None
    aggregate: str | None = None
    missing_reward: str | None = None
    half_life: str | float | None = None
    time_feature: str | None = None
    weekdays: bool = False
    fit_logging: bool = False

    def column_of(self, role: str) -> Any:
        """The column of a role, None where it has none."""
        return getattr(self, role)

    def replace(self, **roles: Any) -> "ColumnSpec":
        """These columns, with those of `roles` in the place of their own."""
        return msgspec.structs.replace(self, **roles)

    @property
    def density(self) -> str | None:
        """The column of the densities under the logging policy, or of their logarithms."""
        return self.propensity or self.log_propensity

    @property
    def scalars(self) -> dict[str, str]:
        """The columns of the roles that have one each."""
        single = {role: self.column_of(role) for role in _SCALARS}
        return {role: name for role, name in single.items() if name is not None}

    @property
    def names(self) -> list[str]:
        """Every column that is read, once."""
        single = [*self.scalars.values(), *([] if self.feature is None else [self.feature])]
        return list(dict.fromkeys([*single, *(self.action or ()), *(self.context or ())]))

    @property
    def feature(self) -> str | None:
        """The column of the time feature; None where the time itself has it."""
        return None if self.time_feature in SEASONS else self.time_feature


_VECTORS = ("action", "context")
_MANNERS = ("aggregate", "missing_reward", "fit_logging")  # no columns
_MANNERS += ("half_life", "time_feature", "weekdays")
ROLES = ColumnSpec.__struct_fields__
_SCALARS = tuple(role for role in ROLES if role not in _VECTORS + _MANNERS)


def resolve(source: Source, columns: ColumnSpec, logging: Policy | None) -> ColumnSpec:
    """`columns` that exist in `source`, vectors as a tuple of names. ValueError for absent
    ones, or densities from nowhere.

    A column of the default name counts where no other is named, but for a mixture: of a pool
    each row has its own part's.
    """
    if not (columns.density or columns.fit_logging or isinstance(logging, Mixture)):
        columns = _with_default_density(source, columns, logging)
    for role, name in columns.scalars.items():
        source.column(name, f"--{role.replace('_', '-')}")
    if columns.feature is not None:
        source.column(columns.feature, "--time-feature")
    _check_roles(source, columns)
    action = action_columns(source, columns.action)
    context = None if columns.context is None else _vector(source, columns.context, "context")
    return columns.replace(action=action, context=context)


def _check_roles(source, columns):
    if columns.sampling_weight and columns.keep_probability:
        raise ValueError(
            f"{source.name}: expected sampling weights or keep probabilities, got both; name one"
        )
    if columns.sum_of_squares and not columns.count:
        raise ValueError(
            f"{source.name}: sums of squares are of cells of how many rows? name their counts"
            " (--count)"
        )


def _with_default_density(source, columns, logging):
    names = source.schema.names
    default = next((name for name in ("log_propensity", "propensity") if name in names), None)
    if default is None and logging is None:
        raise ValueError(
            f"{source.name}: no propensities: name a column (--propensity, --log-propensity) or"
            f" a logging policy (--logging), or have it estimated (--fit-logging); columns:"
            f" {', '.join(names)}"
        )
    return columns if default is None else columns.replace(**{default: default})


def action_columns(source: Source, action: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The columns of the weights played, in order; those that begin with `action_` by default."""
    if action is not None:
        return _vector(source, action, "action")
    names = source.schema.names
    found = [name for name in names if name.startswith("action_")] or [
        name for name in names if name == "action"
    ]
    return tuple(_in_order(found)) or None


def weight_names(action: Sequence[str] | None, d: int) -> tuple[str, ...]:
    """The names of d weights: of their columns, of which one may hold them all."""
    names = tuple(action or ("action",))
    return names if len(names) == d else tuple(f"{', '.join(names)}[{k}]" for k in range(d))


def _vector(source, role, what):
    """The columns that a list of names (also as `a,b`), one name, a column of columns, a prefix or
    a pattern stands for.
    """
    if not role:
        raise ValueError(
            f"{source.name}: expected the names of the {what} columns, got none; leave the"
            " option out"
        )
    names = source.schema.names
    if isinstance(role, str) and role not in names and "," in role:
        role = [name.strip() for name in role.split(",")]
    if not isinstance(role, str):
        again = [name for k, name in enumerate(role) if name in role[:k]]
        if again:
            raise ValueError(
                f"{source.name}: expected each {what} column once, got {again[0]!r} again; name"
                " another, or leave it out"
            )
        return tuple(source.column(name) for name in role)
    if role in names and not is_nested(source.kind(role)):
        return (source.column(role),)
    within = f"{role}." if role in names else role
    found = [name for name in names if name.startswith(within)] or fnmatch.filter(names, role)
    if not found:
        raise ValueError(
            f"{source.name}: no {what} column {role!r}, and none that starts so; columns:"
            f" {', '.join(source.schema.names)}"
        )
    return tuple(source.column(name) for name in _in_order(found))


def _in_order(names):
    """By number where they differ in nothing else (w_2 before w_10), otherwise as in the file."""
    stems = {name.rstrip("0123456789") for name in names}
    numbered = len(stems) == 1 and not stems & set(names)
    return sorted(names, key=lambda name: int(name[len(min(stems)) :])) if numbered else names

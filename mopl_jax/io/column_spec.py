"""Which column of a log plays which role, before a value is looked at."""

from collections.abc import Sequence
from typing import NamedTuple

from mopl_jax.io.sources import Source
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy


class ColumnSpec(NamedTuple):
    """The columns of a log. `action`: names, a prefix, or one column (of numbers or of lists);
    the densities are of the logged action, under the logging policy or under a target policy;
    `log_` where the column holds logarithms.
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


def resolve(source: Source, roles: ColumnSpec, logging: Policy | None) -> ColumnSpec:
    """ColumnSpec with columns that exist; vectors as a tuple of names. ValueError for absent
    ones, or densities from nowhere.

    A column of the default name counts where no other is named, but for a mixture: of a pool
    each row has its own part's.
    """
    names = source.schema.names
    if not (roles.propensity or roles.log_propensity or isinstance(logging, Mixture)):
        default = next((name for name in ("log_propensity", "propensity") if name in names), None)
        if default is None and logging is None:
            raise ValueError(
                f"{source.name}: no propensities: name a column (--propensity, --log-propensity) or"
                f" a logging policy (--logging); columns: {', '.join(names)}"
            )
        roles = roles if default is None else roles._replace(**{default: default})
    for name in _scalars(roles):
        source.column(name)
    action = _action(source, roles)
    context = None if roles.context is None else _vector(source, roles.context, "context")
    return roles._replace(action=action, context=context)


def _scalars(roles):
    """The names of the single columns."""
    single = roles._replace(action=None, context=None)
    return [name for name in single if isinstance(name, str)]


def _action(source, roles):
    if roles.action is not None:
        return _vector(source, roles.action, "action")
    names = source.schema.names
    found = [name for name in names if name.startswith("action_")] or [
        name for name in names if name == "action"
    ]
    return tuple(_in_order(found)) or None


def _vector(source, role, what):
    """The columns that a list of names, one name or a prefix stands for."""
    if not role:
        raise ValueError(
            f"{source.name}: expected the names of the {what} columns, got none; leave the"
            " option out"
        )
    if not isinstance(role, str):
        return tuple(source.column(name) for name in role)
    if role in source.schema.names:
        return (source.column(role),)
    found = [name for name in source.schema.names if name.startswith(role)]
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


def columns_of(roles: ColumnSpec) -> list[str]:
    """Every column that is read, once."""
    return list(dict.fromkeys([*_scalars(roles), *(roles.action or ()), *(roles.context or ())]))


def text_of(roles: ColumnSpec) -> tuple[str, ...]:
    """Those that are labels, not numbers."""
    return () if roles.cluster is None else (roles.cluster,)

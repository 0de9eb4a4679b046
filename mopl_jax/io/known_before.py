"""Whether columns are what they are taken for: known before the action.

A column that the weights caused, as clicks, is no context, no covariate and no time feature: no
server knows it, and among rows that are alike in it rewards no longer tell what weights are worth.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mopl_jax.io import log_reader
from mopl_jax.io.context import recorded
from mopl_jax.io.dependence import dependence
from mopl_jax.io.kinds import is_list
from mopl_jax.io.log_reader import LogReader
from mopl_jax.numerics import quadratic
from mopl_jax.policies.contextual import is_contextual

LEVEL = 1e-4  # of a log all of whose columns were known before, as of all that refuses
LOOKED_AT = 2**18  # first rows of the log, and fewer of many weights
ENTRIES = 2**23  # of their actions
OF_ONE = 1e-6  # of the variance of log densities: what a normal policy leaves unexplained


def check_asked(reader: LogReader, targets: Sequence[Any] = (), adjust: bool = False) -> None:
    """`check_known_before` of the time feature, of covariates if `adjust`, and of the columns by
    which contextual `targets` tell rows apart.
    """
    columns = reader.columns
    asked: dict[str, str] = {}
    if columns.feature is not None:
        asked[columns.feature] = "--time-feature"
    if adjust:
        asked |= dict.fromkeys(columns.context or (), "covariate")
    for target in targets:
        if is_contextual(target):
            asked |= dict.fromkeys(target.columns, "context")
    for what in dict.fromkeys(asked.values()):
        check_known_before(reader, [name for name in asked if asked[name] == what], what)


def check_known_before(reader: LogReader, names: Sequence[str], what: str) -> None:
    """ValueError for a column that is the reward, a weight or a density, or that goes along with
    the actions of a log that one policy for all rows played; `what` is what it is taken for.
    """
    place, columns = reader.source.name, reader.columns
    known = {
        "reward": (columns.reward or "reward",),
        "action": columns.action or (),
        "density": (columns.density,),
    }
    for name in names:
        for role, own in known.items():
            if name in own:
                raise ValueError(
                    f"{place}: {what} column {name!r}: expected what is known before the action,"
                    f" got its {role}; name another"
                )
    found = _dependences(reader, names)
    user = (
        "" if columns.cluster else "; or is one draw several rows'? then name the user (--cluster)"
    )
    for name, p_value in found.items():
        if p_value * len(found) < LEVEL:
            raise ValueError(
                f"{place}: {what} column {name!r}: expected what is known before the action, got"
                f" what goes along with the weights that one policy drew for all (p = {p_value:.1g}"
                "): an outcome of them? name another; or had they been drawn by it? then name the"
                f" contextual policy (--logging){user}"
            )


def _dependences(reader, names) -> dict[str, float]:
    """The p-value of each column; none where it is not known that one policy drew all actions, or
    rows are not told apart.
    """
    columns, apart = reader.columns, reader.source.table is None and not reader.columns.aggregate
    known = apart and columns.action and not is_contextual(reader.logging)
    if not (known and set(names) <= set(reader.source.schema.names)):
        return {}
    rows, asked = _read(log_reader.of_the_log(reader), names)
    if reader.logging is None and not _of_one_policy(rows):
        return {}
    each = None if rows.log_sampling is None else np.exp(rows.log_sampling)
    return {
        name: dependence(rows.action, column, rows.cluster, rows.part, each)
        for name, column in asked.items()
    }


def _read(reader, names) -> tuple[Any, dict[str, Any]]:
    """First rows, and what they have of each column; one of lists is several."""
    context, listed = reader.columns.context, len(names) == 1
    listed = listed and is_list(reader.source.kind(names[0]))
    if listed and context == tuple(names):
        rows = _first(reader)
        return rows, {f"{names[0]}[{k}]": x for k, x in enumerate(rows.context.T)}
    recording, kinds = recorded(reader, names, True)
    rows = _first(recording)
    return rows, dict(zip(names, kinds.columns_of(rows.codes[-1]), strict=True))


def _first(reader):
    rows: Any = next(log_reader.chunks(reader, LOOKED_AT))
    few = max(ENTRIES // rows.action.shape[1], 1)
    return jax.tree.map(lambda x: x[:few], rows)


def _of_one_policy(rows) -> bool:
    """Whether log densities are those of one normal or log-normal policy for all rows."""
    action, density = rows.action, rows.log_propensity
    if not np.ptp(density) > 0:
        return False
    left = [quadratic.left_over(action, density)]
    if (action > 0).all():
        logarithm = np.log(action)
        left.append(quadratic.left_over(logarithm, density + logarithm.sum(axis=1)))
    return min(left) < OF_ONE

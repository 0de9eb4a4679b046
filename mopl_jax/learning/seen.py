"""What is known of the rows of a log before their actions, as learning by context needs it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mopl_jax.io import log_reader
from mopl_jax.io.context import context_of, recorded
from mopl_jax.io.log_reader import LogReader
from mopl_jax.learning.deviations import MOST, Situation, width
from mopl_jax.learning.personal import NETWORK, TABLE, first_layer
from mopl_jax.learning.segments import (
    Segmentation,
    check_levels,
    check_shared,
    segmentation,
)
from mopl_jax.logs import Logs
from mopl_jax.policies.context_normal import Input, features_of, input_of


class Seen(NamedTuple):
    """What is known of each row of a log before its action, and the user of each.

    `columns`: their names
    `situation`, `inputs`: as `Points` has them, of all rows
    `blocks`: of deviations
    `logs`: the rows
    `table`: the segments of a table; None of a function
    `features`: how the columns of a function become its inputs
    `codes`: how production sees each row, where it depends on the context
    `now` (n, d): the current weights of each row, where they do; in the space that is learnt in
    """

    columns: tuple[str, ...]
    situation: Situation
    inputs: Float[np.ndarray, "n q"]
    blocks: int
    logs: Logs
    table: Segmentation | None = None
    features: tuple[Input, ...] = ()
    codes: Any = None
    now: Any = None

    def at(self, kept: Any) -> "Seen":
        """Of the rows that are `kept` (n,)."""
        return self._replace(
            situation=Situation(self.situation.place[kept], self.situation.local[kept]),
            inputs=self.inputs[kept],
            codes=None if self.codes is None else self.codes[kept],
            now=None if self.now is None else self.now[kept],
        )


def seen_of(reader: LogReader, names: tuple[str, ...], mean: str, production: Any = None) -> Seen:
    """What a mean of this kind sees, and how a `production` by context sees the same rows;
    ValueError in one line for columns that say nothing to it.
    """
    if production is not None:
        context = context_of(production, reader.source, reader.columns, "production")
        reader = reader._replace(contexts=(*reader.contexts, context))
    recording, kinds = recorded(reader, names, mean != TABLE)
    rows: Any = log_reader.whole(recording)
    found = _seen(reader, rows, names, kinds, mean)
    return found if production is None else found._replace(codes=np.asarray(rows.codes[-2]))


def _seen(reader, rows, names, kinds, mean) -> Seen:
    columns = kinds.columns_of(rows.codes[-1])
    logs: Any = Logs(rows.action, rows.log_propensity, rows.reward, cluster=rows.cluster)
    place, d = reader.source.name, rows.action.shape[1]
    for name, column, numeric in zip(names, columns, kinds.measured, strict=True):
        if isinstance(column, np.ndarray):
            _check_numbers(column, name, place)
        else:
            check_levels(column, name, place, rows.cluster, numeric)
    if mean == TABLE:
        found = segmentation(columns, names, place, MOST // width(d))
        check_shared(found, names, place, rows.cluster)
        situation = Situation(found.code, np.ones((len(found.code), 1)))
        return Seen(
            names, situation, np.zeros((len(found.code), 0)), len(found.values), logs, found
        )
    inputs = tuple(map(input_of, names, columns))
    x, known, _ = features_of(inputs, columns)
    local: Any = x
    if mean == NETWORK:
        matrix, bias = map(np.asarray, first_layer(x.shape[1], float))
        local = np.concatenate([x, np.tanh(x @ matrix.T + bias)], axis=1)
    if local.shape[1] * width(d) > MOST:
        raise ValueError(
            f"{place}: context: {local.shape[1]} features and {d} weights are {width(d)} times as"
            f" many coefficients, of which {MOST:,} are the most; group levels"
        )
    return Seen(names, Situation(np.where(known, 0, 1), local), x, 1, logs, None, inputs)


def _check_numbers(column, name, place):
    there = column[~np.isnan(column)]
    if not len(there) or np.ptp(there) == 0 and len(there) == len(column):
        raise ValueError(
            f"{place}: context column {name!r}: all rows are alike: there is nothing to tell"
            " apart; name a column that varies"
        )


def check_no_user(reader: LogReader, names: Sequence[str]) -> None:
    """ValueError for a context with the column of the user."""
    columns = reader.columns
    if columns.cluster in names:
        raise ValueError(
            f"{reader.source.name}: context column {columns.cluster!r}: it names the user, and"
            " nothing is learnt of one for another; name what many share"
        )


def context_names(context: str | Sequence[str], reader: LogReader) -> tuple[str, ...]:
    """The columns of a context, by the names that the log has."""
    names = context.split(",") if isinstance(context, str) else context
    return tuple(reader.source.column(name.strip()) for name in names)

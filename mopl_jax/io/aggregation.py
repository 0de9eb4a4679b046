"""Rows of users added up: one outcome a user, where a user's action is one."""

import pyarrow as pa

from mopl_jax.io.arrow import kernels as pc
from mopl_jax.io.column_spec import ColumnSpec
from mopl_jax.io.columns import Place, numbers
from mopl_jax.io.kinds import alike, is_number
from mopl_jax.io.source import Source, empty
from mopl_jax.io.sources import open_source
from mopl_jax.numerics.check import choose

HOW = {"sum": "sum", "mean": "mean", "any": "max", "last": "last"}  # as Arrow calls it


def aggregated(source: Source, columns: ColumnSpec) -> tuple[Source, ColumnSpec]:
    """One row a user, held in memory, and its columns: the user is then the row.

    The reward is the sum or mean of the user's rewards, whether any is not 0, or the last one, by
    time where there is one. Weights and densities must be the same in all rows of a user; what was
    known before is averaged, and the time is the first. ValueError for a user of several actions.
    """
    how = columns.aggregate
    if how is None:
        return source, columns
    choose([how], HOW, "--aggregate")
    if columns.cluster is None or columns.reward is None:
        raise ValueError("--aggregate: rows of one user are added up: name the user (--cluster)")
    if columns.count or columns.sampling_weight or columns.keep_probability:
        raise ValueError("--aggregate: expected rows that stand for themselves; drop the counts")
    table = _table(source, columns)
    same = [*(columns.action or ()), *filter(None, map(columns.column_of, _DENSITIES))]
    asked = [(columns.reward, HOW[how]), *((name, end) for name in same for end in ("min", "max"))]
    asked += [(name, "mean") for name in columns.context or ()]
    asked += [(name, "sum") for name in (columns.per,) if name]
    asked += [(name, "min") for name in (columns.time,) if name]
    groups = table.group_by(columns.cluster, use_threads=False).aggregate(
        list(dict.fromkeys(asked))
    )
    for name in same:
        _check_constant(groups, name, columns.cluster, source.name)
    made = {
        name: groups[f"{name}_{end}"] for name, end in asked if end != "max" or name not in same
    }
    said = f"{table.num_rows:,} rows are {groups.num_rows:,} users, their rewards by {how}"
    users = open_source(pa.table(made))._replace(name=source.name, remarks=(*source.remarks, said))
    return users, columns.replace(cluster=None, aggregate=None)


_DENSITIES = ("propensity", "log_propensity", "target_propensity", "log_target_propensity")


def _table(source, columns):
    pieces = list(alike(source.scan(columns.names, (columns.cluster,))))
    for piece in pieces:
        reward = piece.rows.column(columns.reward)
        numbers(reward, Place(piece.place, columns.reward, piece.first_row))
    if not sum(piece.rows.num_rows for piece in pieces):
        raise ValueError(empty(source.name))
    parts = [pa.Table.from_batches([piece.rows]) for piece in pieces]
    table = pa.concat_tables(parts, promote_options="permissive")
    for name in columns.action or ():
        if not is_number(table.schema.field(name).type):
            raise ValueError(
                f"{source.name}: column {name!r}: --aggregate needs a column of numbers for each"
                " weight; name them with --action"
            )
    if columns.time is not None:
        table = table.sort_by(columns.time)
    reward = table[columns.reward].cast(pa.float64())
    if columns.aggregate == "any":
        reward = pc.not_equal(reward, 0).cast(pa.float64())
    return table.set_column(table.schema.get_field_index(columns.reward), columns.reward, reward)


def _check_constant(groups, name, cluster, place):
    low, high = groups[f"{name}_min"], groups[f"{name}_max"]
    differ = pc.fill_null(pc.not_equal(low, high), True).to_pylist()
    if any(differ):
        row = differ.index(True)
        raise ValueError(
            f"{place}: column {name!r}: expected one value for all rows of a user, got {low[row]}"
            f" to {high[row]} for {groups[cluster][row]}; rows that each have an action of their"
            " own are not added up: drop --aggregate"
        )

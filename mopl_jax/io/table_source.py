"""A table of a query engine as a source: scanned only by what holds rows in memory."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mopl_jax.io.source import Piece, Source, empty
from mopl_jax.warehouse.connection import open_table, public, said
from mopl_jax.warehouse.queries import Queries, is_nan

REFUSED = ("count", "sum_of_squares", "aggregate", "fit_logging")


def table_source(table: Any) -> Source:
    """The source of a table of ibis, or of the one that a connection string names."""
    name = public(table) if isinstance(table, str) else _name_of(table)
    if isinstance(table, str):
        table = open_table(table)
    with said(name):
        table = _in_an_engine(table)
        schema = table.schema().to_pyarrow()

    def scan(names, text):
        first = 0  # all at once: batches of ibis 12 are not those of DuckDB 2
        for rows in Queries(table, name).arrow(table.select(list(names))).to_batches(2**17):
            yield Piece(name, first, rows)
            first += rows.num_rows

    def count():
        return Queries(table, name).rows(table.aggregate(n=table.count()))[0]["n"]

    return Source(name, schema, scan, functools.cache(count), table=table)


def _name_of(table):
    try:
        return table.get_name()
    except Exception:  # an expression has none
        return "table"


def _in_an_engine(table):
    """The table, or what is in memory as one of DuckDB's."""
    import ibis

    if table.op().find(ibis.expr.operations.InMemoryTable):
        connection = ibis.duckdb.connect()
        connection.con.register("log", table.to_pyarrow())
        return connection.table("log")
    return table


def check_roles(source: Source, columns: Any) -> None:
    """ValueError for a role that only rows in memory can play."""
    given = [role for role in REFUSED if getattr(columns, role)]
    if source.table is not None and given:
        raise ValueError(
            f"{source.name}: --{given[0].replace('_', '-')} is for rows that are read, and these"
            " stay in their engine; make a view that does it, or export them to Parquet"
        )


def with_rewards(source: Source, name: str, remedy: str, said: Callable) -> Source:
    """The source whose rows all have the reward `name`: others are dropped, or have reward 0."""
    column = source.table[name]
    missing = column.isnull()
    if column.type().is_floating():
        missing = missing | is_nan(source.table.get_backend(), column)
    (found,) = _rows(source, source.table.aggregate(x=missing.sum()))
    if remedy == "drop":
        table = source.table.filter(~missing)
    else:
        table = source.table.mutate(**{name: missing.ifelse(0, column)})
    return table_source(table)._replace(
        name=source.name, remarks=said(source, found["x"] or 0, remedy)
    )


def _rows(source, expression):
    return Queries(source.table, source.name).rows(expression)


def extent(source: Source, names: Sequence[str]) -> tuple[float, float]:
    """The smallest and the largest entry of some columns."""
    ends = {
        f"{end}{k}": getattr(source.table[x].cast("float64"), end)()
        for k, x in enumerate(names)
        for end in ("min", "max")
    }
    (found,) = _rows(source, source.table.aggregate(**ends))
    return min(found.values()), max(found.values())


def distinct(source: Source, names: Sequence[str], most: int) -> np.ndarray:
    """The different rows (k, c) of some columns, as numbers; at most so many of them."""
    columns = {name: source.table[name].cast("float64") for name in names}
    found = _rows(source, source.table.select(**columns).distinct().limit(most))
    return np.array([[row[name] for name in names] for row in found])


def sampling(source: Source, weight: str | None, probability: str | None) -> tuple:
    """The mean of how many rows each row speaks for, and the smallest and largest over it."""
    name = str(weight or probability)
    column = source.table[name].cast("float64")
    facts = {"n": column.count(), "rows": source.table.count(), "low": column.min()}
    each = column if weight else (column > 0).ifelse(1 / column, None)
    facts |= {"high": column.max(), "mean": each.mean(), "least": each.min(), "most": each.max()}
    (found,) = _rows(source, source.table.aggregate(**facts))
    if not found["rows"]:
        raise ValueError(empty(source.name))
    fine = found["n"] == found["rows"] and found["low"] > 0 and (weight or found["high"] <= 1)
    if not (fine and found["most"] < float("inf")):
        expected = "sampling weights > 0" if weight else "probabilities in (0, 1]"
        raise ValueError(
            f"{source.name}: column {name!r}: expected {expected}, got {found['low']} to"
            f" {found['high']}, {found['rows'] - found['n']:,} missing; repair these rows"
        )
    return found["mean"], found["least"] / found["mean"], found["most"] / found["mean"]

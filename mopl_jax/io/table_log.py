"""A log whose rows stay in a query engine: its columns, checked there, and what a first look says.

Complaints are those of a log that is read, with how many rows are wrong in place of the first one's
number: rows of a table have none.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from mopl_jax.io.kinds import is_number, is_time
from mopl_jax.io.log_reader import AGREE, DENSITIES, LOOKED_AT, LogReader, Rows
from mopl_jax.io.missing import REMEDY
from mopl_jax.io.precision import DECIMALS, DIGITS, Precision, precision_by
from mopl_jax.io.source import empty
from mopl_jax.warehouse.queries import Queries, is_infinite, is_nan, nearest, rounded
from mopl_jax.warehouse.traced import GROUPS, ROWS, Column, run


class TableLog(NamedTuple):
    """A log in an engine.

    `rows`: its columns, as a traced function sees them
    `queries`: the engine's
    `n`, `users`: rows, and users where the log knows them
    `ranges`: smallest and largest entry of each column of `queries.table`
    """

    rows: Rows
    queries: Queries
    n: int
    users: int | None
    ranges: dict[str, tuple[float | None, float | None]]

    def sums(self, function: Any, *arguments: Any) -> Any:
        """`function(rows, *arguments)` of JAX, computed by the engine."""
        sizes = {ROWS: self.n} | ({} if self.users is None else {GROUPS: self.users})
        return run(function, self.rows, arguments, self.queries, sizes)


def table_log(reader: LogReader) -> TableLog:
    """The log of a reader whose source is a table; ValueError for rows that are not what they
    should be.
    """
    given, columns = reader.source.table, reader.columns
    names = _names(reader)
    base = given.select(**{own: _typed(reader, given, own, name) for own, name in names.items()})
    queries = Queries(base, reader.source.name)
    n, found = _count(queries, base, names)
    if not n:
        raise ValueError(empty(reader.source.name))
    for own, name in names.items():
        _check(reader, own, name, n, found[own])
    table = base.mutate(**_logarithms(reader, base))
    queries = queries.of(table)
    actions = tuple(f"action_{k}" for k in range(len(columns.action or ())))
    context = tuple(f"context_{k}" for k in range(len(columns.context or ())))
    present: dict[str, Any] = {  # columns of the engine, which are arrays where they are traced
        "reward": Column("reward"),
        "action": Column(actions) if actions else None,
        "log_propensity": Column("log_propensity") if columns.density else None,
        "log_target": Column("log_target") if "log_target" in names else None,
        "cluster": Column("cluster", whole=True) if columns.cluster else None,
        "time": Column("time") if columns.time else None,
        "context": Column(context) if context else None,
        "log_sampling": Column("log_sampling") if reader.sampling else None,
        "per": Column("per") if columns.per else None,
    }
    users = found["cluster"].different if columns.cluster else None
    ranges = {own: (x.low, x.high) for own, x in found.items() if own != "cluster"}
    return TableLog(Rows(**present), queries, n, users, ranges)


# Columns.


class _Entries(NamedTuple):
    """What an engine counts of the entries of a column; None where it counts none.

    `missing`, `empty`: entries, and texts without a character
    `different`: users
    `odd`, `below`: not finite, and of these below 0
    `low`, `high`: the smallest and the largest finite one
    """

    missing: int | None
    empty: int | None = None
    different: int | None = None
    odd: int | None = None
    below: int | None = None
    low: Any = None
    high: Any = None


def _names(reader) -> dict[str, str]:
    """The columns of the log by what they are called here."""
    columns = reader.columns
    roles = {
        "reward": columns.reward,
        "log_propensity": columns.log_propensity or columns.propensity,
        "log_target": columns.log_target_propensity or columns.target_propensity,
        "cluster": columns.cluster,
        "time": columns.time,
        "log_sampling": columns.sampling_weight or columns.keep_probability,
        "per": columns.per,
    }
    for role in ("action", "context"):
        roles |= {f"{role}_{k}": name for k, name in enumerate(getattr(columns, role) or ())}
    return {own: name for own, name in roles.items() if name is not None}


def _typed(reader, table, own, name):
    """A column as float64; a user as it is."""
    column, kind = table[name], reader.source.kind(name)
    if own == "cluster":
        if pa.types.is_nested(kind):
            raise ValueError(
                f"{reader.source.name}: column {name!r}: expected numbers or text, got {kind};"
                " name another"
            )
        return column
    if own == "time" and is_time(kind):
        return column.cast("timestamp").epoch_seconds().cast("float64")
    if not is_number(kind):
        raise ValueError(
            f"{reader.source.name}: column {name!r}: expected numbers, got {kind}; name or make a"
            " numeric column"
        )
    number = column.cast("float64")
    return 0.0 - number if own == "reward" and reader.negated else number


def _logarithms(reader, table) -> dict[str, Any]:
    """Log densities and log sampling weights in place of what they are logarithms of."""
    columns, made = reader.columns, {}
    if columns.propensity and not columns.log_propensity:
        made["log_propensity"] = table.log_propensity.ln()
    if columns.target_propensity and not columns.log_target_propensity:
        density = table.log_target
        made["log_target"] = (density > 0).ifelse(density.ln(), -math.inf)
    if reader.sampling is not None:
        each = table.log_sampling
        each = each if columns.sampling_weight else 1 / each
        made["log_sampling"] = (each / reader.sampling.mean).ln()
    return made


def _count(queries, table, names) -> tuple[int, dict[str, _Entries]]:
    """The number of rows, and what is counted of the entries of each column."""
    asked = {own: _counted(queries.engine, table[own], own == "cluster") for own in names}
    each = {f"{own}_{x}": count for own, counts in asked.items() for x, count in counts.items()}
    (found,) = queries.rows(table.aggregate(n=table.count(), **each))
    entries = {
        own: _Entries(**{x: found[f"{own}_{x}"] for x in counts}) for own, counts in asked.items()
    }
    return found["n"], entries


def _counted(engine, column, is_user) -> dict[str, Any]:
    """The expressions of `_Entries`; sums over no rows are None."""
    asked = {"missing": column.isnull().sum()}
    if is_user:
        asked["different"] = column.nunique()
    if is_user and column.type().is_string():
        asked["empty"] = (column == "").sum()
    if column.type().is_floating():
        infinite = is_infinite(engine, column)
        odd = is_nan(engine, column) | infinite
        finite = odd.ifelse(None, column)
        asked |= {"odd": odd.sum(), "below": (infinite & (column < 0)).sum()}
        asked |= {"low": finite.min(), "high": finite.max()}
    return asked


def _check(reader, own, name, n, entries):
    """ValueError for entries of a column that are not what they should be."""
    columns = reader.columns

    def refuse(expected, got, remedy):
        raise ValueError(
            f"{reader.source.name}: column {name!r}: expected {expected}, got {got}; {remedy}"
        )

    if missing := entries.missing:
        remedy = REMEDY if own == "reward" else "fill in or drop these rows"
        refuse("a value", f"a missing value, in {missing:,} of {n:,} rows", remedy)
    if entries.empty:
        refuse("a cluster", f"an empty text, in {entries.empty:,} rows", "name or drop it")
    odd = entries.odd or 0
    if own == "log_target" and columns.log_target_propensity:
        odd -= entries.below or 0
    if odd:
        refuse("finite numbers", f"others in {odd:,} of {n:,} rows", "repair or drop these rows")
    low, high = entries.low, entries.high
    logs = {"log_propensity": columns.log_propensity, "log_target": columns.log_target_propensity}
    if low is None or high is None:
        return
    if own in logs and not logs[own]:
        if low < 0:
            refuse("densities ≥ 0", f"{low:g}", "these look like log densities: name them so")
        if low == 0 and own == "log_propensity":
            refuse("densities > 0", "0", "a logged action had positive propensity: repair the rows")
    if own == "per" and low < 0:
        refuse("numbers ≥ 0", f"{low:g}", "what is counted by is not negative")
    if own == "reward" and reader.reward_range is not None:
        least, most = reader.reward_range
        if low < least or high > most:
            remedy = "declare the range that the platform guarantees, or repair the rows"
            refuse(f"rewards in [{least:g}, {most:g}]", f"{low:g} to {high:g}", remedy)


# A first look.


def precisions(reader: LogReader, log: TableLog) -> tuple[tuple[str, Precision], ...]:
    """How precisely the columns of densities were written, by their first rows."""
    found = []
    for own, (plain, logged) in DENSITIES.items():
        name = getattr(reader.columns, logged) or getattr(reader.columns, plain)
        if name is not None:
            single = reader.source.kind(name) in (pa.float32(), pa.float16())
            is_log = getattr(reader.columns, logged) is not None
            found.append((own, _precision(log, own, single, is_log)))
    return tuple(found)


def _precision(log, own, single, is_log):
    first = log.queries.table.limit(LOOKED_AT)
    value = first[own] if is_log else first[own].exp()
    values = first.select(x=value.abs())
    values = values.filter((values.x > 0) & ~is_infinite(log.queries.engine, values.x)).distinct()
    shift = values.x.log10().floor()
    asked = {f"d{k}": rounded(values.x, k).all() for k in range(DECIMALS + 1)}
    for k in range(4, DIGITS + 1):
        scaled = values.x * 10.0 ** (k - 1 - shift)
        asked[f"s{k}"] = ((scaled - nearest(scaled)).abs() <= 1e-5 * (k == DIGITS) + 1e-7).all()
    asked |= {"n": values.count(), "inverse": (1 / values.x).mean()}
    (found,) = log.queries.rows(values.aggregate(**asked))
    decimals = next((k for k in range(DECIMALS + 1) if found[f"d{k}"] is not False), math.inf)
    digits = next((k for k in range(4, DIGITS + 1) if found[f"s{k}"] is not False), np.inf)
    facts = found["n"], decimals, digits, found["inverse"] or 0.0
    return precision_by(*facts, single=single, log=is_log)


def check_table_densities(
    reader: LogReader, log: TableLog, written: tuple[tuple[str, Precision], ...]
) -> None:
    """ValueError where a propensity column contradicts the logging policy, in any row."""
    if reader.columns.density is None or reader.logging is None:
        return
    import jax

    rounding = dict(written).get("log_propensity", Precision())

    def beyond(rows, policy):
        declared = jax.vmap(policy.log_density)(rows.action)
        gap = jnp.abs(declared - rows.log_propensity)
        fine = gap <= AGREE + rounding.error(rows.log_propensity)
        return jnp.sum(jnp.where(fine, 0.0, 1.0))

    if wrong := int(log.sums(beyond, reader.logging)):
        raise ValueError(
            f"{reader.source.name}: column {reader.columns.density!r}: expected the log density of"
            f" the logging policy, got others in {wrong:,} of {log.n:,} rows: name the one that was"
            " played, rename the other away"
        )

"""How the reader of a log comes to be: its columns are found, its logging policy is read or
estimated, and what each of its rows speaks for is told.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax

from mopl_jax.io.aggregation import aggregated
from mopl_jax.io.column_spec import ColumnSpec, action_columns, resolve
from mopl_jax.io.context import context_of
from mopl_jax.io.half_life import chosen_half_life
from mopl_jax.io.log_reader import PICKED_FROM, LogReader, as_logged, check_weights, room
from mopl_jax.io.missing import with_rewards
from mopl_jax.io.policy_json import given_policy, read_policy
from mopl_jax.io.recency import AUTO, half_life_text, recency_of
from mopl_jax.io.sampling import counted, said_of, sampling_of
from mopl_jax.io.source import Source, empty
from mopl_jax.io.table_source import check_roles
from mopl_jax.policies.contextual import is_contextual, log_densities
from mopl_jax.policies.policy import Policy, check_policy

FITTED = 2**20  # rows from which a logging policy is estimated


def log_reader_of(
    source: Source, columns: ColumnSpec, logging: Policy | Path | str | None
) -> LogReader:
    """A reader of columns that exist; ValueError where the logging policy has other weights."""
    names = action_columns(source, columns.action) or _named_by(logging, source)
    columns = columns.replace(action=names)
    logging = logging_policy(logging, names or ())
    columns = resolve(source, columns, logging)
    check_roles(source, columns)
    source, columns = aggregated(prepared(source, columns), columns)
    if columns.half_life == AUTO:
        source, columns = _with_half_life(LogReader(source, columns, logging))
    sampling = sampling_of(source, columns)
    source = said_of(source, columns, sampling)
    if columns.fit_logging:
        source, logging = _fitted(LogReader(source, columns, logging, sampling=sampling))
    if logging is None:
        return LogReader(source, columns, sampling=sampling)
    if columns.action is None:
        raise ValueError(
            f"{source.name}: a logging policy needs the actions: name their columns (--action)"
        )
    contexts, log_density = (), jax.jit(jax.vmap(logging.log_density))
    if is_contextual(logging):
        contexts = (context_of(logging, source, columns, "logging policy"),)
        log_density = jax.jit(functools.partial(log_densities, logging))
    reader = LogReader(
        source, columns, logging, log_density=log_density, sampling=sampling, contexts=contexts
    )
    check_weights(reader, logging, "logging policy")
    return reader


def prepared(source: Source, columns: ColumnSpec) -> Source:
    """The source as it is counted: rows without a reward gone or filled, equal rows apart."""
    return counted(with_rewards(source, columns.reward, columns.missing_reward), columns)


def _named_by(logging, source: Source) -> tuple[str, ...] | None:
    """The objectives of a logging policy's document, where the log has a column of each name."""
    if not isinstance(logging, str | Path):
        return None
    names = read_policy(logging)[1].get("objectives") or ()
    return tuple(names) if names and set(names) <= set(source.schema.names) else None


def logging_policy(logging: Policy | Path | str | None, names: Sequence[str] = ()) -> Policy | None:
    """A policy, or the one in a JSON document, in the order of the `names` of the weights."""
    logging = given_policy(logging, names)
    return logging if logging is None else check_policy(logging, "logging")


def _with_half_life(reader: LogReader) -> tuple[Source, ColumnSpec]:
    """The source, which says so, and the columns with the half-life that predicts best."""
    source, columns = reader.source, reader.columns
    recency_of(source, columns)  # which refuses what has no times
    if columns.action is None:
        raise ValueError(f"{source.name}: --half-life auto: of which weights? name them (--action)")

    found = chosen_half_life(lambda: as_logged(reader, PICKED_FROM))
    said = half_life_text(source, columns, found)
    how = "none, older rows are as good as later ones" if said is None else said
    told = f"the half-life was chosen by how well surfaces predicted the rows after them: {how}"
    source = source._replace(remarks=(*source.remarks, told))
    return source, columns.replace(half_life=said)


def _fitted(reader: LogReader) -> tuple[Source, Policy]:
    """The source, which says so, and the logging policy that its actions look drawn from."""
    from mopl_jax.io.fitting import fit_logging  # on demand: scipy takes a third of jax's import

    name = reader.source.name
    if reader.logging is not None or reader.columns.density:
        raise ValueError(f"{name}: --fit-logging: expected a log without densities; drop one")
    thinned = reader.columns.sampling_weight or reader.columns.keep_probability
    if reader.columns.action is None or thinned:
        raise ValueError(f"{name}: --fit-logging: expected actions, and rows that are not thinned")
    rows = next(as_logged(reader, room(reader, FITTED)), None)
    if rows is None:
        raise ValueError(empty(name))
    found = fit_logging(rows, name)
    said = (
        f"the logging policy was estimated from {len(rows.reward):,} actions of {name}:"
        f" {found.family}, {found.numbers} numbers; densities are guesses, log those of each action"
    )
    return reader.source._replace(remarks=(*reader.source.remarks, said)), found.policy

"""Log tables in: which column plays which role, and their values as float64 arrays, checked
once, at this door.

Every complaint is a one-line ValueError: file, column, row, what was expected, the remedy. Rows
count from 1, the first row of data (a CSV header is not counted).

A `LogReader` is a log that can be read, whole (`read_logs`) or in chunks of rows (`chunks`).
`open_log` makes one from a path or a table and roles by keyword, or from a small TOML file that
says the same:

    path = "week.parquet"        # or several: [[files]] with path and logging each; pooled by
    mixture weights action = "w_"                # a prefix, one list column, or a list of names
    reward = "retained" logging = "logging.json"     # or log_propensity = "column" cluster =
    "user"
"""

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mopl_jax.io.column_spec import ColumnSpec, columns_of, resolve, text_of
from mopl_jax.io.columns import Place, codes, is_list, log_density, numbers, seconds, vectors
from mopl_jax.io.policy_json import dimension, read_policy
from mopl_jax.io.sources import Piece, Source, open_source, pooled
from mopl_jax.logs import Logs
from mopl_jax.numerics.check import choose
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy


class Rows(NamedTuple):
    """Consecutive rows of a log; None for what it does not have. `log_target` −inf where the target
    cannot play.
    """

    reward: Float[np.ndarray, " n"]
    action: Float[np.ndarray, "n d"] | None
    log_propensity: Float[np.ndarray, " n"] | None
    log_target: Float[np.ndarray, " n"] | None
    cluster: Int[np.ndarray, " n"] | None
    time: Float[np.ndarray, " n"] | None
    context: Float[np.ndarray, "n c"] | None


class LogReader(NamedTuple):
    """A log that can be read: rows, the resolved columns of every role, and the logging policy
    where it is known.

    Log propensities are those of the propensity column where there is one, and the policy's
    otherwise. A reward outside of `reward_range`, if that is declared, is a ValueError that
    names its row: bounds that use the range would not hold.
    """

    source: Source
    columns: ColumnSpec
    logging: Policy | None = None
    reward_range: tuple[float, float] | None = None


def open_log(source: Any, *, logging: Policy | Path | str | None = None, **roles: Any) -> LogReader:
    """A log from a path (file, folder, or a TOML that describes one), a table or a `Source`;
    `roles` as in `ColumnSpec`.

    Without a propensity role the column `log_propensity` or `propensity` serves if there is one;
    then `logging`, a policy or the path of its JSON document (`check_densities` compares the
    two). ValueError for columns that are not there, or densities from nowhere.
    """
    if isinstance(source, LogReader):
        return source
    given = {key: value for key, value in roles.items() if value is not None}
    if isinstance(source, str | Path) and Path(source).suffix.lower() == ".toml":
        return _described(Path(source), logging, given)
    rows = open_source(source)
    policy = _policy(logging)
    reader = LogReader(rows, resolve(rows, ColumnSpec(**given), policy), policy)
    _check_dimension(reader)
    return reader


def _policy(logging) -> Policy | None:
    return read_policy(logging)[0] if isinstance(logging, str | Path) else logging


def read_logs(source: Any, *, logging: Policy | Path | str | None = None, **roles: Any) -> Logs:
    """All rows of a log as `Logs`, numpy float64, clusters numbered from 0; arguments and errors
    as in `open_log`.

    read_logs("week.parquet", action="w_", reward="retained", logging="logging.json",
    cluster="user")
    """
    reader = open_log(source, logging=logging, **roles)
    if reader.columns.action is None:
        raise ValueError(
            f"{reader.source.name}: no action columns; name them, for instance action='w_'"
        )
    rows = whole(reader)
    columns = rows.action, rows.log_propensity, rows.reward, rows.context, rows.cluster, rows.time
    return Logs(*columns)  # pyright: ignore[reportArgumentType]  (numpy columns)


def whole(reader: LogReader) -> Rows:
    """All rows."""
    return next(chunks(reader, None))


def chunks(reader: LogReader, size: int | None) -> Iterator[Rows]:
    """All rows, `size` at a time, the last chunk shorter; all at once if None. ValueError if there
    are none.
    """
    rows = reader.source.scan(columns_of(reader.columns), text_of(reader.columns))
    known: dict = {}
    propensity = _propensity(reader)
    parts = (_rows(reader, piece, known) for piece in rows if piece.rows.num_rows)
    some = False
    for chunk in _in_chunks(parts, size):
        some = True
        yield (
            chunk._replace(log_propensity=propensity(chunk))
            if chunk.log_propensity is None
            else chunk
        )
    if not some:
        name = reader.source.name
        raise ValueError(
            f"{name}: expected at least one row, got an empty log; check the export that"
            " produced it"
        )


def _in_chunks(parts, size):
    held, count = [], 0
    for part in parts:
        held, count = [*held, part], count + len(part.reward)
        while size is not None and count >= size:
            joined = _join(held)
            yield jax.tree.map(lambda column: column[:size], joined)
            held, count = [jax.tree.map(lambda column: column[size:], joined)], count - size
    if count:
        yield _join(held)


def _join(parts):
    return (
        parts[0]
        if len(parts) == 1
        else jax.tree.map(lambda *columns: np.concatenate(columns), *parts)
    )


def _check_dimension(reader):
    """ValueError where the logging policy has other weights than the log."""
    columns = reader.columns.action
    if reader.logging is None:
        return
    if columns is None:
        raise ValueError(
            f"{reader.source.name}: a logging policy needs the actions: name their columns"
            " (--action)"
        )
    check_weights(reader, reader.logging, "logging policy")


def check_weights(reader: LogReader, policy: Policy, what: str) -> None:
    """ValueError unless `policy` has as many weights as the log's action has columns; lists are
    checked as they come.
    """
    columns = reader.columns.action or ()
    try:
        d = dimension(policy)
    except StopIteration:  # a policy of the user's own
        return
    if len(columns) != d and not _is_list_column(reader):
        raise ValueError(
            f"{reader.source.name}: the {what} has {d} weights, the log's action {len(columns)}: "
            f"{', '.join(columns) or 'none'}; name the action columns in the policy's order"
        )


AGREE = 0.01  # log densities of column and policy within this: the column may be rounded


def check_densities(reader: LogReader, rows: int | None = 10_000) -> None:
    """ValueError where a propensity column contradicts the logging policy, in the first `rows` of
    the log or in all (None).
    """
    stated, policy = reader.columns.propensity or reader.columns.log_propensity, reader.logging
    if stated is None or policy is None:
        return
    first = next(chunks(reader, rows))
    declared = np.asarray(jax.jit(jax.vmap(policy.log_density))(jnp.asarray(first.action)))
    fine = np.abs(declared - first.log_propensity) <= AGREE
    remedy = (
        f"the logging policy says {declared[np.argmin(fine)]:.4g}: name the one that was played,"
        " rename the other away"
    )
    where = Place(reader.source.name, stated)
    where.require(fine, first.log_propensity, "the log density of the logging policy", remedy)


def _is_list_column(reader):
    columns = reader.columns.action or ()
    return len(columns) == 1 and is_list(reader.source.schema.field(columns[0]).type)


# The values.


def _rows(reader, piece: Piece, known) -> Rows:
    """A piece as arrays."""
    roles, place = reader.columns, Place(piece.place, "", piece.first_row)

    def reward():
        values = numbers(piece.rows.column(roles.reward), place._replace(name=roles.reward))
        if reader.reward_range is not None:
            low, high = reader.reward_range
            remedy = "declare the range that the platform guarantees, or repair the row"
            fine = (values >= low) & (values <= high)
            place._replace(name=roles.reward).require(
                fine, values, f"a reward in [{low:g}, {high:g}]", remedy
            )
        return values

    def column(name, read, **options):
        return (
            None
            if name is None
            else read(piece.rows.column(name), place._replace(name=name), **options)
        )

    def density(plain, log, zero):
        name = log or plain
        return column(name, log_density, log=log is not None, zero=zero)

    return Rows(
        reward=reward(),
        action=_matrix(roles.action, column, piece, reader.logging),
        log_propensity=density(roles.propensity, roles.log_propensity, zero=False),
        log_target=density(roles.target_propensity, roles.log_target_propensity, zero=True),
        cluster=column(roles.cluster, codes, known=known),
        time=column(roles.time, seconds),
        context=_matrix(roles.context, column, piece, None),
    )


def _matrix(names, column, piece, policy):
    """The columns side by side, (n, d); a column of lists as it is."""
    if names is None:
        return None
    if len(names) == 1 and is_list(piece.rows.schema.field(names[0]).type):
        return column(names[0], vectors, d=None if policy is None else dimension(policy))
    return np.stack([column(name, numbers) for name in names], axis=1)


def _propensity(reader):
    """Log propensities of a chunk under the logging policy, compiled once a shape."""
    name, first = reader.source.name, 0
    policy = reader.logging
    density = jax.jit(
        jax.vmap(policy.log_density if policy is not None else lambda action: action[0])
    )

    def propensity(rows):
        nonlocal first
        values = np.asarray(density(jnp.asarray(rows.action)), np.float64)
        remedy = "the logging policy cannot have played this action: is it the one of this log?"
        Place(name, "action", first).require(
            np.isfinite(values), values, "a finite log propensity", remedy
        )
        first += len(values)
        return values

    return propensity


def read_columns(path: Path | str, names: Sequence[str]) -> dict[str, Float[np.ndarray, " n"]]:
    """Columns `names` of a file, float64, (n,) each with n ≥ 1; booleans become 0 and 1. ValueError
    as for a log.
    """
    source, names = open_source(path), list(dict.fromkeys(names))
    for name in names:
        source.column(name)
    parts = [
        {
            name: numbers(piece.rows.column(name), Place(piece.place, name, piece.first_row))
            for name in names
        }
        for piece in source.scan(names, ())
        if piece.rows.num_rows
    ]
    if not parts:
        raise ValueError(
            f"{path}: expected at least one row, got an empty log; check the export that"
            " produced it"
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


# The description in TOML.


_KEYS = {name: None for name in (*ColumnSpec._fields, "path", "logging", "files")}


def _described(path, logging, given):
    """The reader that a TOML file describes; keyword roles come first."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: expected a log described in TOML, got something else ({error})"
        ) from None
    try:
        choose(list(content), _KEYS, "key")
        files = _described_files(content)
        roles = {
            key: _names(key, value) for key, value in content.items() if key in ColumnSpec._fields
        } | given
        return pool(
            [path.parent / name for name, _ in files],
            _described_logging(path, files, logging),
            **roles,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _names(key, value):
    several = (
        isinstance(value, list)
        and key in ("action", "context")
        and all(isinstance(x, str) for x in value)
    )
    if not (several or isinstance(value, str)):
        raise ValueError(f"key {key!r}: expected the name of a column, got {value!r}")
    return value


def _described_files(content):
    """(path, logging) of every file."""
    if ("path" in content) == ("files" in content):
        raise ValueError("expected one of the keys 'path' and 'files'; add or drop one")
    entries = content.get("files", [content])
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and "path" in entry for entry in entries
    ):
        raise ValueError("key 'files': expected [[files]] tables with a path each")
    return [(str(entry["path"]), entry.get("logging", content.get("logging"))) for entry in entries]


def _described_logging(path, files, logging):
    if logging is not None:
        return [logging] * len(files)
    return [None if name is None else path.parent / name for _, name in files]


def pool(
    sources: Sequence[Any], logging: Sequence[Policy | Path | str | None], **roles: Any
) -> LogReader:
    """Several logs as one, by mixture weights: every row's propensity is Σ (n_k/n) π_k(a),
    whichever policy played it.

    The balance heuristic (Veach & Guibas, SIGGRAPH 1995; Agarwal et al., KDD 2017): the weights
    of the pool are those of one log drawn from the mixture, never larger than n/n_k times those
    of a part. Propensity columns then do not count. One policy for all, or no policy at all
    (then each row's own propensity column serves), changes nothing.
    """
    rows = (
        pooled([open_source(source) for source in sources])
        if len(sources) > 1
        else open_source(sources[0])
    )
    policies = [policy for policy in map(_policy, logging) if policy is not None]
    if len({str(part) for part in logging}) == 1:
        return open_log(rows, logging=logging[0], **roles)
    if len(policies) < len(logging):
        raise ValueError("expected a logging policy for every file, got none for some; add it")
    roles = {
        key: value for key, value in roles.items() if key not in ("propensity", "log_propensity")
    }
    counts = np.array([open_source(source).count() for source in sources], np.float64)
    return open_log(rows, logging=Mixture.of(counts, policies), **roles)

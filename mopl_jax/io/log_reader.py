"""A log that can be read, whole or in chunks of rows: columns of its source as float64 arrays,
checked once, at this door.

Every complaint is a one-line ValueError: file, column, row, what was expected, the remedy. Rows
count from 1, the first row of data (a CSV header is not counted).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Float, Int

from mopl_jax.io.column_spec import ColumnSpec
from mopl_jax.io.columns import (
    Column,
    Place,
    codes,
    log_density,
    numbers,
    seconds,
    vectors,
)
from mopl_jax.io.context import Context, context_of
from mopl_jax.io.half import Half
from mopl_jax.io.kinds import alike, is_list
from mopl_jax.io.missing import refuse_missing
from mopl_jax.io.precision import Precision, precision_of
from mopl_jax.io.sampling import (
    Sampling,
    check_squares,
    counts,
    repeated,
    sampling_of,
    weights,
)
from mopl_jax.io.source import Source, empty
from mopl_jax.logs import check_precision
from mopl_jax.numerics.pytree import entries
from mopl_jax.policies.contextual import is_contextual
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy


class Rows(NamedTuple):
    """Consecutive rows of a log; None for what the log does not have.

    `reward`: the North Star.
    `action`: the weights played.
    `log_propensity`: log density of the action under the logging policy.
    `log_target`: log density under a target policy, −inf where that cannot play the action.
    `cluster`: the user, numbered from 0.
    `time`: as logged; dates in seconds since 1970.
    `context`: what the platform knew.
    `part`: which of the logs that are pooled the row is of, from 0.
    `log_sampling`: logarithm of how many rows the row speaks for, over the mean of all.
    `per`: what the reward is counted by.
    `codes`: how each contextual policy of the reader sees each row.
    """

    reward: Column
    action: Float[np.ndarray, "n d"] | None
    log_propensity: Column | None
    log_target: Column | None
    cluster: Int[np.ndarray, " n"] | None
    time: Column | None
    context: Float[np.ndarray, "n c"] | None
    part: Int[np.ndarray, " n"] | None = None
    log_sampling: Column | None = None
    per: Column | None = None
    codes: tuple[Any, ...] = ()


WatchRows = Callable[[Iterator[Rows]], Iterable[Rows]]  # may count the rows of a pass


class Part(NamedTuple):
    """One of the logs that are pooled: its `name`, and its own `logging` policy with the compiled
    log densities (n,) of actions (n, d) under it; None where a column has them.
    """

    name: str
    logging: Policy | None = None
    log_density: Callable | None = None


class LogReader(NamedTuple):
    """A log that can be read.

    `source`: the rows.
    `columns`: the column of every role, all of which exist.
    `logging`: the logging policy where it is known; log propensities are its own where there is no
    column of them.
    `reward_range`: a reward outside of it, if it is declared, is a ValueError that names the row:
    bounds that use the range would not hold.
    `log_density`: log densities (n,) of actions (n, d) under the logging policy, compiled.
    `parts`: of logs that are pooled, each with its own logging policy, whose densities its rows
    have; `logging` is then the mixture of all. None of other logs.
    `mixed`: of logs that are weighed by the mixture of their policies, what `parts` would be.
    `negated`: whether the reward is a cost, of which less is better: rows have its negative.
    `sampling`: of a log whose rows speak for more or fewer rows each; None of others.
    `half`: which of the users the log is read of; None: all. Its source's rows are then more.
    `contexts`: how contextual policies see rows, that of the logging policy first.
    """

    source: Source
    columns: ColumnSpec
    logging: Policy | None = None
    reward_range: tuple[float, float] | None = None
    log_density: Callable | None = None
    parts: tuple[Part, ...] | None = None
    sampling: Sampling | None = None
    half: Half | None = None
    contexts: tuple[Context, ...] = ()
    mixed: tuple[Part, ...] | None = None
    negated: bool = False

    @property
    def is_mixed(self) -> bool:
        """Whether one mixture of policies logged all rows, as far as these tell."""
        own = self.mixed or any(part.logging is not None for part in self.parts or ())
        return isinstance(self.logging, Mixture) and not own

    @property
    def by_time(self) -> bool:
        """Whether rows speak for less because they are old, or for the next period."""
        return self.sampling is not None and self.sampling.recency is not None

    @property
    def has_list_column(self) -> bool:
        """Whether the action is one column of lists, whose length only the rows tell."""
        names = self.columns.action or ()
        return len(names) == 1 and is_list(self.source.kind(names[0]))


def of_the_log(reader: LogReader) -> LogReader:
    """The reader of the log's own rows, of which none speaks for less because it is old."""
    columns = reader.columns.replace(half_life=None, time_feature=None, weekdays=False)
    by_log = None if reader.sampling is None else reader.sampling.by_log
    return reader._replace(columns=columns, sampling=sampling_of(reader.source, columns, by_log))


def weighed_by_log(reader: LogReader, by_log: Sequence[float]) -> LogReader:
    """The reader whose rows of each pooled log speak for `by_log` rows, in any unit."""
    sampling = sampling_of(reader.source, reader.columns, tuple(by_log))
    return reader._replace(sampling=sampling)


def with_context(reader: LogReader, policy: Policy, what: str) -> LogReader:
    """The reader whose rows also have the codes of a contextual policy, last of all.

    ValueError where the log lacks its columns.
    """
    more = context_of(policy, reader.source, reader.columns, what)
    return reader._replace(contexts=(*reader.contexts, more))


def check_weights(reader: LogReader, policy: Policy, what: str) -> None:
    """ValueError unless `policy` has as many weights as the log's action, whose first list tells
    where it is a column of lists.
    """
    columns = reader.columns.action or ()
    width = _list_length(reader) if reader.has_list_column else len(columns)
    d = getattr(policy, "dim", width)  # a policy of the user's own may not tell
    if width != d:
        raise ValueError(
            f"{reader.source.name}: the {what} has {d} weights, the log's action {width}"
            f" ({', '.join(columns) or 'no columns'}); name them in the policy's order (--action)"
        )


def _list_length(reader):
    pieces = reader.source.scan(_scanned(reader)[0], ())
    first = next((piece for piece in pieces if piece.rows.num_rows), None)
    if first is None:
        raise ValueError(empty(reader.source.name))
    columns = msgspec.structs.replace(reader.columns, cluster=None)
    d = getattr(reader.logging, "dim", None)
    row = first._replace(rows=first.rows.slice(0, 1))
    action = _rows(reader._replace(columns=columns), row, {}, d).action
    return 0 if action is None else action.shape[1]


DENSITIES = {  # the columns of rows that hold log densities, and the roles that they are read from
    "log_propensity": ("propensity", "log_propensity"),
    "log_target": ("target_propensity", "log_target_propensity"),
}
LOOKED_AT = 2**15  # rows by which the precision of a column is told


def precision(reader: LogReader, rows: Rows, name: str) -> Precision | None:
    """How precisely the column behind one of `DENSITIES` was written; None where there is none."""
    plain, log = (getattr(reader.columns, role) for role in DENSITIES[name])
    if not (plain or log):
        return None
    kind = str(reader.source.kind(log or plain))
    values = getattr(rows, name)[:LOOKED_AT]
    stored = values if log else np.exp(values)
    return precision_of(stored, kind in ("float", "halffloat"), log is not None)


AGREE = 0.01  # log densities of column and policy within this, and what the column is rounded by


def check_densities(reader: LogReader, rows: int | None = 10_000) -> None:
    """ValueError where a propensity column contradicts the logging policy, in the first `rows` of
    the log or in all (None).
    """
    stated = reader.columns.density
    if stated is None or reader.logging is None:
        return
    first = next(chunks(reader, rows))
    declared = declared_densities(reader, first)
    written = precision(reader, first, "log_propensity") or Precision()
    rounding = np.asarray(written.error(jnp.asarray(first.log_propensity)))
    fine = np.abs(declared - first.log_propensity) <= AGREE + rounding
    row = np.argmin(fine)
    remedy = (
        f"the logging policy says {declared[row]:.4g}: name the one that was played,"
        " rename the other away"
    )
    if np.isneginf(declared[row]):
        remedy = (
            f"the logging policy never plays {np.asarray(first.action)[row].tolist()}: mend its"
            " bounds, or leave the row out"
        )
    where = Place(reader.source.name, stated)
    where.require(fine, first.log_propensity, "the log density of the logging policy", remedy)


def declared_densities(reader: LogReader, rows: Rows) -> Column:
    """Log densities of the actions under the logging policy."""
    if reader.log_density is None:
        raise ValueError(f"{reader.source.name}: expected a logging policy, got none; name it")
    if reader.parts is None or rows.part is None or reader.parts[0].log_density is None:
        seen = rows.codes[:1] if is_contextual(reader.logging) else ()
        return np.asarray(reader.log_density(jnp.asarray(rows.action), *seen), float)
    values = np.zeros(len(rows.part))
    for number, part in enumerate(reader.parts):
        own = rows.part == number
        if own.any() and part.log_density is not None:
            values[own] = np.asarray(part.log_density(jnp.asarray(rows.action)[own]), float)
    return values


# Rows.


PICKED_FROM = 2**17  # rows held at once where few of them are kept
USUAL = 32  # numbers of a row


def room(reader: LogReader, rows: int) -> int:
    """As many rows as hold the numbers of `rows` usual ones: of wider ones fewer."""
    if reader.source.table is not None:
        return rows
    width = len(_scanned(reader)[0])
    if reader.has_list_column:
        width += _list_length(reader)
    return max(min(rows, 1), rows * USUAL // max(width, USUAL))


def whole(reader: LogReader) -> Rows:
    """All rows."""
    if reader.half is None:
        return next(chunks(reader, None))
    return _join(list(chunks(reader, PICKED_FROM)))


def chunks(reader: LogReader, size: int | None) -> Iterator[Rows]:
    """All rows, `size` at a time or as many as there is `room` for, the last chunk shorter; all at
    once if None. ValueError if there are none.
    """
    seen, size = 0, size and room(reader, size)
    pick = (lambda rows: rows) if reader.half is None else reader.half.picker()
    for chunk in as_logged(reader, size):
        yield pick(_with_propensity(reader, chunk, seen))
        seen += len(chunk.reward)
    if not seen:
        raise ValueError(empty(reader.source.name))


def as_logged(reader: LogReader, size: int | None) -> Iterator[Rows]:
    """All rows with the densities of their columns alone, `size` at a time."""
    return _in_chunks(_parts(reader, alike(reader.source.scan(*_scanned(reader)))), size)


def _scanned(reader):
    """The columns that are read, and those of them that are text whatever they look like."""
    columns = reader.columns
    others = {name: numeric for each in reader.contexts for name, numeric in each.columns}
    labels = [columns.cluster, *(x for x in others if not others[x] and x not in columns.names)]
    names = dict.fromkeys([*columns.names, *others])
    return list(names), [name for name in labels if name is not None]


def _parts(reader, pieces):
    """Pieces as arrays, lists of numbers as long as the first ones."""
    known: dict = {}
    d = getattr(reader.logging, "dim", None)
    for piece in pieces:
        if piece.rows.num_rows:
            rows = _rows(reader, piece, known, d)
            yield from _as_counted(reader, piece, rows)
            d = None if rows.action is None else rows.action.shape[1]


def _as_counted(reader, piece, rows):
    """The rows of a piece, each as often as its count says."""
    count = counts(reader.columns, piece)
    if count is None:
        return (rows,)
    name, squares = reader.columns.sum_of_squares, None
    if name is not None:
        place = Place(piece.place, name, piece.first_row)
        squares = numbers(piece.rows.column(name), place)
        check_squares(rows.reward, squares, count, place, reader.reward_range)
    return repeated(rows, count, squares)


def _in_chunks(parts, size):
    held, count = [], 0
    for part in parts:
        held, count = [*held, part], count + len(part.reward)
        while size is not None and count >= size:
            joined = _join(held)
            yield entries(joined, slice(size))
            held, count = [entries(joined, slice(size, None))], count - size
    if count:
        yield _join(held)


def _join(parts):
    if len(parts) == 1:
        return parts[0]
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)


def _with_propensity(reader, rows, first):
    """Rows whose log propensities, where there is no column, are those of the logging policy."""
    if rows.log_propensity is not None:
        return rows
    values = declared_densities(reader, rows)
    remedy = "the logging policy cannot have played this action: is it the one of this log?"
    place = Place(reader.source.name, "action", first)
    place.require(np.isfinite(values), values, "a finite log propensity", remedy)
    return rows._replace(log_propensity=values)


def _rows(reader, piece, known, d=None):
    """A piece as arrays; `known` numbers the users, `d` the weights of an action."""
    columns = reader.columns

    def column(name, read, **options) -> Any:
        place = Place(piece.place, name, piece.first_row)
        return None if name is None else read(piece.rows.column(name), place, **options)

    def density(plain, log, zero):
        return column(log or plain, log_density, log=log is not None, zero=zero)

    def matrix(names, d):
        """The columns side by side, (n, d); a column of lists as it is."""
        if names is None:
            return None
        if len(names) == 1 and is_list(piece.rows.schema.field(names[0]).type):
            return column(names[0], vectors, d=d)
        return np.stack([column(name, numbers) for name in names], axis=1)

    return Rows(
        reward=column(columns.reward, _rewards, reader=reader),
        action=matrix(columns.action, d),
        log_propensity=density(columns.propensity, columns.log_propensity, zero=False),
        log_target=density(columns.target_propensity, columns.log_target_propensity, zero=True),
        cluster=column(columns.cluster, codes, known=known),
        time=column(columns.time, seconds),
        context=matrix(columns.context, None),
        part=None if reader.parts is None else np.full(piece.rows.num_rows, piece.part),
        log_sampling=_log_sampling(reader, piece),
        per=column(columns.per, _amounts),
        codes=tuple(each.codes(piece) for each in reader.contexts),
    )


def _amounts(column, place):
    values = numbers(column, place)
    place.require(values >= 0, values, "a number ≥ 0", "what is counted by is not negative")
    return values


def _log_sampling(reader, piece):
    if reader.sampling is None:
        return None
    sampling = reader.sampling
    each = weights(reader.columns, sampling.recency, sampling.by_log, piece)
    return np.log(each / sampling.mean)


def _rewards(column, place, reader):
    refuse_missing(reader.source, column, place)
    values = numbers(column, place)
    if reader.reward_range is not None and reader.columns.sum_of_squares is None:
        low, high = reader.reward_range
        fine = (values >= low) & (values <= high)
        remedy = "declare the range that the platform guarantees, or repair the row"
        place.require(fine, values, f"a reward in [{low:g}, {high:g}]", remedy)
    check_precision(values, f"{place.path}: column {place.name!r}")
    return 0.0 - values if reader.negated else values

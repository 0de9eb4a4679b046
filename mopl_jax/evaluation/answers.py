"""What a log says of target policies, in passes over its rows wherever they lie.

Up to `IN_MEMORY` rows are held at once, and every interval of the package applies; a longer log is
read in blocks, and the intervals that are formulas in sums apply, or all of them where users
repeat (one row a user). Of a table in a query engine the same function is computed by the engine,
and the intervals that are formulas in sums apply. Sums of millions of rows need float64
(`jax_enable_x64`).
"""

import contextlib
import functools
import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mopl_jax.diagnostics.appearance import Appearance
from mopl_jax.diagnostics.weight_diagnostics import (
    UNBOUNDED,
    unseen,
)
from mopl_jax.estimators.cluster import cluster_stage, sums_by_cluster
from mopl_jax.estimators.contrast import Contrast, sums_within
from mopl_jax.estimators.control import controlled
from mopl_jax.estimators.estimator import Member, given, member
from mopl_jax.estimators.ratio import of_outcome, ratio
from mopl_jax.estimators.registry import Choice, bind_estimator, is_of_target
from mopl_jax.evaluation import row_blocks
from mopl_jax.evaluation.answer import IN_MEMORY, LOGGING, Answer, Answers
from mopl_jax.evaluation.parts import part_stage
from mopl_jax.evaluation.target_sums import LogFacts, sum_targets
from mopl_jax.io import log_reader
from mopl_jax.io.context import remark_on
from mopl_jax.io.log_reader import LogReader, Rows, WatchRows
from mopl_jax.io.precision import Precision
from mopl_jax.numerics.quick_jit import quick_jit
from mopl_jax.numerics.reduce import (
    ADD,
    Block,
    Monoid,
    Stage,
    Stream,
    Whole,
    beside,
    of_each,
    run_passes,
    whole_block,
)
from mopl_jax.policies.contextual import is_contextual, log_densities
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy

MODAL = 2**15  # first rows of a log, whose median reward is what all rewards are compared to
LOOKED_AT = 2**20  # first rows of a log, whose appearance is that of the log

Target = Policy | str | None  # None: the target column of the log; LOGGING


def gather(
    reader: LogReader,
    targets: Sequence[Target],
    estimator: Choice,
    reward_range: tuple[float, float] = UNBOUNDED,
    in_memory: int = IN_MEMORY,
    watch: WatchRows = iter,
    adjust: bool = False,
) -> Answers:
    """The answers of a log; users are the units where the log knows them.

    `adjust`: whether by what the context says that a weighted mean misses, see `controlled`.

    `watch(chunks)` may count the rows of every pass. ValueError for an estimator that does not fit.
    """
    for target in targets:
        _check(reader, target, estimator)
    in_engine = reader.source.table is not None
    if adjust and reader.columns.context is None:
        raise ValueError("adjust: by what? name columns known before the action (context)")
    if not in_engine:
        log_reader.check_densities(reader)
    n = reader.source.count()
    reader, places = _in_context(reader, targets)
    kinds, parts = tuple(map(_kind, targets, places)), len(reader.parts or ())
    sampling = None if reader.sampling is None else reader.sampling[1:3]
    by_log = reader.sampling and reader.sampling.by_log or (1.0,) * parts
    question = _Question(
        kinds, estimator, reward_range, n, parts=parts, by_log=by_log, sampling=sampling
    )
    question = question._replace(ratio=reader.columns.per is not None, adjust=adjust)
    policies = tuple(_played(reader, target) for target in targets)
    seen = Appearance()
    if in_engine:
        return _from_engine(reader, policies, question)
    in_blocks = functools.partial(_from_blocks, watch=watch)
    small = n <= log_reader.room(reader, in_memory)
    found = (_from_memory if small else in_blocks)(reader, policies, question, seen)
    return found._replace(remarks=tuple(filter(None, map(remark_on, reader.contexts))))


def _check(reader, target, estimator):
    bind_estimator(estimator, _played(reader, target))
    if _kind(target) != "policy" and not is_of_target(estimator):
        return
    if reader.columns.action is None:
        raise ValueError(
            f"{reader.source.name}: a target policy needs the actions: name their columns "
            "(--action)"
        )
    if _kind(target) == "policy":
        log_reader.check_weights(reader, target, "target policy")


def _played(reader, target):
    """The target as a policy; None where it is not known as one."""
    return reader.logging if _kind(target) == "logging" else target


def _kind(target, place=None):
    """In a word; of a contextual policy which of the codes of rows are its own."""
    if place is not None:
        return place
    return "column" if target is None else "logging" if target is LOGGING else "policy"


def _in_context(reader, targets) -> tuple[LogReader, list[int | None]]:
    """The reader that sees rows as contextual targets do, and where the codes of each are."""
    places: list[int | None] = [None] * len(targets)
    for k, target in enumerate(targets):
        if is_contextual(target):
            places[k] = len(reader.contexts)
            reader = log_reader.with_context(reader, target, "target policy")
    return reader, places


class _Question(NamedTuple):
    """What is asked of a log, by which the computation is compiled."""

    kinds: tuple[str | int, ...]
    estimator: Choice
    reward_range: tuple[float, float]
    n: int
    precisions: tuple[tuple[str, Precision], ...] = ()  # of the log's columns of densities
    parts: int = 0  # how many logs are pooled
    by_log: tuple[float, ...] = ()  # what a row of each of them speaks for
    sampling: tuple[float, float] | None = None  # the smallest and the largest sampling weight
    ratio: bool = False  # whether rewards are counted by another column
    adjust: bool = False  # whether by what was known before the action
    units: int = 0  # rows, or users
    ordered: bool = True  # whether rows have an order


def _members(question, policies) -> list[Member]:
    """The estimate of each target."""
    return [
        _member(question, kind, policy)
        for kind, policy in zip(question.kinds, policies, strict=True)
    ]


def _member(question, kind, policy) -> Member:
    def weighed(estimator, kind, policy):
        log_sampling = None if question.sampling is None else _log_sampling
        return member(estimator, functools.partial(_weigh, kind, policy), log_sampling)

    one = weighed(bind_estimator(question.estimator, policy), kind, policy)
    if question.ratio:
        one = ratio(one, of_outcome(one, lambda block: block.columns.per))
    if not question.adjust:
        return one

    def spoken_for(kind, policy, block):
        log_weight = _weigh(kind, policy, block)
        return log_weight if question.sampling is None else log_weight + _log_sampling(block)

    pairs = (kind, policy), ("logging", None)
    log_weights = [functools.partial(spoken_for, *pair) for pair in pairs]
    return controlled(one, lambda block: block.columns.context, log_weights, _rows_of)


def _log_sampling(block: Block) -> Float[Array, " m"]:
    return block.columns.log_sampling


def _rows_of(block: Block) -> Float[Array, " m"]:
    """How many rows each row of a block speaks for."""
    log_sampling = block.columns.log_sampling
    rows = jnp.ones_like(block.columns.reward)
    return rows if log_sampling is None else jnp.exp(log_sampling)


def _weigh(kind, policy, block: Block) -> Float[Array, " m"]:
    """Log importance weights of a block's rows."""
    columns = block.columns
    if kind == "logging":
        return jnp.zeros_like(columns.reward)
    return _log_target(kind, policy, columns) - columns.log_propensity


def _log_target(kind, policy, columns):
    if kind == "column":
        return columns.log_target
    if isinstance(kind, int):
        return log_densities(policy, columns.action, columns.codes[kind])
    return _log_density(policy, columns.action)


def _log_density(policy, action):
    return jax.vmap(policy.log_density)(action)


def _unseen(kind, policy, logging, totals, by_log):
    """The share of the target that no logged row outweighs; NaN where a policy is not known.

    Of logs that are pooled the mean share of all, each by its own policy, as what their rows speak
    for: `by_log`.
    """
    if kind == "logging":
        return 0.0
    if policy is None or logging is None or is_contextual(policy) or is_contextual(logging):
        return math.nan
    if not (by_log and isinstance(logging, Mixture)):
        return unseen(policy, logging, totals.log_max[None])
    each = jnp.asarray(by_log, totals.log_max.dtype)
    rows = jnp.exp(logging.log_weight).astype(each.dtype) * each
    heaviest = totals.log_max - jnp.log(each / jnp.sum(rows))
    pairs = zip(logging.components, heaviest, strict=True)
    shares = jnp.stack([unseen(policy, own, most[None]) for own, most in pairs])
    return rows / jnp.sum(rows) @ shares


# The passes: fits, then contrasts of them, then what is summed of both.


def _fit(place, members: Sequence[Member]) -> tuple:
    """The state of each member."""
    return run_passes(place, beside(*[each.stages for each in members]))


def _known(question, *facts) -> LogFacts:
    """Rows that speak for more or fewer rows have sizes, as users have."""
    known = LogFacts(question.units, question.reward_range, *facts, ordered=question.ordered)
    if question.sampling is None:
        return known
    return known._replace(size=_rows_of, sizes=question.sampling)


def _parts(place, members: Sequence[Member], states: tuple, parts: int) -> tuple:
    """Sums over the rows of each of the pooled logs, of each member."""
    if not parts:
        return ()
    return run_passes(place, beside(*[(part_stage(x, parts),) for x in members]), states)


def _answers(question, seen, sums, parts, estimates=()) -> Answers:
    moments, diagnoses, products, halves = jax.device_get(sums)
    found = itertools.zip_longest(moments, diagnoses, estimates, jax.device_get(parts))
    answers = [
        Answer(moments.value, question.n, question.units, moments, *more)
        for moments, *more in found
    ]
    k = len(question.kinds)
    pairs = itertools.zip_longest(answers[k:], halves)
    contrasts = [answer._replace(halves=both) for answer, both in pairs]
    return Answers(answers[:k], contrasts, correlation_of(products), seen)


def correlation_of(products: Float[np.ndarray, "k k"]) -> Float[np.ndarray, "k k"]:
    """Correlations from sums of products; independent where there is no variation."""
    size = np.sqrt(np.diagonal(products))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = products / (size[:, None] * size[None, :])
    return np.where(np.isfinite(found), found, np.eye(len(size)))


def _asked(question, rows: Rows) -> Rows:
    """The columns that are asked for."""
    context = rows.context if question.adjust else None
    return rows._replace(time=None, context=context)


# How precisely densities were written.


def _precisions(reader, rows: Rows) -> tuple[tuple[str, Precision], ...]:
    """Of the logging and of the target densities, where a column has them."""
    found = {name: log_reader.precision(reader, rows, name) for name in log_reader.DENSITIES}
    return tuple((name, each) for name, each in found.items() if each is not None)


def _rounding(kind, policy, precisions, block: Block):
    """The largest errors (m,) of the log weights of a block's rows, those of computing included."""
    columns = block.columns
    if kind == "logging":
        return jnp.zeros_like(columns.reward)
    log_target = _log_target(kind, policy, columns)
    error = jnp.finfo(log_target.dtype).eps * (
        jnp.abs(log_target) + jnp.abs(columns.log_propensity)
    )
    for name, precision in precisions:
        if name == "log_propensity":
            error = error + precision.error(columns.log_propensity)
        elif kind == "column":
            error = error + precision.error(log_target)
    return jnp.where(log_target > -jnp.inf, error, 0)


def _roundings(question, policies) -> list[Callable]:
    return [
        functools.partial(_rounding, kind, policy, question.precisions)
        for kind, policy in zip(question.kinds, policies, strict=True)
    ]


def _mean_rounding(member: Member, rounding: Callable) -> Stage:
    """The pass after which the state is Σ p of the errors, over rows."""

    def summarise(state, block):
        p = state.totals.share(member.rows(state, block).log_weight)
        return jnp.sum(jnp.where(p > 0, p * rounding(block), 0))

    return Stage(summarise, ADD, lambda state, total: total)


def _count_rows(users: int) -> Stage:
    """The pass after which the state is the number of rows of each user."""

    def summarise(state, block):
        return sums_by_cluster(block, [_rows_of(block)], block.columns.cluster, users)[0]

    return Stage(summarise, ADD, lambda state, rows: rows)


def _sum_within(members: Sequence[Member], users: int) -> Stage:
    """The pass after which the state are the `sums_within` users, of each difference to the first.

    Before, it is the states of the members.
    """
    base, *others = members

    def summarise(states, block):
        mine = block, block.columns.cluster, users
        return [
            sums_within(member, base, Contrast(state, states[0]), *mine)
            for member, state in zip(others, states[1:], strict=True)
        ]

    return Stage(summarise, of_each(ADD), lambda states, sums: sums)


# Rows in memory: one compiled function.


def _as_logged(reader, rows):
    """Rewards as they stand in the log, of which what looks odd is said."""
    return 0.0 - rows.reward if reader.negated else rows.reward


def _from_memory(reader, policies, question, seen) -> Answers:
    rows = _asked(question, log_reader.whole(reader))
    seen.add(_as_logged(reader, rows), rows.action)
    users = None if rows.cluster is None else int(rows.cluster.max()) + 1
    modal = float(np.median(rows.reward[:MODAL]))
    question = question._replace(precisions=_precisions(reader, rows), units=users or question.n)
    sums, parts, estimates = _in_memory(
        jax.tree.map(jnp.asarray, rows), policies, reader.logging, modal, question, users
    )
    return _answers(question, seen, sums, parts, estimates)


@quick_jit("question", "users")
def _in_memory(rows, policies, logging, modal, question, users):
    place, members = Whole(whole_block(rows, question.ordered)), _members(question, policies)
    states, roundings = _fit(place, members), _roundings(question, policies)
    known = _known(question, modal, _shares(question, policies, logging, states), roundings)
    parts = _parts(place, members, states, question.parts)
    if users is not None:
        estimates = run_passes(place, *_by_user(members, roundings, states, users))
        place, members, states, known = _given(estimates, known)
    sums, rows_of = sum_targets(place, members, states, known)
    return sums, parts, rows_of(place.block)


def _shares(question, policies, logging, states):
    return [
        _unseen(kind, policy, logging, state.totals, question.by_log)
        for kind, policy, state in zip(question.kinds, policies, states, strict=True)
    ]


def _by_user(members, roundings, states, users):
    """The pass to one row a user, with the rounding of each member, the rows of each user, and what
    these tell of differences.
    """
    stages = [(cluster_stage(each, users),) for each in members]
    means = [(_mean_rounding(*each),) for each in zip(members, roundings, strict=True)]
    of_users = (_count_rows(users),), (_sum_within(members, users),)
    return beside(*stages, *means, *of_users), (*states, *states, None, states)


def _given(found: Sequence, known: LogFacts):
    """The place of the users, and what is known of them."""
    *both, rows, within = found
    k = len(both) // 2
    estimates, means = both[:k], both[k:]
    size = rows / jnp.mean(rows)
    place = Whole(whole_block((*estimates, within, size), known.ordered))
    members = [given(lambda columns, k=k: columns[k]) for k in range(k)]
    roundings = [lambda block, mean=mean: mean for mean in means]
    known = known._replace(
        rounding=roundings,
        size=lambda block: block.columns[-1],
        sizes=(jnp.min(size), jnp.max(size)),
        within=lambda block: block.columns[-2],
    )
    return place, members, _fit(place, members), known


# Rows in a query engine.


def _from_engine(reader, policies, question) -> Answers:
    # on demand: few logs lie in an engine
    from mopl_jax.diagnostics.table_appearance import appearance_of, modal_reward
    from mopl_jax.io.table_log import check_table_densities, precisions, table_log
    from mopl_jax.warehouse.traced import GROUPS

    log = table_log(reader)
    written = precisions(reader, log)
    check_table_densities(reader, log, written)
    users = None if log.users is None else GROUPS
    question = question._replace(precisions=written, units=log.users or log.n, ordered=False)
    rows = log.rows._replace(time=None, context=log.rows.context if question.adjust else None)

    def summed(rows, policies, logging, modal):
        if rows.log_propensity is None:
            rows = rows._replace(log_propensity=_log_density(logging, rows.action))
        asked = rows, policies, logging, modal, question, users
        return inspect.unwrap(_in_memory)(*asked)[0]

    with contextlib.closing(log.queries):
        arguments = policies, reader.logging, modal_reward(log)
        sums = log._replace(rows=rows).sums(summed, *arguments)
        seen = appearance_of(log)
    return _answers(question, seen, sums, ())


# Rows in blocks.

_LARGEST = Monoid(lambda parts: jnp.max(parts), lambda part: jnp.full_like(part, -1))


def _users(state, block):
    return jnp.max(block.columns.cluster)


def _from_blocks(reader, policies, question, seen, watch) -> Answers:
    def blocks(size=row_blocks.SIZE):
        chunks = watch(log_reader.chunks(reader, size))
        asked = (_asked(question, rows) for rows in _looking(reader, chunks, seen, n))
        return row_blocks.blocks(asked, n, log_reader.room(reader, size))

    first, n = next(log_reader.chunks(reader, row_blocks.SIZE)), question.n
    question = question._replace(precisions=_precisions(reader, first))
    place, members = Stream(blocks), _members(question, policies)
    roundings = _roundings(question, policies)
    repeat = reader.columns.cluster is not None
    count = [Stage(_users, _LARGEST, lambda state, largest: largest)] if repeat else []
    *states, largest = run_passes(place, beside(*[each.stages for each in members], count))
    states = tuple(states)
    shares = jax.jit(_shares, static_argnums=0)(question, policies, reader.logging, states)
    modal, units = float(np.median(first.reward)), int(largest) + 1 if repeat else n
    question = question._replace(units=units)
    known = _known(question, modal, shares, roundings)
    parts = _parts(place, members, states, question.parts)
    if repeat:
        of_users = Stream(lambda: blocks(row_blocks.size_for(units)))
        by_user = run_passes(of_users, *_by_user(members, roundings, states, units))
        return _answers(question, seen, *_of_users(by_user, parts, known))
    sums, _ = sum_targets(place, members, states, known)
    return _answers(question, seen, sums, parts)


def _looking(reader, chunks, seen, n):
    """The chunks, of which the first of all `n` rows are looked at once."""
    for rows in chunks:
        if seen.n < min(LOOKED_AT, n):
            seen.add(_as_logged(reader, rows), rows.action)
        yield rows


def _of_users(by_user, parts, known):
    @jax.jit
    def summed(by_user, shares):
        place, members, states, here = _given(by_user, known._replace(shares=shares))
        sums, rows_of = sum_targets(place, members, states, here)
        return sums, rows_of(place.block)

    sums, estimates = summed(by_user, known.shares)
    return sums, parts, estimates

"""What the checks of a log count, counted by the query engine that its rows lie in."""

import functools
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import chebyshev
from scipy.special import erfcx, gamma

from mopl_jax.diagnostics.log_report import Range
from mopl_jax.diagnostics.log_statistics import (
    CELLS,
    PERIODS,
    LogStatistics,
    Ratios,
    Spans,
    UserSizes,
)
from mopl_jax.diagnostics.sketch import SKETCH
from mopl_jax.diagnostics.table_appearance import appearance_of, repeats
from mopl_jax.io.log_reader import LogReader
from mopl_jax.io.precision import Precision
from mopl_jax.io.table_log import TableLog, precisions, table_log
from mopl_jax.numerics import linalg
from mopl_jax.policies.discrete import Discrete
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.transformed import EXP, Transformed
from mopl_jax.policies.uniform import Uniform


def table_statistics(reader: LogReader) -> tuple[Spans, LogStatistics]:
    """The spans and statistics of a log whose source is a table.

    Tests see one row of each user. Of rows that speak for others the actions are not tested, and
    without a time there is no drift: a table has no order.
    """
    log = table_log(reader)
    spans = Spans(log.n, _ranges(log, reader))
    found = LogStatistics(reader, spans)
    found.appearance, found.rows = appearance_of(log), _repeats(log)
    found.reward = log.sums(_reward_sums, spans.ranges["reward"].low)
    found.users_there = _users(log)
    tested = _one_of_each_user(log)
    found.tested = tested.n
    found.periods = _periods(tested, spans, found.origin) if log.rows.time else None
    if reader.logging is not None and log.rows.action is not None:
        _declared(reader, log, tested, found)
    return spans, found


def _ranges(log, reader):
    ends = log.ranges
    names = () if log.rows.action is None else log.rows.action.names
    found = {"reward": Range(*ends["reward"])}
    if names:
        found["action"] = Range(*np.array([ends[name] for name in names]).T)
    found["log_propensity"] = Range(*log.sums(_extent, reader.logging))
    return found | ({"time": Range(*ends["time"])} if log.rows.time else {})


def _extent(rows, logging):
    values = rows.log_propensity
    if values is None:
        values = jax.vmap(logging.log_density)(rows.action)
    return jnp.min(values), jnp.max(values)


def _reward_sums(rows, low):
    centred = rows.reward - low
    each = 1.0 if rows.log_sampling is None else jnp.exp(rows.log_sampling)
    return jnp.stack([jnp.sum(each * centred), jnp.sum(each * jnp.square(centred))])


def _users(log) -> UserSizes | None:
    if log.users is None:
        return None
    table = log.queries.table
    sizes = table.group_by("cluster").aggregate(n=table.count())
    counted = sizes.group_by("n").aggregate(users=sizes.count()).order_by("n")
    rows, users = np.array([list(row.values()) for row in log.queries.rows(counted)]).T
    middle = [(log.users - 1) // 2, log.users // 2]
    median = np.mean(rows[np.searchsorted(np.cumsum(users), middle, side="right")])
    return UserSizes(log.users, log.n, int(rows[0]), int(rows[-1]), float(median))


def _repeats(log):
    """By the rows whose first entry has a hash that is a multiple, so many as `Sketch` keeps."""
    table = log.queries.table
    share = max(log.n // SKETCH, 1)
    own = log.rows.action.names if log.rows.action else ("reward",)
    if share > 1:
        table = table.filter(table[own[0]].hash().abs() % share == 0)
    names = [*own, "reward", *(["cluster"] if log.rows.cluster else []), *_time(log)]
    return repeats(log, table, dict.fromkeys(names))


def _time(log):
    return ["time"] if log.rows.time else []


def _one_of_each_user(log: TableLog) -> TableLog:
    """The first row of each user; of those of one time, or of none, any but always the same."""
    import ibis

    if log.users is None:
        return log
    table, order = log.queries.table, [*_time(log), *_shuffled(log)]
    number = ibis.row_number().over(group_by="cluster", order_by=order or None)
    first = table.mutate(mopl_number=number)
    first = first.filter(first.mopl_number == 0).drop("mopl_number")
    return log._replace(queries=log.queries.of(first), n=log.users)


def _shuffled(log) -> list[Any]:
    """An order of rows that goes along with none of their numbers, where the engine has hashes."""
    from ibis.expr.operations import Hash

    if not log.queries.engine.has_operation(Hash):
        return []
    names = ["cluster", "reward", *(log.rows.action.names if log.rows.action else ())]
    return [functools.reduce(operator.xor, (log.queries.table[name].hash() for name in names))]


def _periods(log, spans, origin) -> np.ndarray:
    """Rows, sums and sums of squares of reward and actions, by period of the time."""
    table, (low, high) = log.queries.table, spans.ranges["time"]
    period = ((table.time - low) / max(high - low, 1e-300) * PERIODS).floor().cast("int64")
    names = ["reward", *(log.rows.action.names if log.rows.action else ())]
    asked = {"n": table.count()}
    for k, (name, start) in enumerate(zip(names, origin, strict=True)):
        series = table[name] - float(start)
        asked |= {f"s{k}": series.sum(), f"q{k}": (series * series).sum()}
    counted = table.group_by(period=period.clip(0, PERIODS - 1)).aggregate(**asked)
    found = np.zeros((3, PERIODS, len(names)))
    for row in log.queries.rows(counted):
        found[:, row["period"]] = [
            [row["n"]] * len(names),
            [row[f"s{k}"] for k in range(len(names))],
            [row[f"q{k}"] for k in range(len(names))],
        ]
    return found


# Against the declared policy.


def _declared(reader, log, tested, found):
    policy = reader.logging
    if reader.columns.density:
        written = dict(precisions(reader, log)).get("log_propensity", Precision())
        found.log_ratio = _ratios(log, policy, written)
    if reader.sampling is not None:
        return
    if isinstance(policy, Discrete):
        found.arms = tested.sums(_arms, policy)
    mapped = isinstance(policy, Transformed) and policy.map == EXP
    normal = getattr(policy, "base", None) if mapped else policy
    if isinstance(normal, Gaussian):
        moments = functools.partial(_second_moments, mapped)
        found.whitened = tested.sums(moments, normal)
        z = _whitened(tested, normal, mapped)
        steps = [_tails, *[functools.partial(_square, x) for x in POWERS[:-1]], _normal_levels]
        makers = [functools.partial(step, len(z)) for step in steps]
        found.cells = _cells(tested, [*z, 0.5 * sum(x * x for x in z)], *makers)
    elif isinstance(policy, Uniform):
        ends = np.asarray(policy.low), np.asarray(policy.high)
        columns = [tested.queries.table[name] for name in tested.rows.action.names]
        levels = [(x - float(a)) / float(b - a) for x, a, b in zip(columns, *ends, strict=True)]
        found.cells = _cells(tested, levels)


def _arms(rows, policy):
    return jnp.sum(jnp.where(jax.vmap(policy.which)(rows.action), 1.0, 0.0), axis=0)


def _ratios(log, policy, written: Precision) -> Ratios:
    def sums(rows, policy):
        ratio = jax.vmap(policy.log_density)(rows.action) - rows.log_propensity
        error = jnp.broadcast_to(written.error(rows.log_propensity), ratio.shape)
        w = jnp.exp(ratio)
        terms = jnp.stack([jnp.ones_like(w), w, jnp.square(w), w * error])
        beyond = jnp.max(jnp.abs(ratio) - error)
        return jnp.sum(terms, axis=1), jnp.min(ratio), jnp.max(ratio), beyond

    return Ratios(*log.sums(sums, policy))


def _second_moments(mapped, rows, normal):
    action = jnp.log(rows.action) if mapped else rows.action
    z = jax.vmap(lambda a: linalg.scale_solve(normal.scale, a - normal.mean))(action)
    ones = jnp.concatenate([jnp.ones_like(z[:, :1]), z], axis=1)
    return ones.T @ ones


def _whitened(log, normal, mapped) -> list[Any]:
    """Standard normal under the policy, as columns of ibis."""
    columns = [log.queries.table[name] for name in log.rows.action.names]
    columns = [x.ln() for x in columns] if mapped else columns
    scale, mean = np.asarray(normal.scale), np.asarray(normal.mean)
    centred = [x - float(m) for x, m in zip(columns, mean, strict=True)]
    if scale.ndim == 1:
        return [x / float(s) for x, s in zip(centred, scale, strict=True)]
    inverse = np.linalg.inv(scale)
    return [sum(float(row[j]) * centred[j] for j in range(i + 1)) for i, row in enumerate(inverse)]


def _cells(log, columns, *makers) -> np.ndarray:
    """How often each level fell into each of the cells; `makers` make levels of the columns, each
    a layer of the query.
    """
    counts = np.zeros((len(columns), CELLS))
    table = log.queries.table.select(**{f"x{k}": x for k, x in enumerate(columns)})
    table, layers = log.queries.layer(table)
    for make in makers:
        table, layers = log.queries.layer(make(table), layers)
    for k in range(len(columns)):
        cell = (table[f"x{k}"] * float(CELLS)).floor().cast("int64")
        counted = table.group_by(cell=cell).aggregate(n=table.count())
        for row in log.queries.rows(counted, layers):
            counts[k, min(max(row["cell"], 0), CELLS - 1)] += row["n"]
    return counts


# Φ, and the distribution function of |z|², in SQL: erfc x = t exp(q(t) − x²) for x ≥ 0, with
# t = 2/(2 + x) and q a polynomial in u = 2t − 1, to 1e-14 (the form of Press et al., Numerical
# Recipes, 3rd ed., 6.2). Powers of u are columns, as an engine's text may not nest too deep.


def _tails(d, table) -> Any:
    """The columns with u for the arguments of erfc: |z|/√2 of each, and √(½|z|²) of the last."""
    arguments = [table[f"x{k}"].abs() / math.sqrt(2) for k in range(d)] + [table[f"x{d}"].sqrt()]
    return table.mutate(**{f"u{k}_1": 4 / (2 + x) - 1 for k, x in enumerate(arguments)})


def _square(power, d, table) -> Any:
    """The columns with u to twice the `power`."""
    names = [f"u{k}_{power}" for k in range(d + 1)]
    return table.mutate(**{f"u{k}_{2 * power}": table[x] * table[x] for k, x in enumerate(names)})


def _normal_levels(d, table) -> Any:
    """Φ of d columns, and the distribution function of |z|² of the last, ½|z|², as
    `log_statistics` has them.
    """
    levels = {}
    for k in range(d):
        z, tail = table[f"x{k}"], 0.5 * _erfc(table, k, 0.5 * table[f"x{k}"] * table[f"x{k}"])
        levels[f"x{k}"] = (z > 0).ifelse(1 - tail, tail)
    return table.select(**levels, **{f"x{d}": 1 - _upper_gamma(d, table)})


def _erfc(table, k, square):
    parts = [float(x) for x in _COEFFICIENTS]
    for power in POWERS:
        u = table[f"u{k}_{power}"]
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [pair[0] + pair[1] * u if len(pair) == 2 else pair[0] for pair in pairs]
    return (table[f"u{k}_1"] + 1) / 2 * (parts[0] - square).exp()


def _q(u: Any) -> Any:
    """q at t = (u + 1)/2."""
    t = np.maximum((u + 1) / 2, 1e-300)
    return np.where(t < 1e-8, math.log(1 / (2 * math.sqrt(math.pi))), np.log(erfcx(2 / t - 2) / t))


_COEFFICIENTS = chebyshev.cheb2poly(chebyshev.chebinterpolate(_q, 28))
POWERS = (1, 2, 4, 8, 16)  # of u


def _upper_gamma(d, table):
    """Γ(d/2, x) / Γ(d/2) of the column x, a finite sum where d is whole."""
    x, odd = table[f"x{d}"], d % 2
    powers = [0.5 + k for k in range(d // 2)] if odd else [float(k) for k in range(d // 2)]
    terms = [x.pow(power) / float(gamma(power + 1)) for power in powers]
    total = (-x).exp() * sum(terms[1:], start=terms[0]) if terms else 0.0
    return total + _erfc(table, d, x) if odd else total

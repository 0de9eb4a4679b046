"""Is a log what it is said to be? Ranges, densities against the declared policy, repeats, users,
drift; in two passes.

Every finding has a level, `trust`, `caution` or `refuse`, and says what was found. A statistical
finding is a caution if it is significant with all tests of its kind taken together (Bonferroni,
level `LEVEL`), and refuses the log if it also matters (the `MATERIAL` sizes) and is as unlikely as
what refuses elsewhere (`REFUSE_P_VALUE`): in twenty million rows the smallest flaw is significant,
and in five hundred a good log may be off by as much. Where users repeat, tests see the first row of
each, which are independent.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from mopl_jax.diagnostics.appearance import findings_of
from mopl_jax.diagnostics.finding import Finding
from mopl_jax.diagnostics.log_report import LogReport
from mopl_jax.diagnostics.log_statistics import CELLS, NOTHING, PERIODS, LogStatistics, widen
from mopl_jax.diagnostics.surface_drift import by_day, surface_drift, trend
from mopl_jax.diagnostics.verdicts import REFUSE_P_VALUE
from mopl_jax.io.kinds import is_time
from mopl_jax.io.log_reader import LogReader, chunks
from mopl_jax.io.recency import DAY, weekday
from mopl_jax.numerics import chi_square
from mopl_jax.policies.support import is_continuous, on_simplex

CHUNK = 2**17
LEVEL = 0.01
MATERIAL_SHIFT = 0.05  # standard deviations of a mean; relative error of a variance; a correlation
MATERIAL_DISTANCE = 0.02  # Kolmogorov–Smirnov
MATERIAL_WEIGHT = 1e-3  # of the mean weight: what rounding of the densities in a file may leave


def check_rows(reader: LogReader, watch: Callable = iter, target: Any = None) -> LogReport:
    """What the checks find of a log that is open; `watch` is handed the chunks of each pass.

    `target`: the policy that the log is asked about, where it is: one with a density is not
    answered for by arms, or by weights on a bound.
    """
    spans, statistics = _counted(reader, watch)
    checks = (
        _rows,
        _rewards,
        _actions,
        _propensities,
        _declared,
        _repeats,
        functools.partial(_appearance, target),
        _users,
        _drift,
        _surface_drift,
    )
    return LogReport(
        log=reader.source.name,
        findings=tuple(finding for check in checks for finding in check(reader, statistics)),
        n=spans.n,
        ranges=spans.ranges,
        repeated_rows=statistics.rows.repeated,
        tested_rows=statistics.tested,
        clusters=None if statistics.users is None else statistics.users.number,
    )


def _counted(reader, watch):
    if reader.source.table is not None:
        from mopl_jax.diagnostics.table_statistics import table_statistics  # and scipy

        return table_statistics(reader)
    spans = functools.reduce(widen, watch(chunks(reader, CHUNK)), NOTHING)
    statistics = LogStatistics(reader, spans)
    for rows in watch(chunks(reader, CHUNK)):
        statistics.add(rows)
    return spans, statistics


# The checks.


def _rows(reader, facts):
    n = facts.spans.n
    level = "caution" if n < 100 else "trust"
    yield Finding("rows", level, f"{n:,} in {reader.source.name}")
    level = "caution" if reader.columns.fit_logging else "trust"
    for text in reader.source.remarks:
        yield Finding("read", level, text)


def _rewards(reader, facts):
    low, high = facts.spans.ranges["reward"]
    if low == high:
        yield Finding("reward", "refuse", f"constant, {low:g}: it tells policies apart in nothing")
        return
    shifted, squares = facts.reward / facts.spans.n
    mean, deviation = low + shifted, math.sqrt(max(squares - shifted**2, 0))
    count = len(facts.appearance.reward.value)
    values = f"{count} different values" if count <= 10 else "many values"
    yield Finding(
        "reward",
        "trust",
        f"{low:g} to {high:g}, mean {mean:.5g}, standard deviation {deviation:.4g}, {values}",
    )


def _actions(reader, facts):
    names = reader.columns.action
    if names is None:
        yield Finding(
            "action",
            "caution",
            "no action columns: only policies with a density column can be evaluated",
        )
        return
    low, high = facts.spans.ranges["action"]
    labels = _labels(reader, facts) or []
    if (low == high).all():
        yield Finding(
            "action",
            "refuse",
            "a single distinct action was played: the log says nothing of any other",
        )
        return
    for name in [name for name, fixed in zip(labels, low == high, strict=True) if fixed]:
        yield Finding(
            "action", "refuse", f"{name} never varies: no policy that moves it can be evaluated"
        )
    ranges = ", ".join(
        f"{name} {a:.3g} to {b:.3g}" for name, a, b in zip(labels, low, high, strict=True)
    )
    yield Finding("action", "trust", f"{len(low)} weights: {ranges}")


def _labels(reader, facts):
    """A name for each weight; entries of a list are numbered. None without actions."""
    names, width = reader.columns.action, len(facts.appearance.action)
    if names is None or len(names) == width:
        return names
    return [f"{names[0]}[{i}]" for i in range(width)]


def _propensities(reader, facts):
    low, high = facts.spans.ranges["log_propensity"]
    origin = "column" if reader.columns.density else "declared policy"
    wide = high - low > 50
    note = (
        ": some actions were e⁵⁰ times as likely as others; their weights will decide"
        if wide
        else ""
    )
    yield Finding(
        "propensity",
        "caution" if wide else "trust",
        f"log density {low:.4g} to {high:.4g} ({origin}){note}",
    )


def _declared(reader, facts):
    if reader.logging is None:
        yield Finding(
            "declared policy",
            "caution",
            "none (--logging): densities and actions cannot be checked against it",
        )
        return
    if facts.log_ratio is not None:
        yield _contradiction(facts.log_ratio)
    if facts.arms is not None:
        yield _arms(reader.logging, facts)
        return
    if facts.cells is None:
        kind = type(reader.logging).__name__
        yield Finding(
            "declared policy", "trust", f"a {kind}: actions are not tested against this kind"
        )
        return
    yield from _tests(facts)


def _arms(policy, facts):
    """Pearson's χ² of how often each arm was played."""
    expected = np.exp(np.asarray(policy.log_probability)) * facts.arms.sum()
    statistic = (np.square(facts.arms - expected) / expected).sum()
    p_value = chi_square.tail(statistic, len(expected) - 1)
    gap = np.abs(facts.arms - expected).max() / facts.arms.sum()
    return _tested("action shares", f"off by {gap:.3g} at most", p_value, gap, MATERIAL_DISTANCE)


def _contradiction(ratios):
    (n, total, squares, rounded), low, high, beyond = ratios
    mean, rounding = total / n, rounded / n
    error = math.sqrt(max(squares / n - mean**2, 0) / n) if math.isfinite(squares) else math.inf
    found = (
        f"mean weight of the declared policy {mean:.5g} ± {error:.2g}, ratios {math.exp(low):.4g}"
        f" to {math.exp(high):.4g}"
    )
    if high - low < 1e-6 and abs(mean - 1) > MATERIAL_WEIGHT + rounding:
        return Finding(
            "declared density",
            "refuse",
            f"{found}: the column is the density times a constant; normalise it",
        )
    if abs(mean - 1) > max(MATERIAL_WEIGHT, 4 * error) + rounding:
        return Finding(
            "declared density",
            "refuse",
            f"{found}: the propensities contradict the declared policy",
        )
    if beyond > 0.01:
        return Finding(
            "declared density",
            "caution",
            f"{found}: propensities of another policy of mean weight one?",
        )
    return Finding("declared density", "trust", found)


def _tests(facts):
    """Means, variances, correlations and distributions of the whitened actions, each kind with its
    worst case.
    """
    n, families = facts.tested, []
    if facts.whitened is not None:
        second = facts.whitened / n
        mean = second[0, 1:]
        covariance = second[1:, 1:] - np.outer(mean, mean)
        scale = np.sqrt(np.maximum(np.diagonal(covariance), 1e-300))
        upper = (covariance / np.outer(scale, scale))[np.triu_indices(len(mean), 1)]
        spread = np.abs(np.square(scale) - 1)
        families = [("means", np.abs(mean), math.sqrt(n)), ("variances", spread, math.sqrt(n / 2))]
        families += [("correlations", np.abs(upper), math.sqrt(n))] if len(upper) else []
    count = sum(len(size) for _, size, _ in families) + len(facts.cells)
    for name, size, root in families:
        p_value = math.erfc(root * float(size.max()) / math.sqrt(2))
        yield _tested(
            f"action {name}",
            f"off by {size.max():.3g} at most",
            p_value * count,
            size.max(),
            MATERIAL_SHIFT,
        )
    expected = np.arange(1, CELLS + 1) / CELLS
    distance = np.abs(np.cumsum(facts.cells, axis=1) / n - expected).max(axis=1)
    p_value = _kolmogorov(math.sqrt(n) * float(distance.max()))
    found = f"Kolmogorov–Smirnov distance {distance.max():.3g} at most"
    yield _tested("action distribution", found, p_value * count, distance.max(), MATERIAL_DISTANCE)


def _tested(check, found, p_value, size, material):
    """`p_value` is corrected for the number of tests."""
    p_value = min(p_value, 1.0)
    level, said = "trust", ""
    if p_value < LEVEL:
        level, said = "caution", ": significant, but small"
    if p_value < LEVEL and size > material:
        sure = p_value < REFUSE_P_VALUE
        level = "refuse" if sure else "caution"
        said = ": not the declared policy" if sure else ": perhaps not the declared policy"
    return Finding(check, level, f"{found}, p = {p_value:.2g}{said}")


def _kolmogorov(x):
    """P(sup |Brownian bridge| > x)."""
    return (
        1.0
        if x < 0.2
        else min(1.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101)))
    )


def _repeats(reader, facts):
    share, seen = facts.rows.repeated, facts.appearance
    by_nature = bool(seen.action) and all(seen.few) and not seen.reward.many
    many = share > 0.001 and reader.columns.count is None and not by_nature
    level = "caution" if many else "trust"
    hint = "; was the log exported twice?" if many else ""
    yield Finding("repeated rows", level, f"{share:.2%}{hint}")


def _appearance(target, reader, facts):
    """Shapes that the declared policy cannot have, draws that repeat, values that stand apart."""
    clustered = reader.columns.cluster is not None
    policies = [x for x in (reader.logging, target) if is_continuous(x)]
    return findings_of(
        facts.appearance,
        _labels(reader, facts),
        clustered=clustered,
        continuous=bool(policies),
        simplex=all(map(on_simplex, policies)),
        declared=reader.logging,
    )


def _users(reader, facts):
    if reader.columns.cluster is None:
        return
    number, rows, low, high, median = facts.users
    share = high / rows
    level = "refuse" if number < 2 else "caution" if number < 50 or share > 0.05 else "trust"
    found = f"{number:,}, of {low:,} to {high:,} rows (median {median:g})"
    yield Finding(
        "users",
        level,
        f"{found}; the largest has {share:.1%} of the rows" if level != "trust" else found,
    )


MIXED = (
    "; the logging policy is a mixture: if its policies played at different times, what changed"
    " between them counts as their work; name each log with its own policy ([[files]])"
)
CHANGED = (
    "; a surface takes for its work what else changed then: name the file of each period apart"
    " ([[files]])"
)


def _drift(reader, facts):
    """One-way analysis of variance over the periods, for the reward and for each weight."""
    mixed = reader.is_mixed
    if facts.periods is None:
        text = "not tested: a table has no order; name the time (--time)"
        yield Finding("drift", *(("caution", text + MIXED) if mixed else ("trust", text)))
        return
    if facts.tested < 100:
        return
    names = ["reward", *["action"] * (facts.series - 1)]
    results = [_variance_between(facts.periods[:, :, j]) for j in range(facts.series)]
    by = "time" if reader.columns.time else "row number"
    declared = sum(part.logging is not None for part in reader.parts or reader.mixed or ())
    for kind in dict.fromkeys(names):
        some = [result for name, result in zip(names, results, strict=True) if name == kind]
        p_value, size = min(p for p, _ in some) * len(results), max(size for _, size in some)
        moved = p_value < LEVEL
        meant = declared > 1 and kind == "action"
        said = {
            "reward": ": it changed over the log; values are averages over it",
            "action": f": of {declared} logging policies" if meant else ": the logger changed",
        }[kind]
        if kind == "action" and (mixed or not meant):
            said += MIXED if mixed else CHANGED
        found = (
            f"{PERIODS} periods by {by} differ by {size:.2g} standard deviations at most, p ="
            f" {min(p_value, 1):.2g}"
        )
        level = "caution" if moved and not meant else "trust"
        if mixed and kind == "action" and p_value < REFUSE_P_VALUE and size > MATERIAL_SHIFT:
            level = "refuse"
        yield Finding(f"drift of the {kind}", level, found + (said if moved else ""))


def _surface_drift(reader, facts):
    """Whether what a weight is worth changes over the log, or with the weekday."""
    if not facts.held:
        return
    time, reward, unit, action = map(np.concatenate, zip(*facts.held, strict=True))
    slopes = functools.partial(surface_drift, action, reward, time, unit=unit)
    whole, week = trend(time), None
    if _has_weekdays(reader, facts):
        week = by_day(weekday(time))
    asked = {"over the log": slopes(basis=whole, beside=week)}
    if week is not None:
        asked["with the weekday"] = slopes(basis=week, beside=whole)
    for what, found in asked.items():
        if math.isnan(found.p_value):
            continue
        p_value = min(found.p_value * len(asked), 1)
        said = f"slopes of the reward change {what} by up to {found.change:.2g} standard deviations"
        changed = p_value < LEVEL
        level, rest = ("caution", MOVES[what]) if changed else ("trust", "")
        yield Finding("drift of the surface", level, f"{said}, p = {p_value:.2g}{rest}")


MOVES = {  # what to do where the surface moves
    "over the log": ": what a weight is worth changed, not the mean alone; --half-life 7d, of"
    " evaluate, compare and learn, counts later rows for more",
    "with the weekday": ": what a weight is worth changes within the week; log whole weeks, or"
    " count each weekday alike (--time-feature weekday)",
}


def _has_weekdays(reader, facts) -> bool:
    """Whether times are moments, of two weeks at least."""
    name = reader.columns.time
    if name is None or not is_time(reader.source.kind(name)):
        return False
    low, high = facts.spans.ranges["time"]
    return high - low >= 14 * DAY


@np.errstate(over="ignore", invalid="ignore")  # of numbers whose squares no float holds: no drift
def _variance_between(periods: Float[np.ndarray, "3 periods"]) -> tuple[float, float]:
    """p-value of equal means, and the range of the means over the standard deviation within
    periods.
    """
    count, total, square = periods[:, periods[0] > 0]
    means, n = total / count, count.sum()
    within = (square - count * means**2).sum() / max(n - len(count), 1)
    if len(count) < 2 or not within > 1e-12 * square.sum() / n:
        return 1.0, 0.0
    statistic = (count * np.square(means - total.sum() / n)).sum() / within
    return chi_square.tail(statistic, len(count) - 1), float(np.ptp(means) / math.sqrt(within))

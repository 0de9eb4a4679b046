"""The ends of intervals by name, from an answer: of sums where they do, of rows otherwise."""

import math
from collections.abc import Sequence

import jax
import numpy as np

from mopl_jax.evaluation.answer import IN_MEMORY, Answer
from mopl_jax.intervals.facts import Facts
from mopl_jax.intervals.formulas import Wald, batched_intervals
from mopl_jax.intervals.interval import NamedInterval
from mopl_jax.intervals.registry import METHODS, WALD, bind, bind_sums
from mopl_jax.intervals.reward_range import Range, between
from mopl_jax.intervals.two_halves import of_halves
from mopl_jax.io.log_reader import LogReader, room
from mopl_jax.numerics.check import choose
from mopl_jax.numerics.quick_jit import quick_jit


def check_intervals(
    reader: LogReader,
    names: Sequence[str],
    facts: Facts,
    in_memory: int = IN_MEMORY,
    of_mean: bool = True,
) -> None:
    """ValueError for the first of `names` that this log or these facts do not support.

    Before the log is read. Of a ratio or an adjusted value, no mean of rewards, variances apply.
    """
    choose(names, METHODS, "interval")
    in_engine = reader.source.table is not None
    most = math.inf if reader.columns.cluster is not None else room(reader, in_memory)
    large = in_engine or reader.source.count() > most
    for name in names:
        bind(name, facts)
        if not of_mean and name not in (*WALD, "recommended"):
            raise ValueError(
                f"interval {name!r} is for a mean of rewards: of a ratio or an adjusted value"
                f" choose one made of a variance: {', '.join(WALD)}"
            )
        if large and not METHODS[name].from_sums:
            remedy = "export them to Parquet" if in_engine else "raise --in-memory"
            raise ValueError(
                f"interval {name!r} needs all rows in memory, and the log has "
                f"{reader.source.count():,}: {remedy}, or choose one made of sums: "
                f"{', '.join(name for name, method in METHODS.items() if method.from_sums)}"
            )


def check_facts(answer: Answer, names: Sequence[str], facts: Facts) -> None:
    """ValueError where a row weighs more than the declared `w_max` that an interval uses."""
    users = [name for name in names if "w_max" in METHODS[name].requires]
    if facts.w_max is None or answer.estimate is None or not users:
        return
    heaviest = np.asarray(answer.estimate.log_weight)
    row = int(np.argmax(heaviest))
    largest, declared = float(np.exp(heaviest[row])), float(facts.w_max)
    if largest > declared * (1 + 1e-4):  # densities that were rounded
        raise ValueError(
            f"interval {users[0]!r}: expected importance weights up to w_max = {declared:g}, got "
            f"{largest:.4g} in row {row + 1}; give the largest that the two policies allow "
            "(--w-max), or choose another interval"
        )


def limits(
    answer: Answer,
    names: Sequence[str],
    alpha: float,
    facts: Facts,
    possible: Range | None = None,
) -> tuple[NamedInterval, ...]:
    """The intervals `names` of an answer at level `alpha`, cut to what is `possible`: the reward
    range among the facts, unless another is given.
    """
    wald = tuple(name for name in names if isinstance(bind(name, facts), Wald))
    found = dict(zip(wald, _wald(answer.moments, alpha, wald), strict=True)) if wald else {}
    for name in names:
        if name not in found:
            found[name] = _of(answer, name, alpha, facts)
    possible = possible or facts.reward_range
    if possible is not None:
        found = {name: between(x.lower, x.upper, possible) for name, x in found.items()}
    ends = jax.device_get([(found[name].lower, found[name].upper) for name in names])
    return tuple(
        NamedInterval(name, float(lower), float(upper))
        for name, (lower, upper) in zip(names, ends, strict=True)
    )


@quick_jit("names")
def _wald(moments, alpha, names):
    """All of them with one Student quantile, which is most of the compile time."""
    formulas = [WALD["ess_skew" if name == "recommended" else name] for name in names]
    return batched_intervals([formula.at(moments) for formula in formulas], alpha)


def _of(answer, name, alpha, facts):
    if answer.halves is not None:
        return _of_halves(answer.moments, answer.halves, alpha, facts.reward_range)
    if not METHODS[name].from_sums:
        return jax.jit(lambda estimate: bind(name, facts)(estimate, alpha))(answer.estimate)
    return _of_sums(answer.moments, alpha, facts, name)


@quick_jit("name")
def _of_sums(moments, alpha, facts, name):
    return bind_sums(name, facts)(moments, alpha)


@quick_jit("reward_range")
def _of_halves(moments, halves, alpha, reward_range):
    return of_halves(moments, halves, alpha, reward_range=reward_range)

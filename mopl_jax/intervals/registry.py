"""What is known before a row is seen, and the intervals that need it.

`bind(name, facts)` turns any interval of the package into one with the house contract
`(estimate, alpha) -> Interval`: callers that know a reward range, a largest weight or d₂ give it
once, for all intervals.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mopl_jax.estimators import divergence
from mopl_jax.intervals.bootstrap import bca, percentile, studentised
from mopl_jax.intervals.concentration import (
    cantelli,
    efron_stein,
    empirical_bernstein,
    hoeffding,
    log_smoothing,
)
from mopl_jax.intervals.confidence_sequences import asymptotic_cs, betting, empirical_bernstein_cs
from mopl_jax.intervals.default import recommended
from mopl_jax.intervals.ess_corrected import ess_skew
from mopl_jax.intervals.interval import IntervalFunction
from mopl_jax.intervals.likelihood import cressie_read, empirical_likelihood
from mopl_jax.intervals.proportions import clopper_pearson, ess_wilson, ess_wilson_skew
from mopl_jax.numerics.check import choose
from mopl_jax.numerics.pytree import pytree_dataclass


@pytree_dataclass(static=("reward_range",))
class Facts:
    """Facts about a platform and a pair of policies; None where unknown.

    `reward_range` (low, high), one end may be infinite · `w_max` () the largest importance
    weight · `d2` () its second moment · `draws` (m, n) log weights of m simulated logs under the
    logging policy. Of a policy pair in closed form: `policy_facts`.
    """

    reward_range: tuple[float, float] | None = None
    w_max: Float[Array, ""] | None = None
    d2: Float[Array, ""] | None = None
    draws: Float[Array, "m n"] | None = None


def policy_facts(logging, target, reward_range: tuple[float, float] | None = None) -> Facts:
    """`Facts` with w_max and d₂ of a logging and a target policy where they have a closed form,
    None elsewhere.
    """
    return Facts(
        reward_range,
        _closed(divergence.population_max_weight, logging, target),
        _closed(divergence.population_d2, logging, target),
    )


def _closed(function: Callable, logging, target) -> Array | None:
    try:
        return jnp.asarray(function(logging, target))
    except (TypeError, ValueError):
        return None


class Informed(NamedTuple):
    """An interval function and the keyword options that are facts, by their names in `Facts`:
    needed, and welcome.
    """

    function: Callable
    needs: tuple[str, ...]
    welcomes: tuple[str, ...] = ()


INFORMED = {
    "recommended": Informed(recommended, (), ("reward_range",)),
    "percentile": Informed(percentile, ()),
    "studentised": Informed(studentised, ()),
    "bca": Informed(bca, ()),
    "empirical_likelihood": Informed(empirical_likelihood, ()),
    "asymptotic_cs": Informed(asymptotic_cs, ()),
    "ess_wilson": Informed(ess_wilson, ("reward_range",)),
    "ess_wilson_skew": Informed(ess_wilson_skew, ("reward_range",)),
    "clopper_pearson": Informed(clopper_pearson, ("reward_range",)),
    "cressie_read": Informed(cressie_read, ("reward_range", "w_max")),
    "hoeffding": Informed(hoeffding, ("reward_range", "w_max")),
    "empirical_bernstein": Informed(empirical_bernstein, ("reward_range", "w_max")),
    "cantelli": Informed(cantelli, ("reward_range", "d2")),
    "efron_stein": Informed(efron_stein, ("reward_range", "draws")),
    "log_smoothing": Informed(log_smoothing, ("reward_range",)),
    "empirical_bernstein_cs": Informed(empirical_bernstein_cs, ("reward_range", "w_max")),
    "betting": Informed(betting, ("reward_range", "w_max")),
}
GIVEN = {
    "reward_range": "--reward-range LOW,HIGH",
    "w_max": "--w-max",
    "d2": "--d2",
    "draws": "in Python alone: intervals.bind(name, Facts(draws=…))",
}
ONE_SIDED_RANGE = ("log_smoothing",)  # these accept a range with one infinite end


def missing(name: str, facts: Facts) -> tuple[str, ...]:
    """The facts that the interval `name` needs and that are not known (an infinite range counts as
    unknown).
    """
    known = (
        {need: getattr(facts, need) is not None for need in INFORMED[name].needs}
        if name in INFORMED
        else {}
    )
    if known.get("reward_range") and name not in ONE_SIDED_RANGE:
        known["reward_range"] = all(math.isfinite(end) for end in facts.reward_range or ())
    return tuple(need for need, present in known.items() if not present)


def available(names: Sequence[str], facts: Facts) -> tuple[str, ...]:
    """Those of the intervals `names` whose facts are all known (simulated `draws` count: a study
    can make them).
    """
    return tuple(name for name in names if not set(missing(name, facts)) - {"draws"})


def bind(name: str, facts: Facts, named: dict[str, IntervalFunction]) -> IntervalFunction:
    """The interval function `name`, of `named` or `INFORMED`, with the facts it needs; ValueError
    if one is unknown.
    """
    choose([name], named | INFORMED, "interval")
    if name == "recommended" and facts.reward_range is None:
        return ess_skew  # the same, but known to be a formula in sums over the rows
    if name in named:
        return named[name]
    if absent := missing(name, facts):
        told = " and ".join(f"{fact} ({GIVEN[fact]})" for fact in absent)
        raise ValueError(f"interval {name!r} needs {told}; give it, or choose another interval")
    function, needs, welcomes = INFORMED[name]
    return functools.partial(function, **{fact: getattr(facts, fact) for fact in needs + welcomes})


def check_rewards(reward: Float[Array, " n"], reward_range: tuple[float, float]) -> None:
    """ValueError that names the first reward outside the range: a bound for bounded rewards would
    not be one.
    """
    low, high = reward_range
    outside = np.flatnonzero(~((np.asarray(reward) >= low) & (np.asarray(reward) <= high)))
    if outside.size:
        row = int(outside[0])
        raise ValueError(
            f"expected rewards in [{low:g}, {high:g}], got {float(reward[row]):g} in row {row + 1}"
            f" of {len(reward)} ({outside.size} in all); give the range that the platform"
            " guarantees, or repair the rows"
        )

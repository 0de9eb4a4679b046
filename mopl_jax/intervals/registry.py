"""Every interval by its name, what it needs to be known, and what is known before a row is seen.

`bind(name, facts)` turns any interval of `METHODS` into one with the house contract
`(estimate, alpha) -> Interval`: callers that know a reward range, a largest weight or d₂ give it
once, for all intervals. `bind_sums(name, facts)` gives `(moments, alpha) -> Interval` for those
that are formulas of sums over the rows: for logs too long for memory, meshes, prefixes.

| for rewards in a known range | exact for every n | needs | for |
|---|---|---|---|
| `hoeffding`, `empirical_bernstein` | yes | range, w_max, independent rows | V from mean(w (r−c)) |
| `ess_score`, `ess_wilson`, `ess_wilson_skew`, `clopper_pearson` | no | range | `snips` |
| `cressie_read` | asymptotically, very good for few rows | range, w_max or ∞ | V from w and w r |
| `empirical_likelihood` | asymptotically | nothing | V from the ratio Σwr / Σw |

`hoeffding`, `empirical_bernstein`, `cressie_read` and `empirical_likelihood` use only
`log_weight` and `reward` of the estimate, as importance weights and rewards, not its value: they
bound V whichever estimator made it, and are not for differences, whose `log_weight` is something
else.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Sequence

from mopl_jax.intervals.bootstrap import bca, percentile, studentised
from mopl_jax.intervals.borrowed import ess_borrowed
from mopl_jax.intervals.concentration import (
    cantelli,
    efron_stein,
    empirical_bernstein,
    hoeffding,
    log_smoothing,
)
from mopl_jax.intervals.confidence_sequences import asymptotic_cs, betting, empirical_bernstein_cs
from mopl_jax.intervals.default import recommended
from mopl_jax.intervals.ess_corrected import (
    ess_bessel,
    ess_exact,
    ess_kish,
    ess_rescaled,
    ess_safe,
    ess_skew,
    ess_student,
    with_max_weight,
)
from mopl_jax.intervals.facts import Facts
from mopl_jax.intervals.formulas import FromSums, Wald
from mopl_jax.intervals.interval import Interval, IntervalFunction
from mopl_jax.intervals.likelihood import cressie_read, empirical_likelihood
from mopl_jax.intervals.proportions import clopper_pearson, ess_score, ess_wilson, ess_wilson_skew
from mopl_jax.intervals.tails import extreme_terms
from mopl_jax.intervals.wald import hc2, hc3, normal
from mopl_jax.numerics.check import choose


@dataclasses.dataclass(frozen=True)
class Method:
    """An interval: its name, its function, and the facts that are options of the function.

    Facts go by their names in `Facts`.
    """

    name: str
    function: Callable[..., Interval]  # (estimate, alpha, **facts); a `Wald` or `FromSums` formula
    requires: tuple[str, ...] = ()
    accepts: tuple[str, ...] = ()  # welcome, not needed
    one_sided_range: bool = False  # a reward range with one infinite end will do

    @property
    def from_sums(self) -> bool:
        """Whether `Moments` are all that it needs of the rows."""
        return isinstance(self.function, Wald | FromSums)

    @property
    def summary(self) -> str:
        """The first line of its documentation."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    def options(self, facts: Facts) -> dict:
        """The facts that are options of the function, by name; ValueError if one is unknown."""
        if absent := missing(self.name, facts):
            told = " and ".join(f"{fact} ({GIVEN[fact]})" for fact in absent)
            raise ValueError(
                f"interval {self.name!r} needs {told}; give it, or choose another interval"
            )
        return {fact: getattr(facts, fact) for fact in self.requires + self.accepts}


_RANGE, _WEIGHT = ("reward_range",), ("reward_range", "w_max")

METHODS = {
    method.name: method
    for method in (
        Method("normal", normal),
        Method("hc2", hc2),
        Method("hc3", hc3),
        Method("ess_bessel", ess_bessel),
        Method("ess_rescaled", ess_rescaled),
        Method("ess_kish", ess_kish),
        Method("ess_student", ess_student),
        Method("ess_exact", ess_exact),
        Method("ess_safe", ess_safe),
        Method("ess_skew", ess_skew),
        Method("ess_bessel_max", with_max_weight(ess_bessel)),
        Method("ess_rescaled_max", with_max_weight(ess_rescaled)),
        Method("ess_kish_max", with_max_weight(ess_kish)),
        Method("ess_student_max", with_max_weight(ess_student)),
        Method("recommended", recommended, accepts=_RANGE),
        Method("ess_borrowed", ess_borrowed),
        Method("extreme_terms", extreme_terms, accepts=_RANGE),
        Method("percentile", percentile),
        Method("studentised", studentised),
        Method("bca", bca),
        Method("empirical_likelihood", empirical_likelihood),
        Method("asymptotic_cs", asymptotic_cs),
        Method("ess_wilson", ess_wilson, _RANGE),
        Method("ess_wilson_skew", ess_wilson_skew, _RANGE),
        Method("ess_score", ess_score, _RANGE),
        Method("clopper_pearson", clopper_pearson, _RANGE),
        Method("cressie_read", cressie_read, _WEIGHT),
        Method("hoeffding", hoeffding, _WEIGHT),
        Method("empirical_bernstein", empirical_bernstein, _WEIGHT),
        Method("cantelli", cantelli, ("reward_range", "d2")),
        Method("efron_stein", efron_stein, ("reward_range", "draws")),
        Method("log_smoothing", log_smoothing, _RANGE, one_sided_range=True),
        Method("empirical_bernstein_cs", empirical_bernstein_cs, _WEIGHT),
        Method("betting", betting, _WEIGHT),
    )
}
WALD = {name: m.function for name, m in METHODS.items() if isinstance(m.function, Wald)}
GIVEN = {
    "reward_range": "--reward-range LOW,HIGH",
    "w_max": "--w-max",
    "d2": "--d2",
    "draws": "in Python alone: intervals.bind(name, Facts(draws=…))",
}


def missing(name: str, facts: Facts) -> tuple[str, ...]:
    """The facts that the interval `name` needs and that are not known.

    A range with an infinite end counts as unknown unless it is enough for the method.
    """
    method = METHODS[name]
    known = {fact: getattr(facts, fact) is not None for fact in method.requires}
    if known.get("reward_range") and not method.one_sided_range:
        known["reward_range"] = all(math.isfinite(end) for end in facts.reward_range or ())
    return tuple(fact for fact, present in known.items() if not present)


def available(names: Sequence[str], facts: Facts) -> tuple[str, ...]:
    """The intervals among `names` whose facts are all known.

    Simulated `draws` count: a study can make them.
    """
    return tuple(name for name in names if not set(missing(name, facts)) - {"draws"})


def bind(name: str, facts: Facts = Facts()) -> IntervalFunction:  # noqa: B008  (a frozen record)
    """The interval `name` of `METHODS` as `(estimate, alpha) -> Interval`, given the facts.

    ValueError if a fact that it needs is unknown.
    """
    choose([name], METHODS, "interval")
    if name == "recommended" and facts.reward_range is None:
        return ess_skew  # the same, but known to be a `Wald`
    function, options = METHODS[name].function, METHODS[name].options(facts)
    return functools.partial(function, **options) if options else function


def bind_sums(
    name: str,
    facts: Facts = Facts(),  # noqa: B008  (a frozen record)
) -> Callable[..., Interval]:
    """The interval `name` of `METHODS` as `(moments, alpha) -> Interval`, given the facts.

    ValueError if a fact that it needs is unknown or if sums do not suffice for it.
    """
    choose([name], METHODS, "interval")
    function, options = METHODS[name].function, METHODS[name].options(facts)
    if isinstance(function, Wald):
        return lambda sums, alpha: function.at(sums).interval(alpha)
    if isinstance(function, FromSums):
        return functools.partial(function.at, **options)
    raise ValueError(f"interval {name!r} needs rows, not only sums over them")

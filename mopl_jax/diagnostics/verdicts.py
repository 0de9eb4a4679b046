"""When a log is trusted, taken with caution or refused: one table of rules, for arrays and words.

A rule has a level, a condition on a diagnosis, and a sentence. The verdict is the gravest level
whose condition holds, traced or not; the reasons are the sentences, of each subject the gravest.
What the rules are worth is measured by benchmarks/verdict.py: unseen heavy weights are refused, and
what is trusted covers. Few effective rows are refused for their width, `recommended` covers there
as well (docs/intervals.md).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp

from mopl_jax.numerics.shapes import Count

VERDICTS = ("trust", "caution", "refuse")
CAUTION, REFUSE = 1, 2

REFUSE_ESS = 10.0  # below, the Student quantile is above 2.2 and one row decides
CAUTION_ESS = 100.0
CAUTION_LARGEST = 0.1  # one row with a tenth of the weight
REFUSE_PARETO_K = 1.0  # the mean weight of such a tail is infinite
CAUTION_PARETO_K = 0.7  # or 1 − 1/log₁₀ n if less (Vehtari et al., JMLR 2024)
CAUTION_TERMS = 10.0  # a hundred effective rows of which ten make the variance
CAUTION_INFLUENCE_K = 0.5  # the variance of such contributions is infinite
FEW_TERMS = 50.0  # with more a tail index says little: of products of counts and weights it errs
REFUSE_P_VALUE = 1e-4  # the mean weight is not one: wrong propensities, or a tail not yet seen
CAUTION_P_VALUE = 0.01
REFUSE_UNSEEN = 0.2  # of the target's probability: as much of its value is a guess
CAUTION_UNSEEN = 0.05


class Rule(NamedTuple):
    """`applies(diagnosis, n)` says whether a log is taken at `level`, `sentence` why.

    `subject`: rules of one subject say the same thing at several levels
    """

    subject: str
    level: int
    applies: Callable[[Any, int], Any]
    sentence: Callable[[Any, int], str]


def _tail_limit(n):
    return min(CAUTION_PARETO_K, 1 - 1 / math.log10(max(n, 11)))


def _missed(d):
    return f"{float(d.unseen):.0%} of the target's actions would weigh more than any logged row"


def _unbounded(d):
    known = bool(d.bounded)
    more = ", and no range is known (the interval ess_borrowed asks lighter rows how they vary)"
    return "" if known else more


def _equal(d, n):
    return "all rewards are equal: nothing is known of how they vary"


RULES = (
    Rule(
        "range",
        REFUSE,
        lambda d, n: d.out_of_range > 0,
        lambda d, n: (
            f"{int(d.out_of_range):,} rewards are outside the declared range: "
            "no bound that uses it holds"
        ),
    ),
    Rule(
        "mean",
        REFUSE,
        lambda d, n: (d.mean_weight_p_value < REFUSE_P_VALUE) & (n > 1),
        lambda d, n: (
            f"mean weight {float(d.mean_weight):.4g} is not 1 "
            f"(p = {float(d.mean_weight_p_value):.1g}): wrong densities, or a tail not yet seen"
        ),
    ),
    Rule(
        "ess",
        REFUSE,
        lambda d, n: d.kish < REFUSE_ESS,
        lambda d, n: f"ESS {float(d.kish):,.1f} < {REFUSE_ESS:g}: a row or two decide",
    ),
    Rule(
        "tail",
        REFUSE,
        lambda d, n: (d.pareto_k >= REFUSE_PARETO_K) & (d.pareto_k < math.inf),
        lambda d, n: (
            f"tail index k = {float(d.pareto_k):.2f} ≥ {REFUSE_PARETO_K:g}: "
            "the mean of such weights is infinite"
        ),
    ),
    Rule(
        "unseen",
        REFUSE,
        lambda d, n: d.unseen > REFUSE_UNSEEN,
        lambda d, n: f"{_missed(d)}: its value is a guess",
    ),
    Rule("equal", REFUSE, lambda d, n: (d.num_not_modal == 0) & ~d.bounded, _equal),
    Rule(
        "mean",
        CAUTION,
        lambda d, n: d.mean_weight_p_value < CAUTION_P_VALUE,
        lambda d, n: (
            f"mean weight {float(d.mean_weight):.4g} is doubtful "
            f"(p = {float(d.mean_weight_p_value):.1g})"
        ),
    ),
    Rule(
        "ess",
        CAUTION,
        lambda d, n: d.kish < CAUTION_ESS,
        lambda d, n: f"ESS {float(d.kish):,.1f} < {CAUTION_ESS:g}",
    ),
    Rule(
        "largest",
        CAUTION,
        lambda d, n: d.largest_share > CAUTION_LARGEST,
        lambda d, n: f"one row has {float(d.largest_share):.0%} of the weight",
    ),
    Rule(
        "tail",
        CAUTION,
        lambda d, n: (d.pareto_k >= _tail_limit(n)) & (d.pareto_k < math.inf),
        lambda d, n: (
            f"tail index k = {float(d.pareto_k):.2f} ≥ {_tail_limit(n):.2f}: "
            "the variance of such weights is hardly finite"
        ),
    ),
    Rule(
        "tail",
        CAUTION,
        lambda d, n: d.pareto_k == math.inf,
        lambda d, n: "too few rows to judge the tail of the weights",
    ),
    Rule(
        "rewards",
        CAUTION,
        lambda d, n: (
            (d.influence_k >= CAUTION_INFLUENCE_K)
            & (d.influence_k < math.inf)
            & (d.effective_terms < FEW_TERMS)
        ),
        lambda d, n: (
            f"contributions of rows have tail index k = {float(d.influence_k):.2f} ≥ "
            f"{CAUTION_INFLUENCE_K:g}: rewards that no log has shown may decide"
        ),
    ),
    Rule(
        "unseen",
        CAUTION,
        lambda d, n: d.unseen > CAUTION_UNSEEN,
        lambda d, n: f"{_missed(d)}: the log has hardly seen them",
    ),
    Rule("equal", CAUTION, lambda d, n: d.num_not_modal == 0, _equal),
    Rule(
        "terms",
        CAUTION,
        lambda d, n: (d.effective_terms < CAUTION_TERMS) & (d.num_not_modal != 0),
        lambda d, n: (
            f"{float(d.effective_terms):,.1f} effective rows make the variance, fewer than "
            f"{CAUTION_TERMS:g}: rare rewards decide{_unbounded(d)}"
        ),
    ),
)


def gravest(*levels: str) -> str:
    """The gravest of some verdicts; trust where there are none."""
    return max(levels, key=VERDICTS.index, default=VERDICTS[0])


def grave_first(said: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Texts, each after its verdict, the grave ones first."""
    return tuple(text for _, text in sorted(said, key=lambda pair: -VERDICTS.index(pair[0])))


def verdict_of(diagnosis: Any, n: int) -> Count:
    """The gravest level of the rules that apply to a diagnosis of n rows (or users); traced."""
    levels = [jnp.where(rule.applies(diagnosis, n), rule.level, 0) for rule in RULES]
    return jnp.max(jnp.stack(levels)).astype(jnp.int32)


def reasons(diagnosis: Any, n: int) -> list[str]:
    """Why the verdict is not trust: one sentence a subject, the grave ones first; not traced."""
    found: dict[str, str] = {}
    for rule in RULES:
        if rule.subject not in found and bool(rule.applies(diagnosis, n)):
            found[rule.subject] = rule.sentence(diagnosis, n)
    return list(found.values())

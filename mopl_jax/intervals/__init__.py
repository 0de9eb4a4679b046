"""Confidence intervals for a policy's value.

Contract: `(estimate, alpha) -> Interval`, two-sided with coverage 1 − alpha; options by keyword
or `functools.partial`. Where the data cannot support an interval (no positive weight, one
effective row, no variation) it is the whole line. `lower(interval)` and `upper(interval)` turn
any equal-tailed interval into its one-sided bound. `METHODS` lists them all with the facts each
needs (a reward range, the largest weight, d₂), `WALD` those that are a variance and degrees of
freedom from sums over the rows; `bind(name, facts)` gives any the house contract,
`bind_sums(name, facts)` those that sums suffice for.
"""

from mopl_jax.estimators.cluster import clustered
from mopl_jax.intervals.bootstrap import bca, percentile, studentised
from mopl_jax.intervals.borrowed import ess_borrowed
from mopl_jax.intervals.cluster_robust import cluster_exact
from mopl_jax.intervals.concentration import (
    cantelli,
    efron_stein,
    empirical_bernstein,
    hoeffding,
    log_smoothing,
)
from mopl_jax.intervals.confidence_sequences import asymptotic_cs, betting, empirical_bernstein_cs
from mopl_jax.intervals.default import recommended, recommended_lower
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
from mopl_jax.intervals.facts import Facts, check_rewards, policy_facts
from mopl_jax.intervals.formulas import Pivot, Wald, batched_intervals
from mopl_jax.intervals.interval import Interval, lower, upper
from mopl_jax.intervals.likelihood import cressie_read, empirical_likelihood
from mopl_jax.intervals.moments import Moments, moments_of
from mopl_jax.intervals.proportions import clopper_pearson, ess_score, ess_wilson, ess_wilson_skew
from mopl_jax.intervals.registry import METHODS, WALD, Method, available, bind, bind_sums, missing
from mopl_jax.intervals.tails import extreme_terms
from mopl_jax.intervals.two_halves import recommended_difference
from mopl_jax.intervals.wald import hc2, hc3, normal

__all__ = [
    "Facts",
    "Interval",
    "Moments",
    "METHODS",
    "Method",
    "Pivot",
    "WALD",
    "Wald",
    "asymptotic_cs",
    "available",
    "batched_intervals",
    "bca",
    "betting",
    "bind",
    "bind_sums",
    "cantelli",
    "check_rewards",
    "clopper_pearson",
    "cluster_exact",
    "clustered",
    "cressie_read",
    "efron_stein",
    "empirical_bernstein",
    "empirical_bernstein_cs",
    "empirical_likelihood",
    "ess_bessel",
    "ess_borrowed",
    "ess_exact",
    "ess_kish",
    "ess_rescaled",
    "ess_safe",
    "ess_score",
    "ess_skew",
    "ess_student",
    "ess_wilson",
    "ess_wilson_skew",
    "extreme_terms",
    "hc2",
    "hc3",
    "hoeffding",
    "log_smoothing",
    "lower",
    "missing",
    "moments_of",
    "normal",
    "percentile",
    "policy_facts",
    "recommended",
    "recommended_difference",
    "recommended_lower",
    "studentised",
    "upper",
    "with_max_weight",
]

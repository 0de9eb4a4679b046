"""Coverage of intervals for shares when all weights are equal: sums of binomial probabilities."""

import functools
import itertools
import types
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks._study import markdown
from mopl_jax.intervals.moments import Moments
from mopl_jax.intervals.proportions import score, skewed_score

MOST = 2048  # rows of equal weight


def exact(alpha: float) -> str:
    """Markdown: coverage with n equal weights, for n = 8 … 2,048 and click rates within a fifth of
    1 and 10 %.
    """
    head = ("equal weights", "rate", "mean coverage", "lowest", "share of (n, rate) below 0.94")
    named = {"ess_wilson": score, "ess_wilson_skew": skewed_score}
    lines = []
    for (name, ends), rate in itertools.product(named.items(), (0.01, 0.1)):
        around = [rate * x for x in np.linspace(0.8, 1.2, 9)]
        found = np.array(
            [_binomial(ends, n, p, alpha) for n in range(8, MOST + 1, 6) for p in around]
        )
        shown = (found.mean(), found.min(), np.mean(found < 0.94))
        lines.append([name, f"{rate:.0%}", *(f"{x:.3f}" for x in shown)])
    return markdown(head, lines)


def _binomial(ends, n, rate, alpha):
    """Exact coverage of a rate by n rows of equal weight."""
    low, high = _scores(ends, n, alpha)
    return stats.binom.pmf(np.arange(MOST + 1), n, rate)[(low <= rate) & (rate <= high)].sum()


@functools.cache
def _scores(ends, n, alpha):
    return [np.asarray(end, float) for end in _of_equal(ends, jnp.asarray(float(n)), alpha)]


@functools.partial(jax.jit, static_argnames=("ends", "alpha"))
def _of_equal(ends, n, alpha):
    """Both ends for 0 … `MOST` clicks of n rows, those beyond n clicks unused."""
    shares = jnp.minimum(jnp.arange(MOST + 1) / n, 1)
    if ends is score:
        return score(shares, n, n - 1, alpha)
    equal = types.SimpleNamespace(kish=n, squared=1 / n, df=n - 1, cubic=1 / n)
    return skewed_score(shares, cast(Moments, equal), alpha)

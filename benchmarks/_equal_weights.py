"""Coverage of intervals for shares when all weights are equal: sums of binomial probabilities."""

import functools
import itertools
import types
from collections.abc import Iterator
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks._study import markdown
from mopl_jax.intervals.moments import Moments
from mopl_jax.intervals.proportions import score, skewed_score

MOST = 2048  # rows of equal weight
SHARES = ("mean", "lowest", "below")


def rows(alpha: float) -> Iterator[dict]:
    """Coverage with n equal weights, for n = 8 … 2,048 and click rates within a fifth of 1 and
    10 %.
    """
    named = {"ess_wilson": score, "ess_wilson_skew": skewed_score}
    for (name, ends), rate in itertools.product(named.items(), (0.01, 0.1)):
        around = [rate * x for x in np.linspace(0.8, 1.2, 9)]
        found = np.array(
            [_binomial(ends, n, p, alpha) for n in range(8, MOST + 1, 6) for p in around]
        )
        shares = {"mean": found.mean(), "lowest": found.min(), "below": np.mean(found < 0.94)}
        yield {"interval": name, "rate": rate} | {key: float(x) for key, x in shares.items()}


def table(rows: list[dict]) -> str:
    """A line for each interval and rate."""
    head = ("equal weights", "rate", "mean coverage", "lowest", "share of (n, rate) below 0.94")
    lines = [
        [row["interval"], f"{row['rate']:.0%}", *(f"{row[key]:.3f}" for key in SHARES)]
        for row in rows
    ]
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
    equal = types.SimpleNamespace(kish=n, sum_p2=1 / n, df=n - 1, cubic=1 / n)
    return skewed_score(shares, cast(Moments, equal), alpha)

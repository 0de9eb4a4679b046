"""The interval that borrows from lighter rows: its formula, its limits, coverage where the heavy
rows have not seen the large rewards.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from worlds import rows

from mopl_jax.estimators import snips
from mopl_jax.intervals import ess_borrowed, ess_skew, moments_of
from mopl_jax.intervals.formulas import Pivot

ALPHA, N = 0.05, 60


@jax.jit
@jax.vmap
def found(log_weight, reward):
    """Ends of `ess_borrowed` and of `ess_skew`, and the moments."""
    made = snips(log_weight, reward)
    ends = [f(made, ALPHA) for f in (ess_borrowed, ess_skew)]
    return jnp.stack([jnp.stack([x.lower, x.upper]) for x in ends]), moments_of(made)


def test_formula():
    """The displayed variance and skewness, by numpy from the rows."""
    for seed, spread in ((0, 0.5), (1, 1.5), (2, 2.5)):
        log_weight, reward = rows(seed, N, spread=spread)
        reward = jnp.exp(reward)
        ends, sums = jax.tree.map(lambda x: x[0], found(log_weight[None], reward[None]))
        w, r = np.exp(np.asarray(log_weight)), np.asarray(reward)
        p, u = w / w.sum(), w**0.75 / np.sum(w**0.75)
        s2, e = p @ p, r - u @ r
        square, third = u @ e**2 / (1 - u @ u), u @ e**3
        few = min(1, 8 / min(1 / s2, 1 / float(sums.kurtosis)))
        variance, df, skew = (float(x) for x in ess_skew.formula(sums, stretch=0.5))
        shown = (1 + few / 2) / 3 * (p**3).sum() * third / (s2 * square) ** 1.5
        variance += few * max(s2 * square - variance, 0)
        skew += few * (shown - skew) * (abs(shown) > abs(skew))
        expected = Pivot(*map(jnp.asarray, (float(sums.value), variance, df, skew))).interval(ALPHA)
        np.testing.assert_allclose(ends[0], [expected.lower, expected.upper], rtol=1e-9)


def test_where_nothing_is_said():
    """One row that has all weight, rewards that do not vary: the whole line; order and units do not
    matter.
    """
    log_weight, reward = rows(3, N)
    order = np.random.default_rng(0).permutation(N)
    weights = (log_weight.at[0].set(900.0), log_weight, log_weight, log_weight[order], log_weight)
    rewards = (reward, jnp.full(N, 0.3), reward, reward[order], 1e6 * reward)
    ends = np.asarray(found(jnp.stack(weights), jnp.stack(rewards))[0][:, 0])
    assert np.isinf(ends[:2]).all()
    np.testing.assert_allclose(ends[3], ends[2], rtol=1e-9)
    np.testing.assert_allclose(ends[4] / 1e6, ends[2], rtol=1e-9)


def test_rewards_that_heavy_rows_have_not_seen():
    """Watch time of 30 % of rows, few effective ones of sixteen: `ess_skew` misses in 7 %, a half
    more than it should.
    """
    rng, logs, n = np.random.default_rng(4), 1000, 16
    action = rng.standard_normal((logs, n))
    log_weight = 0.5 * action**2 - 0.5 * ((action - 0.9) / 0.6) ** 2
    watched = rng.random((logs, n)) < 0.3
    reward = np.where(watched, rng.lognormal(0, 1, (logs, n)), 0)
    ends = np.asarray(found(jnp.asarray(log_weight), jnp.asarray(reward))[0])
    truth = 0.3 * np.exp(0.5)
    mine, usual = np.sum((ends[..., 0] <= truth) & (truth <= ends[..., 1]), axis=0)
    assert stats.binom.cdf(mine, logs, 0.945) > 1e-4
    assert usual < 0.935 * logs

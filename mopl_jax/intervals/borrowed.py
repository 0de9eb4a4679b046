"""An interval that asks lighter rows how rewards vary.

Where a few rows have most of the weight, they seldom show the rare large reward that the next ones
would; the rows beside them do.
"""

import jax.numpy as jnp

from mopl_jax.intervals.ess_corrected import caution, ess_skew
from mopl_jax.intervals.formulas import Wald
from mopl_jax.intervals.moments import Moments
from mopl_jax.numerics import safe

# Chosen on values of seven families of the study of differences, d = 1, 5, among 0, ½ and 1; and
# the power of `Moments.light_p2` among ½ and ¾: the narrowest that fails in no cell below ten
# effective rows and in no more above.
STRETCH = 0.5


@Wald
def ess_borrowed(sums: Moments):
    """`ess_skew` with the variance and skewness that lighter rows show, while few terms decide.

    Rows count by u ∝ p^¾ in place of p: with mean, variance σ² = Σue²/(1 − Σu²) and third moment
    κ = Σue³ of the residuals about it, the value would have variance S₂σ² and skewness Σp³ κ /
    (S₂σ²)^1.5 if they were unrelated to the weights. The variance of `ess_skew` is raised by the
    share f of what S₂σ² has more, and its skewness moved by the share f to this one where it is
    larger in size; f is the caution of `ess_skew`, whose stretch is 1 + f/2 here. Where rewards
    depend on the action, lighter rows are of other actions, and what they show may be of no use.
    docs/intervals.md says where it is safer than `recommended`, and what it costs.
    """
    variance, df, skew = ess_skew.formula(sums, stretch=STRETCH)
    few = caution(sums)
    less = jnp.maximum(1 - sums.light_p2, 0)
    borrowed = sums.sum_p2 * sums.light_square * safe.reciprocal(less)
    shown = sums.cubic * safe.reciprocal(safe.sqrt(sums.sum_p2)) * sums.light_skew * less**1.5
    shown = (1 + STRETCH * few) / 3 * shown
    move = jnp.where(jnp.abs(shown) > jnp.abs(skew), few * (shown - skew), 0)
    return variance + few * jnp.maximum(borrowed - variance, 0), df, skew + move

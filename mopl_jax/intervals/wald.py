"""Central-limit intervals and their leverage-corrected relatives; they need nothing but rows.

Assumption: enough *effective* rows for the value to be nearly normal. With few they under-cover,
which the ESS-corrected family repairs. Each formula gives (variance, degrees of freedom); `Wald`
makes it an interval.
"""

import jax.numpy as jnp

from mopl_jax.intervals.formulas import Wald
from mopl_jax.intervals.moments import Moments


@Wald
def normal(sums: Moments):
    """Delta-method variance, for SNIPS Σp²e² · n/(n−1).

    The uncorrected interval.
    """
    return sums.influence * sums.n / jnp.maximum(sums.n - 1, 1), jnp.inf


@Wald
def hc2(sums: Moments):
    """Each squared influence divided by 1 − p (MacKinnon & White 1985, HC2, with leverage p)."""
    return sums.hc2, jnp.inf


@Wald
def hc3(sums: Moments):
    """Each squared influence divided by (1 − p)², for SNIPS the uncentred jackknife.

    MacKinnon & White 1985, HC3: Σ (V̂₍₋ᵢ₎ − V̂)², V̂₍₋ᵢ₎ the value without row i. That is n/(n−1)
    times the textbook's jackknife about the mean of the V̂₍₋ᵢ₎, plus n (mean − V̂)².
    """
    return sums.hc3, jnp.inf

"""Central-limit intervals and their leverage-corrected relatives; they need nothing but rows.

Assumption: enough *effective* rows for the value to be nearly normal. With few they under-cover, which the
ESS-corrected family repairs. Each function gives (variance, degrees of freedom); `Wald` makes it an interval.
"""

import jax.numpy as jnp

from mopl_jax.ess import normalise
from mopl_jax.estimators import Estimate
from mopl_jax.intervals.interval import Wald


@Wald
def normal(estimate: Estimate):
    """Delta-method variance, Σp²e² · n/(n−1) for SNIPS, and the normal quantile: the uncorrected interval."""
    n = estimate.influence.shape[0]
    return influence_variance(estimate) * n / max(n - 1, 1), jnp.inf


@Wald
def hc2(estimate: Estimate):
    """Each squared influence divided by 1 − p (MacKinnon & White 1985, HC2, with leverage p)."""
    return _leveraged(estimate, 1), jnp.inf


@Wald
def hc3(estimate: Estimate):
    """Each squared influence divided by (1 − p)², which for SNIPS is the jackknife (MacKinnon & White 1985, HC3)."""
    return _leveraged(estimate, 2), jnp.inf


def _leveraged(estimate, power):
    slack = 1 - normalise(estimate.log_weight)
    terms = jnp.square(estimate.influence / estimate.influence.shape[0])
    return jnp.sum(terms / jnp.where(slack > 0, slack, 1) ** power)


def influence_variance(estimate: Estimate):
    """Σψ²/n², which is Σp²e² for SNIPS."""
    return jnp.sum(jnp.square(estimate.influence / estimate.influence.shape[0]))

"""Daily looks at one test: critical values of z that hold at all looks together, two-sided.

`users` and `planned` in one unit, whichever: only their ratio counts.

Of a difference with its standard error so far; a metric of several is one difference. Looking every
day at 1.96 and stopping at the first significant one rejects true nulls far more often than 5 %.
"""

import math
from statistics import NormalDist

import numpy as np
from jaxtyping import Float
from scipy import optimize

Users = Float[np.ndarray, " s"]
Critical = Float[np.ndarray, " s"]
TERMS = 40  # of the series: the next is below 1e-16 for every level below 0.999


def fixed(users: Users, planned: float, alpha: float) -> Critical:
    """The quantile of one look, at every look: not valid if one stops at the first."""
    return np.full(len(users), -NormalDist().inv_cdf(alpha / 2))


def mixture(users: Users, planned: float, alpha: float) -> Critical:
    """√(2 (m+1)/m · log(√(m+1)/α)), m = nρ²: at all n together, however long the test lasts.

    The bound of `intervals.asymptotic_cs` (Waudby-Smith et al., arXiv 2103.06476), with ρ² such
    that it is narrowest near half of the `planned` users.
    """
    rho2 = (math.log(math.log(math.e / alpha**2)) - 2 * math.log(alpha)) / (planned / 2)
    m = np.asarray(users) * rho2
    return np.sqrt(2 * (m + 1) / m * np.log(np.sqrt(m + 1) / alpha))


def obrien_fleming(users: Users, planned: float, alpha: float) -> Critical:
    """c/√t at t = n / `planned` ≤ 1, infinite beyond: at all looks up to the planned users.

    c is the quantile of the largest |B(t)| of Brownian motion on [0, 1], so that any looks will do
    (O'Brien & Fleming, Biometrics 1979, in its continuous form). Near the end it costs little: 2.24
    for 1.96.
    """
    t = np.asarray(users) / planned
    with np.errstate(divide="ignore"):
        return np.where(t <= 1 + 1e-9, largest_quantile(alpha) / np.sqrt(t), np.inf)


def largest_quantile(alpha: float) -> float:
    """c with P(max |B(t)| > c, 0 ≤ t ≤ 1) = α, by the series of the two-sided exit."""
    k = np.arange(TERMS)
    odd, sign = 2 * k + 1, (-1.0) ** k

    def excess(c):
        inside = 4 / math.pi * np.sum(sign / odd * np.exp(-((math.pi * odd) ** 2) / (8 * c * c)))
        return 1 - inside - alpha

    return optimize.brentq(excess, 0.3, 10)  # pyright: ignore[reportReturnType]


BOUNDS = {"fixed": fixed, "mixture": mixture, "obrien_fleming": obrien_fleming}


def first(z: Float[np.ndarray, " s"], critical: Critical) -> int | None:
    """The first look at which |z| is beyond its critical value."""
    hits = np.flatnonzero(np.abs(z) > critical)
    return int(hits[0]) if hits.size else None

"""Wilson's score interval for a share, of floats, numpy and traced arrays alike."""

from statistics import NormalDist
from typing import Any


def wilson_ends(share: Any, size: Any, quantile: Any) -> tuple[Any, Any]:
    """The roots V of |share − V| = quantile √(V(1−V)/size), the ends of Wilson's interval.

    (v + q²/2m ± q √(v(1−v)/m + q²/4m²)) / (1 + q²/m) for a share v of m trials, in [0, 1].
    Written with q²/m alone, which is finite where m is too large for its square.
    Wilson (JASA 22, 1927).
    """
    square = quantile**2 / size
    centre = (share + square / 2) / (1 + square)
    half = (square * share * (1 - share) + square**2 / 4) ** 0.5 / (1 + square)
    return centre - half, centre + half


def wilson_interval(hits: int, trials: int, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's interval at level 1 − `alpha` for the share of `hits` among independent `trials`.

    It is not empty where every trial is a hit.
    """
    share = hits / trials
    low, high = wilson_ends(share, trials, -NormalDist().inv_cdf(alpha / 2))
    return min(max(0.0, low), share), max(min(1.0, high), share)

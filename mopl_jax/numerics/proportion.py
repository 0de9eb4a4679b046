"""The interval of a proportion: hits among independent trials."""

import math
from statistics import NormalDist


def wilson_interval(hits: int, trials: int, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's score interval of a proportion at level 1 − `alpha`, inside [0, 1].

    The p with |p̂ − p| ≤ z √(p(1−p)/n), z = Φ⁻¹(1 − α/2): not empty where every trial is a hit
    (Wilson, JASA 22, 1927).
    """
    z = NormalDist().inv_cdf(1 - alpha / 2)
    centre = (hits + z * z / 2) / (trials + z * z)
    half = z * math.sqrt(hits * (trials - hits) / trials + z * z / 4) / (trials + z * z)
    return max(0.0, centre - half), min(1.0, centre + half)

"""The level of each of several intervals at which all of them hold at once."""

import math

import numpy as np
from jaxtyping import Float


def simultaneous_alpha(
    correlation: Float[np.ndarray, "k k"], alpha: float, draws: int = 100_000
) -> float:
    """The level for each of k intervals at which all hold at once with 1 − alpha.

    It lies between alpha/k and alpha. max-t: the estimates are jointly normal with the
    `correlation` of their influence terms, so that the largest of k such normals is what must be
    bounded (Hothorn, Bretz & Westfall, Biometrical Journal 2008); by `draws` with a fixed seed.
    """
    k = len(correlation)
    if k < 2:
        return alpha
    values, vectors = np.linalg.eigh(correlation)
    normals = np.random.default_rng(0).standard_normal((draws, k))
    largest = np.abs(normals @ (vectors * np.sqrt(np.maximum(values, 0))).T).max(axis=1)
    level = math.erfc(float(np.quantile(largest, 1 - alpha)) / math.sqrt(2))
    return min(max(level, alpha / k), alpha)

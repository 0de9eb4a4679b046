"""The level of each of several intervals at which all of them hold at once."""

import math

import numpy as np
from jaxtyping import Float


def simultaneous_alpha(
    correlation: Float[np.ndarray, "k k"],
    alpha: float,
    draws: int = 100_000,
    one_sided: bool = False,
) -> float:
    """The level for each of k intervals at which all hold at once with 1 − alpha.

    It lies between alpha/k and alpha. max-t: the estimates are jointly normal with the
    `correlation` of their influence terms, so that the largest of k such normals is what must be
    bounded (Hothorn, Bretz & Westfall, Biometrical Journal 2008); by `draws` with a fixed seed.

    `one_sided`: the level of intervals whose lower ends alone hold at once, twice that of each end:
    between 2 alpha/k and 2 alpha.
    """
    k, most = len(correlation), 2 * alpha if one_sided else alpha
    if k < 2:
        return most
    values, vectors = np.linalg.eigh(correlation)
    normals = np.random.default_rng(0).standard_normal((draws, k))
    errors = normals @ (vectors * np.sqrt(np.maximum(values, 0))).T
    largest = (errors if one_sided else np.abs(errors)).max(axis=1)
    level = math.erfc(float(np.quantile(largest, 1 - alpha)) / math.sqrt(2))
    return min(max(level, most / k), most)

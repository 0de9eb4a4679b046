"""What people write by hand for one cell: d = 5, SNIPS with its normal interval at n = 2⁵ … 2¹⁴.

Every contender: (replicates, seed) -> hits at each n, and how many rows it was asked for.
"""

from typing import Any, cast

import numpy as np

D, SIZES, ALPHA = 5, tuple(2**k for k in range(5, 15)), 0.05
MEAN, SCALE, NOISE, TRUTH = 0.3, 0.5, 0.25, 0.3
Z = 1.959963984540054


def notebook(replicates, seed):
    """A python loop over replicates and n with scipy densities, as in a notebook."""
    from scipy.stats import multivariate_normal

    rng, hits = np.random.default_rng(seed), np.zeros(len(SIZES))
    logging, target, density = np.zeros(D), np.full(D, MEAN), cast(Any, multivariate_normal.pdf)
    for _ in range(replicates):
        for j, n in enumerate(SIZES):
            action = rng.multivariate_normal(logging, np.eye(D), n)
            reward = action.mean(axis=1) + NOISE * rng.normal(size=n)
            propensity = density(action, logging, np.eye(D))
            w = density(action, target, SCALE**2 * np.eye(D)) / propensity
            value = np.sum(w * reward) / np.sum(w)
            variance = np.sum((w / np.sum(w)) ** 2 * (reward - value) ** 2) * n / (n - 1)
            hits[j] += abs(value - TRUTH) <= Z * np.sqrt(variance)
    return hits, replicates * sum(SIZES)


def _numpy_hits(log_weight, reward):
    hits = []
    for n in SIZES:
        w = np.exp(log_weight[:, :n] - log_weight[:, :n].max(axis=1, keepdims=True))
        p, r = w / w.sum(axis=1, keepdims=True), reward[:, :n]
        value = (p * r).sum(axis=1)
        variance = (p**2 * (r - value[:, None]) ** 2).sum(axis=1) * n / (n - 1)
        hits.append((np.abs(value - TRUTH) <= Z * np.sqrt(variance)).sum())
    return np.array(hits)


def vectorised_numpy(replicates, seed, size=16):
    """Arrays over replicates and rows in float32."""
    rng, hits = np.random.default_rng(seed), np.zeros(len(SIZES))
    for _ in range(replicates // size):
        action = rng.standard_normal((size, SIZES[-1], D), np.float32)
        reward = action.mean(axis=2) + np.float32(NOISE) * rng.standard_normal(
            (size, SIZES[-1]), np.float32
        )
        whitened = (action - np.float32(MEAN)) / np.float32(SCALE)
        hits += _numpy_hits(0.5 * ((action**2).sum(axis=2) - (whitened**2).sum(axis=2)), reward)
    return hits, replicates * SIZES[-1]


def vectorised_torch(replicates, seed, size=16):
    """The same in torch on all cores."""
    import torch

    generator, hits = torch.Generator().manual_seed(seed), np.zeros(len(SIZES))
    for _ in range(replicates // size):
        action = torch.randn((D, size, SIZES[-1]), generator=generator)
        reward = action.mean(dim=0) + NOISE * torch.randn((size, SIZES[-1]), generator=generator)
        log_weight = 0.5 * ((action**2).sum(dim=0) - (((action - MEAN) / SCALE) ** 2).sum(dim=0))
        for j, n in enumerate(SIZES):
            p, r = torch.softmax(log_weight[:, :n], dim=1), reward[:, :n]
            value = (p * r).sum(dim=1)
            variance = (p**2 * (r - value[:, None]) ** 2).sum(dim=1) * n / (n - 1)
            hits[j] += int(((value - TRUTH).abs() <= Z * variance.sqrt()).sum())
    return hits, replicates * SIZES[-1]


def _numba_kernel(d=D):
    import numba

    @numba.njit(parallel=True, fastmath=True)
    def kernel(z, sizes, hits):
        for i in numba.prange(z.shape[0]):
            s1 = s2 = sr = s2r = s2rr = 0.0
            j = 0
            for row in range(z.shape[2]):
                squares = whitened = total = np.float32(0)
                for k in range(d):
                    a = z[i, k, row]
                    squares += a * a
                    whitened += ((a - np.float32(MEAN)) / np.float32(SCALE)) ** 2
                    total += a
                r = total / np.float32(d) + np.float32(NOISE) * z[i, d, row]
                w = np.exp(np.float32(0.5) * (squares - whitened))
                s1, sr = s1 + w, sr + w * r
                s2, s2r, s2rr = s2 + w * w, s2r + w * w * r, s2rr + w * w * r * r
                if row + 1 == sizes[j]:
                    n, value = row + 1, sr / s1
                    variance = (
                        (s2rr - 2 * value * s2r + value * value * s2) / (s1 * s1) * n / (n - 1)
                    )
                    hits[i, j] = abs(value - TRUTH) <= Z * np.sqrt(max(variance, 0.0))
                    j += 1

    return kernel


_KERNELS = {}


def torch_numba(replicates, seed, size=16, d=D, sizes=SIZES):
    """torch's generator and a fused parallel numba kernel with running sums: the best by hand."""
    import torch

    if d not in _KERNELS:
        _KERNELS[d] = _numba_kernel(d)
    hits, ends = np.zeros(len(sizes)), np.array(sizes)
    z = torch.empty((size, d + 1, sizes[-1]))
    generators = torch.Generator().manual_seed(seed)
    for _ in range(replicates // size):
        z.normal_(generator=generators)
        found = np.zeros((size, len(sizes)))
        _KERNELS[d](z.numpy(), ends, found)
        hits += found.sum(axis=0)
    return hits, replicates * sizes[-1]

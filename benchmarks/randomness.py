"""Are the random numbers good? 10⁸ draws of the engine's normals: moments, distribution, and
correlations of every kind.

Bits are JAX's threefry2x32, checked word for word. Each statistic is reported with what it
should be, its standard error under independence and its z score; the distribution by
Kolmogorov–Smirnov against the exact normal and the critical value for that many draws. Draws are
32-bit: |z| ≤ 6.7 and steps near zero of 2⁻³² of a turn are part of the design.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32
from scipy import stats

from benchmarks import _study
from mopl_jax.numerics import random

SIZES = {"replicates": 160, "words": 10**7}
QUICK = {"replicates": 2, "words": 10**4}
D, ROWS = 5, 2**17  # numbers of a row, rows of a replicate
# Bins are equally likely under normality; the Kolmogorov–Smirnov statistic is exact at their edges,
# so at most 1/BINS below the full one.
BINS = 2**16
EDGES = stats.norm.ppf(np.arange(1, BINS) / BINS).astype(np.float32)


def bits_differ(n: int) -> int:
    """How many of n words differ from JAX's own threefry2x32 for the same key and counters."""
    rng = np.random.default_rng(0)
    key, count = (
        rng.integers(0, 2**32, 2, dtype=np.uint32),
        rng.integers(0, 2**32, n, dtype=np.uint32),
    )
    own = jnp.concatenate(random.threefry2x32(key, (count[: n // 2], count[n // 2 :])))
    return int(jnp.sum(own != threefry_2x32(jnp.asarray(key), jnp.asarray(count))))


@jax.jit
def draw(key):
    """(D, ROWS) normals of one replicate, by its row keys, as the engine draws its actions."""
    return jax.vmap(lambda row: random.normal(row, D), out_axes=1)(
        random.row_keys(jax.random.fold_in(key, 0), ROWS)
    )


@jax.jit
def sums(z, following):
    """Sums over one replicate of powers and of products; `following` is the next replicate, drawn
    by the next key.
    """
    lagged = {f"lag {k} rows": jnp.mean(z[:, k:] * z[:, :-k]) for k in (1, 2, 3, 16, 1024)}
    pairs = [(i, j) for i in range(D) for j in range(i)]
    within = {f"entries {i} and {j} of a row": jnp.mean(z[i] * z[j]) for i, j in pairs}
    squares = {"squares, lag 1 row": jnp.mean((z[:, 1:] ** 2 - 1) * (z[:, :-1] ** 2 - 1)) / 2}
    squares |= {"squares of a Box-Muller pair": jnp.mean((z[0] ** 2 - 1) * (z[1] ** 2 - 1)) / 2}
    across = {
        "next replicate": jnp.mean(z * following),
        "next, shifted": jnp.mean(z[:, 1:] * following[:, :-1]),
    }
    return lagged | within | squares | across


def moments(z):
    """Means of the first six powers in float64."""
    return np.array([np.mean(z**k) for k in range(1, 7)])


def measure(replicates: int) -> dict[str, Any]:
    """Statistics over all replicates."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
        jax.random.key(2024), jnp.arange(replicates + 1)
    )
    counts, powers, products, largest = np.zeros(BINS), np.zeros(6), [], 0.0
    z = draw(keys[0])
    for i in range(replicates):
        following = draw(keys[i + 1])
        products.append(jax.device_get(sums(z, following)))
        flat = np.asarray(z, float).ravel()
        counts += np.bincount(
            np.searchsorted(EDGES, flat.astype(np.float32), side="right"), minlength=BINS
        )
        powers += moments(flat) / replicates
        largest = max(largest, float(np.abs(flat).max()))
        z = following
    n = replicates * D * ROWS
    return {
        "draws": n,
        "largest": largest,
        "moments": _moments(powers, n),
        **_distribution(counts, n),
    } | {
        "correlations": {
            name: _correlation([p[name] for p in products], n, name) for name in products[0]
        }
    }


def _moments(powers, n):
    """Each power's mean against the normal's, with the standard error √((E z²ᵏ − (E zᵏ)²)/n)."""
    expected = [float(stats.norm.moment(k)) for k in range(1, 13)]
    rows = []
    for k, found in enumerate(powers, 1):
        error = math.sqrt((expected[2 * k - 1] - expected[k - 1] ** 2) / n)
        rows.append(
            {
                "power": k,
                "mean": found,
                "expected": expected[k - 1],
                "z": (found - expected[k - 1]) / error,
            }
        )
    return rows


def _distribution(counts, n):
    distance = float(np.abs(np.cumsum(counts)[:-1] / n - np.arange(1, BINS) / BINS).max())
    chi2 = float(np.sum((counts - n / BINS) ** 2) / (n / BINS))
    return {
        "ks": distance,
        "ks_critical_1_percent": float(stats.kstwobign.ppf(0.99) / math.sqrt(n)),
        "ks_p_value": float(stats.kstwobign.sf(distance * math.sqrt(n))),
        "chi2_p_value": float(stats.chi2.sf(chi2, BINS - 1)),
    }


def _correlation(values, n, name):
    """The mean over replicates, its standard error if independent, and z; entries of a row are one
    in D of the draws.
    """
    terms = n / D if "entries" in name or "pair" in name else n
    return {"mean": float(np.mean(values)), "z": float(np.mean(values) * math.sqrt(terms))}


def run(options) -> _study.Rows:
    """Each statistic with what it should be and its z score."""
    differ, found = bits_differ(options.words), measure(options.replicates)
    rows = [
        {"statistic": f"mean of z^{power.pop('power')}"} | power for power in found.pop("moments")
    ]
    correlations = found.pop("correlations").items()
    rows += [
        {"statistic": name, "mean": row["mean"], "expected": 0.0, "z": row["z"]}
        for name, row in correlations
    ]
    limit = float(stats.norm.isf(0.005 / len(rows)))
    return _study.Rows(
        rows, words=options.words, bits_differ=differ, z_limit_1_percent=limit, **found
    )


def table(rows: _study.Rows) -> str:
    """The largest z scores first, then the distribution."""
    about = rows.about
    ordered = sorted(rows, key=lambda row: -abs(row["z"]))
    words = about.get("words", 10**7)
    differ = about.get("bits_differ", about.get("bits_differ_of_1e7"))
    return (
        f"{_study.plain(ordered)}\n\n1 % limit of |z| for {len(rows)} statistics:"
        f" {about['z_limit_1_percent']:.2f}. {about['draws']:,} draws; {differ} of {words:,} words"
        f" differ from JAX's. KS {about['ks']:.2e} (1 % critical"
        f" {about['ks_critical_1_percent']:.2e}), chi² p {about['chi2_p_value']:.3f}."
    )

"""What do others publish, and what do our intervals give on the same populations? Müller's tables 1
and 3, means of n terms and differences of two means of n/2; and what other libraries compute.

Null rejection in percent at a nominal 5 %, and mean length over that of Student's interval with
the critical value that makes it exact there. Published: U. Müller, A More Robust t-Test, Review of
Economics and Statistics; `t` is Student's, `EV` his interval from the eight largest and smallest
terms. Populations have mean 0 and variance 1; the second sample of a difference and the noise of
the first are N(0, 1/10). What other libraries compute is `_as_found`.
"""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _as_found, _study
from mopl_jax.estimators import snips
from mopl_jax.estimators.contrast import difference
from mopl_jax.intervals import ess_exact, extreme_terms, recommended

SIZES = {"replicates": 10_000, "logs": 1000, "seed": 1}
QUICK = {"replicates": 200, "logs": 8}
RESULTS = ("replications", "replications_as_found")
N = (50, 100, 500)
METHODS = {"t": ess_exact, "ours": recommended, "tails": extreme_terms}
EULER = np.e


def _log_normal(rng, size):
    return rng.lognormal(0, 1, size)


def _mixture(share, first, second):
    """The first population with probability `share`, else the second."""
    return lambda rng, size: np.where(rng.random(size) < share, first(rng, size), second(rng, size))


def _normal(scale):
    return lambda rng, size: scale * rng.standard_normal(size)


# name -> draws, mean and variance
POPULATIONS = {
    "N(0,1)": (_normal(1), 0, 1),
    "LogN": (_log_normal, EULER**0.5, EULER**2 - EULER),
    "F(4,5)": (lambda rng, size: rng.f(4, 5, size), 5 / 3, 2 * 25 * 7 / (4 * 9 * 1)),
    "t(3)": (lambda rng, size: rng.standard_t(3, size), 0, 3),
    "P(0.4)": (lambda rng, size: 1 + rng.pareto(2.5, size), 5 / 3, 2.5 / (1.5**2 * 0.5)),
    "Mix1": (
        _mixture(0.5, _normal(1), _log_normal),
        EULER**0.5 / 2,
        0.5 + EULER**2 / 2 - EULER / 4,
    ),
    "Mix2": (
        _mixture(0.05, _log_normal, _normal(0.2)),
        0.05 * EULER**0.5,
        0.95 / 25 + 0.05 * EULER**2 - 0.0025 * EULER,
    ),
}

# (terms, n) -> rejection and length of each population: of t, of his EV
PUBLISHED = {
    ("one", 50): (
        "5.0 0.99 10.0 0.74 13.5 0.65 4.7 1.01 13.6 0.62 7.4 0.88 18.8 0.60",
        "3.8 1.10 3.2 0.93 4.5 0.77 3.3 1.44 5.2 0.72 3.3 1.11 12.2 0.66",
    ),
    ("one", 100): (
        "4.9 1.00 8.2 0.83 10.9 0.73 4.6 1.01 11.5 0.71 6.9 0.91 15.4 0.60",
        "4.8 1.01 3.1 1.26 3.6 1.04 3.8 1.37 3.6 1.00 3.3 1.31 7.9 0.75",
    ),
    ("one", 500): (
        "5.0 1.00 5.9 0.95 7.8 0.87 4.8 1.01 7.9 0.86 5.8 0.97 9.6 0.77",
        "4.9 1.00 4.1 1.18 4.3 1.21 4.5 1.13 4.1 1.22 4.4 1.18 3.2 1.21",
    ),
    ("two", 50): (
        "5.7 0.96 8.9 0.81 8.9 0.83 5.1 0.99 8.9 0.83 7.2 0.90 9.0 0.83",
        "2.0 1.40 3.8 1.06 4.7 1.06 2.3 1.47 4.8 1.05 3.5 1.25 6.2 0.99",
    ),
    ("two", 100): (
        "5.5 0.98 7.8 0.87 7.9 0.87 4.9 0.99 8.2 0.86 6.9 0.92 9.9 0.82",
        "4.4 1.08 3.4 1.28 4.2 1.20 3.7 1.43 4.4 1.18 4.0 1.30 7.8 1.01",
    ),
    ("two", 500): (
        "5.4 0.98 6.4 0.94 6.4 0.93 4.6 1.01 6.8 0.91 5.7 0.97 8.3 0.85",
        "5.3 0.99 4.2 1.21 4.1 1.25 4.2 1.15 4.2 1.24 4.2 1.22 4.2 1.31",
    ),
}


def _ends(estimate):
    """The value, and both ends of each interval."""
    return estimate.value, {name: method(estimate, 0.05) for name, method in METHODS.items()}


@jax.jit
def _means(terms):
    """Of the mean of each row of `terms` (r, n)."""
    return jax.lax.map(lambda x: _ends(snips(jnp.zeros_like(x), x)), terms, batch_size=64)


@jax.jit
def _differences(terms):
    """Of the mean of each row's first half less that of its second: two arms."""
    first = jnp.arange(terms.shape[1]) < terms.shape[1] // 2
    arms = [jnp.where(mine, jnp.log(2.0), -jnp.inf) for mine in (first, ~first)]
    one = lambda x: _ends(difference(snips(arms[0], x), snips(arms[1], x)))  # noqa: E731
    return jax.lax.map(one, terms, batch_size=64)


def run(options) -> Iterator[list[dict]]:
    """One row for each table, n and population; then the intervals of others as found."""
    yield _of_tables(options)
    jax.config.update("jax_enable_x64", True)
    yield list(_as_found.rows(options.logs, options.seed))


def _of_tables(options):
    rng = np.random.default_rng(options.seed)
    return [
        {"terms": terms, "n": n, "population": name}
        | _published(terms, n, name)
        | _measured(rng, terms, n, name, options.replicates)
        for terms, n, name in itertools.product(("one", "two"), N, POPULATIONS)
    ]


def _published(terms, n, name):
    at = 2 * list(POPULATIONS).index(name)
    t, ev = ([float(x) for x in line.split()[at : at + 2]] for line in PUBLISHED[terms, n])
    return {"t_published": t[0], "ev_published": ev[0], "t_length": t[1], "ev_length": ev[1]}


def _measured(rng, terms, n, name, replicates):
    draw, mean, variance = POPULATIONS[name]
    x = (draw(rng, (replicates, n)) - mean) / variance**0.5
    if terms == "two":
        noise = 0.1**0.5 * rng.standard_normal((replicates, n))
        x = np.where(np.arange(n) < n // 2, x, 0) + noise
    value, ends = (_means if terms == "one" else _differences)(jnp.asarray(x, jnp.float32))
    half = np.asarray(ends["t"].width, float) / 2
    exact = np.quantile(np.abs(np.asarray(value, float)) / half, 0.95)
    found = {"replicates": replicates}
    for name, interval in ends.items():
        missed = (np.asarray(interval.lower) > 0) | (np.asarray(interval.upper) < 0)
        length = np.mean(np.asarray(interval.width, float)) / (2 * exact * np.mean(half))
        found |= {
            f"{name}_measured": 100 * float(np.mean(missed)),
            f"{name}_relative": float(length),
        }
    return found


def table(rows: list[dict], found: list[dict]) -> str:
    """Rejection in percent and length of each, beside what is published; then others as found."""
    head = ("terms", "n", "population", "t, published", "t, ours", "EV, published")
    head += ("recommended", "extreme_terms")
    first = _study.markdown(head, map(_line, rows), "lrlrrrrr")
    second = _study.columns(found, tuple(found[0]))
    return f"{first}\n\n{_judged(rows)}\n\nAs found, on the same logs:\n\n{second}"


def _judged(rows):
    """In how many cells our intervals keep up with his."""
    said = []
    for name, key in (("recommended", "ours"), ("extreme_terms", "tails")):
        above = [row[f"{key}_measured"] - row["ev_published"] for row in rows]
        longer = [row[f"{key}_relative"] / row["ev_length"] for row in rows]
        both = sum(a <= 1 and b <= 1.1 for a, b in zip(above, longer, strict=True))
        said.append(
            f"`{name}` rejects at most 1 point more often than EV and is at most 1.1 × as long in"
            f" {both} of {len(rows)} cells; at most {max(above):.1f} points, {max(longer):.2f} ×."
        )
    return "\n".join(said)


def _line(row):
    pairs = (
        ("t_published", "t_length"),
        ("t_measured", "t_relative"),
        ("ev_published", "ev_length"),
        ("ours_measured", "ours_relative"),
        ("tails_measured", "tails_relative"),
    )
    cells = (f"{row[share]:.1f} · {row[length]:.2f}" for share, length in pairs)
    return row["terms"], row["n"], row["population"], *cells

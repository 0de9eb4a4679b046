"""The coverage engine: replicates that depend on nothing but their index, tidy summaries, and the
reference coverages.
"""

import math
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint
from worlds import INTERVALS, MEAN_REWARDS, NOISES, WALD, standard
from yardsticks import DTYPES, KEY, binomial_tail, cast, eps, every_interval

from mopl_jax import intervals
from mopl_jax.coverage import engine, study
from mopl_jax.coverage.replicates import concatenate, count
from mopl_jax.coverage.results import summarise
from mopl_jax.coverage.run import coverage_of
from mopl_jax.coverage.sample_size import sample_size_ratio, smallest_n
from mopl_jax.coverage.world import Grid, World
from mopl_jax.estimators.divergence import population_d2
from mopl_jax.numerics.proportion import wilson_interval
from mopl_jax.policies import Gaussian
from mopl_jax.simulation.environments import Environment, Linear, Normal, snips_variance

D = 3
WORLD = World(
    "small",
    D,
    Environment(MEAN_REWARDS["linear"], NOISES["normal"]),
    standard(D),
    {"a": Gaussian.diagonal(np.full(D, 0.2), 0.7), "b": Gaussian.diagonal(np.full(D, -0.2), 0.7)},
    (("a", "b"),),
)
NAMES = ("normal", "ess_exact")
GRID = Grid((8, 128), ("snips",), NAMES, 0.05)


ALONE = WORLD._replace(targets={"a": WORLD.targets["a"]}, differences=())


def in_dtype(world, dtype):
    """A world in another float dtype."""
    parts = {
        field: cast(getattr(world, field), dtype) for field in ("environment", "logging", "targets")
    }
    return world._replace(**parts)


def run(world, grid, span, size):
    """The replicates of a span, in batches of `size`."""
    return concatenate(list(engine.run(KEY, world, grid, span, size)))


def same(a, b):
    """Bitwise equality of two results."""
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.fixture(scope="module")
def results():
    """Forty replicates of the small world."""
    return run(WORLD, GRID, (0, 40), 40)


def test_a_short_log_is_the_prefix_of_a_long_one():
    """The log at n rows is the first n rows of any longer log from the same key, bit for bit."""
    make = jax.jit(engine.replicate, static_argnums=3)
    short, long = (make(KEY, WORLD.environment, WORLD.logging, n) for n in (8, 64))
    for a, b in zip(jax.tree.leaves(short), jax.tree.leaves(long), strict=True):
        np.testing.assert_array_equal(a, b[:8])


def test_engine_is_the_composition(results):
    """One replicate is replicate → log weights → estimator → interval at every n, to the rounding
    of float32 draws.
    """
    key = jax.random.fold_in(KEY, 5)
    logs = jax.jit(engine.replicate, static_argnums=3)(key, WORLD.environment, WORLD.logging, 128)
    log_weight = (
        jax.jit(jax.vmap(WORLD.targets["a"].log_density))(logs.action) - logs.log_propensity
    )
    cell = results["a", "snips"]
    for j, n in enumerate(GRID.n):
        expected = every_interval(log_weight[:n], logs.reward[:n], 0.05)
        for i, name in enumerate(NAMES):
            got = cell.lower[5, j, i], cell.upper[5, j, i]
            rounding = 64 * eps(np.float32)
            np.testing.assert_allclose(
                got, expected[name], rtol=rounding, atol=rounding, err_msg=f"{name} at {n}"
            )


def test_batch_size_does_not_matter():
    """The same numbers bit for bit whatever the batch, in two or more whole chunks, and wherever
    the run starts.

    A loop of one chunk is compiled without the loop, and may differ in the last bit (JAX 0.12
    does).
    """
    grid = Grid((64, 4096), ("snips",), NAMES, 0.05)
    size = 2 * engine.chunk(4096)
    one, two = (run(ALONE, grid, (0, 2 * size), k * size) for k in (1, 2))
    assert same(one, two)
    later = run(ALONE, grid, (10, 10 + size), size)
    assert same(later, jax.tree.map(lambda x: x[10 : 10 + size], one))


def test_replicate_depends_on_its_index_alone(results):
    """Replicate i is the same log however many replicates there are, and its results agree to
    rounding (last bit of sums).
    """
    fewer = run(WORLD, GRID, (10, 17), 7)
    kept = jax.tree.map(lambda x: x[10:17], results)
    for a, b in zip(jax.tree.leaves(fewer), jax.tree.leaves(kept), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_sample_sizes_do_not_interact(results):
    """A smaller grid gives the same numbers to rounding: every n is computed from its own
    prefix.
    """
    alone = run(ALONE, Grid((128,), ("snips",), NAMES[:1], 0.05), (0, 7), 7)["a", "snips"]
    together = jax.tree.map(lambda x: x[:7, 1:], results["a", "snips"])
    np.testing.assert_allclose(alone.value, together.value, rtol=1e-12)
    np.testing.assert_allclose(alone.lower, together.lower[..., :1], rtol=1e-10)


def test_results_have_every_cell(results):
    """Every estimand (targets and differences) and estimator has its replicates, with the shapes
    said.
    """
    assert set(results) == {
        (estimand, e) for estimand in ("a", "b", "a - b") for e in GRID.estimators
    }
    assert count(results) == 40
    for cell in results.values():
        assert cell.value.shape == cell.ess.shape == (40, 2)
        assert cell.lower.shape == cell.upper.shape == (40, 2, 2)
        assert (cell.lower <= cell.value[..., None]).all()
        assert ((cell.ess >= 1) & (cell.ess <= np.array(GRID.n) * (1 + 1e-12))).all()


def test_summary_counts(results):
    """The tidy rows: coverage and one-sided misses add up to one, truth and widths are those of the
    replicates.
    """
    summary = summarise(WORLD, GRID, results)
    assert len(summary) == 3 * len(GRID.n) * len(NAMES)
    for row in summary:
        cell = results[row["estimand"], row["estimator"]]
        j, i = GRID.n.index(row["n"]), NAMES.index(row["interval"])
        low, high = cell.lower[:, j, i], cell.upper[:, j, i]
        assert row["coverage"] == np.mean((low <= row["truth"]) & (row["truth"] <= high))
        assert row["coverage"] + row["miss_below"] + row["miss_above"] == pytest.approx(
            1, abs=1e-12
        )
        assert row["median_width"] == pytest.approx(np.median(high - low), rel=1e-12)
        assert row["bias"] == pytest.approx(cell.value[:, j].mean() - row["truth"], rel=1e-9)
        assert row["replicates"] == 40
        assert row["coverage_low"] <= row["coverage"] <= row["coverage_high"]
    value = {
        name: float(WORLD.environment.policy_value(target))
        for name, target in WORLD.targets.items()
    }
    truth = {row["estimand"]: row["truth"] for row in summary}
    assert truth == {**value, "a - b": value["a"] - value["b"]}


@pytest.mark.parametrize(
    "done", [[], [(0, 3)], [(4, 6), (0, 2)], [(0, 10)], [(2, 5), (3, 7)], [(8, 99)], [(0, 0)]]
)
def test_gaps_complete_the_work(done):
    """What is done and what the gaps leave open fill 0 … 9, and the gaps repeat nothing."""
    finished = {i for span in done for i in range(*span) if i < 10}
    opened = [i for span in engine.gaps(done, 10) for i in range(*span)]
    assert len(opened) == len(set(opened))
    assert set(opened) == set(range(10)) - finished


@pytest.mark.parametrize("hits", [0, 1, 500, 999, 1000])
def test_wilson_is_statsmodels(hits):
    """Wilson's score interval equals statsmodels', also when every replicate or none is covered."""
    for alpha in (0.05, 0.01):
        expected = proportion_confint(hits, 1000, alpha, method="wilson")
        np.testing.assert_allclose(
            wilson_interval(hits, 1000, alpha), expected, rtol=1e-12, atol=1e-15
        )


@pytest.mark.parametrize(
    ("covered", "expected"),
    [
        ((0.9, 0.95, 0.96), 64),
        ((0.95, 0.9, 0.96), 512),
        ((0.95, 0.95, 0.95), 8),
        ((0.99, 0.99, 0.94), None),
    ],
)
def test_smallest_n_stays_above(covered, expected):
    """The smallest n from which coverage never falls below the level again, in whatever order the
    rows come.
    """
    table = [{"n": n, "coverage": c} for n, c in zip((8, 64, 512), covered, strict=True)]
    assert smallest_n(table, 0.95) == smallest_n(table[::-1], 0.95) == expected


def test_sample_size_ratio():
    """Rows needed by the baseline over rows needed; a lower limit where the grid does not bracket
    it, NaN where we never hold.
    """
    table = lambda *covered: [  # noqa: E731
        {"n": n, "coverage": c} for n, c in zip((8, 64, 512), covered, strict=True)
    ]
    never, late, early = table(0.1, 0.2, 0.3), table(0.1, 0.2, 0.96), table(0.95, 0.96, 0.97)
    middle = table(0.1, 0.96, 0.97)
    assert sample_size_ratio(late, middle, 0.95) == (8, True)
    assert sample_size_ratio(late, late, 0.95) == (1, True)
    assert sample_size_ratio(late, early, 0.95) == (64, False)
    assert sample_size_ratio(never, early, 0.95) == (64, False)
    ratio, exact = sample_size_ratio(early, never, 0.95)
    assert math.isnan(ratio)
    assert not exact


def test_float32_covers_like_float64():
    """The same logs in float32 and float64: coverages differ by less than 3 standard errors of a
    paired difference.
    """
    tables = [coverage_of(KEY, in_dtype(ALONE, dtype), GRID, 500) for dtype in DTYPES]
    assert len(tables[0]) == len(GRID.n) * len(NAMES)
    for single, double in zip(*tables, strict=True):
        assert all(single[k] == double[k] for k in ("estimand", "n", "interval"))
        assert abs(single["coverage"] - double["coverage"]) <= 3 * max(
            double["coverage_se"], 1 / 500
        ) * math.sqrt(2)
        assert single["median_width"] == pytest.approx(
            double["median_width"], rel=1e3 * eps(np.float32)
        )


# The reference study: d = 10, N(0, I) logging, N(0.3·1, 0.25 I) target, mean(a) + 0.25 ε, 2,000
# replicates.

SIZES = (8, 64, 512, 4096)
REFERENCE = {
    "normal": (0.27, 0.57, 0.81, 0.92),
    "ess_bessel": (0.40, 0.68, 0.84, 0.93),
    "ess_rescaled": (0.43, 0.96, 1.00, 1.00),
    "ess_student": (0.99, 0.96, 0.92, 0.93),
    "ess_exact": (0.96, 0.99, 0.98, 0.98),
    "ess_safe": (0.99, 1.00, 1.00, 0.99),
}


def reference_world(d=10, dtype=np.float32):
    """The world of the reference figures."""
    environment = Environment(Linear(jnp.full(d, 1 / d), jnp.zeros(())), Normal(jnp.array(0.25)))
    logging, target = standard(d), Gaussian.diagonal(np.full(d, 0.3), 0.5)
    return in_dtype(World("reference", d, environment, logging, {"target": target}), dtype)


@pytest.fixture(scope="module")
def reference():
    """{(interval, n): row} of 2,000 replicates in float32."""
    table = coverage_of(
        jax.random.key(0), reference_world(), Grid(SIZES, ("snips",), tuple(REFERENCE), 0.05), 2000
    )
    return {(row["interval"], row["n"]): row for row in table}


def test_reference_coverage(reference):
    """Agreement with the reference figures: two estimates of 2,000 replicates, 3√2 binomial
    errors and 0.005 of rounding.

    A figure of 1.00 may be a rounded 0.995, whose binomial error is used: at 1 it would be zero.
    """
    missed = {}
    for name, figures in REFERENCE.items():
        for n, expected in zip(SIZES, figures, strict=True):
            likely, got = min(expected, 0.995), reference[name, n]["coverage"]
            error = math.sqrt(likely * (1 - likely) / 2000)
            if abs(got - expected) > 3 * math.sqrt(2) * error + 0.005:
                missed[name, n] = got, expected
    assert not missed


def test_reference_claims(reference):
    """`normal` never covers 95 %, by a binomial tail below 1e-4; `ess_exact` does at every n, by
    the same tail.
    """
    for n in SIZES:
        hits = {
            name: round(reference[name, n]["coverage"] * 2000) for name in ("normal", "ess_exact")
        }
        assert binomial_tail(hits["normal"], 2000, 0.95) < 1e-4
        assert hits["ess_exact"] >= 1900 or binomial_tail(hits["ess_exact"], 2000, 0.95) > 1e-3


def test_oracle_width_is_the_closed_form(reference):
    """At the largest n the spread of SNIPS is the oracle's √(AVar/n), and its bias, −(E[w²r] − V
    d₂)/n, is no more: within 4 standard errors and the next order, d₂/n ≈ 1/39.
    """
    w = reference_world(dtype=np.float64)
    variance = float(snips_variance(w.environment, w.logging, w.targets["target"]))
    expected = 2 * 1.959964 * math.sqrt(variance / 4096)
    row = reference["normal", 4096]
    d2 = float(population_d2(w.logging, w.targets["target"]))
    assert row["oracle_width"] == pytest.approx(expected, rel=4 / math.sqrt(2 * 2000) + d2 / 4096)
    tilted = 0.3 * 2 * 4 / (2 * 4 - 1)  # the mean under w² π₀: precisions 2 · 4 − 1
    bias = -d2 * (tilted - 0.3) / 4096
    assert abs(row["bias"] - bias) < 4 * row["bias_se"] + d2 / 4096 * abs(bias)


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", DTYPES)
def test_on_policy_coverage_is_nominal(dtype):
    """On-policy with normal rewards the t intervals are exact: 20,000 replicates, binomial tail
    above 1e-4.
    """
    on_policy = in_dtype(ALONE._replace(targets={"t": WORLD.logging}), dtype)
    grid = Grid((3, 30), ("snips",), tuple(name for name in INTERVALS if name in WALD), 0.05)
    for row in coverage_of(KEY, on_policy, grid, 20_000):
        if row["interval"] in ("ess_exact", "ess_student", "ess_student_max", "ess_safe"):
            assert binomial_tail(round(row["coverage"] * 20_000), 20_000, 0.95) > 1e-4


STRESS = """
replicates = 40
n = [8, 32]
estimators = ["snips", "doubly_robust", "clipped_ips"]
intervals = ["normal", "recommended", "ess_wilson", "cantelli"]
logging = { kind = "normal", scale = 1.0 }
target.near = { kind = "overlap", ess = 0.3 }
target.point = { kind = "smooth", mean = 0.1, bandwidth = 0.5 }

[[world]]
name = "clicks"
d = 2
reward = { kind = "cosine", amplitude = 0.05, offset = 0.1 }
noise = { kind = "bernoulli" }
differences = [["near", "point"]]

[[world]]
name = "watch_time"
d = 2
reward = { kind = "exponential", rate = 0.1 }
noise = { kind = "zero_inflated" }
"""


def test_a_study_evaluates_every_interval_whose_facts_its_worlds_offer():
    """Clicks have a range, so bounded intervals; watch time has one end; a difference has none."""
    plan = study.build(tomllib.loads(STRESS))
    clicks, watch = plan.worlds
    rows = coverage_of(jax.random.key(0), clicks, plan.grid, plan.replicates)
    seen = {(row["estimand"], row["estimator"]): set() for row in rows}
    for row in rows:
        seen[row["estimand"], row["estimator"]].add(row["interval"])
    everything = {"normal", "recommended", "ess_wilson", "cantelli"}
    for estimator in ("snips", "doubly_robust", "clipped_ips"):
        assert seen["near", estimator] == seen["point, unsmoothed", estimator] == everything
    for estimator in ("snips", "doubly_robust"):
        assert seen["near - point", estimator] == {"normal", "recommended"}
    assert intervals.available(plan.grid.intervals, watch.facts("near")) == (
        "normal",
        "recommended",
    )
    held = [
        row
        for row in rows
        if (row["interval"], row["estimator"], row["estimand"]) == ("cantelli", "snips", "near")
    ]
    assert all(row["coverage"] == 1 and row["median_width"] <= 1 for row in held)
    truths = {row["estimand"]: row["truth"] for row in rows}
    assert truths["point, unsmoothed"] == pytest.approx(0.1 + 0.05 * np.cos(0.1), rel=1e-6)
    assert truths["near - point"] == pytest.approx(truths["near"] - truths["point"], rel=1e-5)


def test_a_study_refuses_targets_that_do_not_exist():
    """An overlap outside (0, 1], or with a logger that has none in closed form: one line, with the
    place.
    """
    spec = tomllib.loads(STRESS)
    spec["target"]["near"]["ess"] = 2.0
    with pytest.raises(
        ValueError,
        match="'clicks' at d=2: target 'near': key 'ess': expected a number of at most 1, got 2.0",
    ):
        study.build(spec)
    spec["target"]["near"] = {"kind": "overlap", "width": "broad"}
    with pytest.raises(ValueError, match="unknown width"):
        study.build(spec)

"""Logs whose rows stand for others: thinned ones with keep probabilities, and counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from worlds import standard
from yardsticks import binomial_tail

from mopl_jax.diagnostics.check import check_log
from mopl_jax.estimators.estimator import Columns, member
from mopl_jax.estimators.importance import NAMED
from mopl_jax.evaluation.comparison import compare
from mopl_jax.evaluation.evaluation import evaluate
from mopl_jax.intervals.formulas import batched_intervals
from mopl_jax.intervals.moments import moments_stage
from mopl_jax.intervals.registry import WALD
from mopl_jax.io.read import read_logs
from mopl_jax.learning.pipeline import learn
from mopl_jax.numerics.reduce import Whole, run_passes, whole_block
from mopl_jax.planning.designs import plan
from mopl_jax.policies import Deterministic, Gaussian

ARMS, TARGET = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])
RATE = np.array([0.02, 0.04, 0.08])
TRUTH = TARGET @ RATE
DENSITIES = {"propensity": "q", "target_propensity": "t"}


def thinned(seed, n=40_000):
    """A log of three arms, of whose rows without click nine in ten are gone."""
    rng = np.random.default_rng(seed)
    arm = rng.choice(3, n, p=ARMS)
    click = (rng.random(n) < RATE[arm]) * 1.0
    keep = np.where(click > 0, 1.0, 0.1)
    kept = rng.random(n) < keep
    columns = {"reward": click, "q": ARMS[arm], "t": TARGET[arm], "keep": keep, "user": arm}
    columns["user"] = rng.integers(0, n // 4, n)
    return pa.table({name: column[kept] for name, column in columns.items()})


LOG = thinned(15)
R, W, S = (
    np.asarray(x)
    for x in (LOG["reward"], np.divide(LOG["t"], LOG["q"]), 1 / np.asarray(LOG["keep"]))
)


@functools.cache
def evaluated(estimator="snips", cluster=None, in_memory=1_000_000):
    options = {"keep_probability": "keep", "estimator": estimator, "cluster": cluster}
    return evaluate(LOG, in_memory=in_memory, **DENSITIES, **options)


def test_a_thinned_log_is_weighted_back():
    """Σswr / Σsw, ESS (Σsw)² / Σs²w², mean weight Σsw / Σs; and nothing is refused."""
    made, sw = evaluated(), S * W
    value = (sw @ R) / sw.sum()
    error = np.sqrt(np.sum(np.square(sw * (R - value)))) / sw.sum()
    assert made.value == pytest.approx(value, rel=1e-12)
    assert made.ess.kish == pytest.approx(sw.sum() ** 2 / (sw @ sw), rel=1e-10)
    assert made.mean_weight.mean == pytest.approx(sw.sum() / S.sum(), rel=1e-10)
    assert made.verdict == "trust"
    half = 0.5 * (made.intervals[1].upper - made.intervals[1].lower)
    assert half == pytest.approx(stats.norm.ppf(0.975) * error, rel=2e-4)
    assert abs(made.value - TRUTH) < 4 * error


@pytest.mark.nightly
def test_the_estimate_of_ips_divides_by_the_rows_spoken_for():
    assert evaluated("ips").value == pytest.approx((S * W) @ R / S.sum(), rel=1e-10)


@pytest.mark.parametrize("estimator", NAMED)
def test_influence_is_the_derivative_by_the_sampling_weight(estimator):
    """n ∂value / ∂ log sₖ: more rows like this one."""
    log_weight, reward = jnp.log(W[:40]), jnp.asarray(R[:40])

    def found(log_sampling):
        rows = log_sampling - jnp.log(jnp.mean(jnp.exp(log_sampling)))
        block = whole_block((Columns(reward, (log_weight,)), rows))
        inner = block._replace(columns=block.columns[0])
        one = member(
            NAMED[estimator],
            lambda block: block.columns.log_weights[0],
            lambda block: rows,
        )
        state = run_passes(Whole(inner), one.stages)
        return one.rows(state, inner)

    log_sampling = jnp.log(S[:40])
    slope = jax.jacrev(lambda x: found(x).value)(log_sampling)
    if estimator == "beta_ips":  # whose baseline is taken as given
        assert jnp.mean(found(log_sampling).influence) == pytest.approx(0, abs=1e-12)
        return
    np.testing.assert_allclose(found(log_sampling).influence, 40 * slope, rtol=1e-6, atol=1e-9)


@pytest.mark.nightly
def test_users_add_up_what_their_rows_speak_for():
    made, sw, user = evaluated(cluster="user"), S * W, np.asarray(LOG["user"])
    value = (sw @ R) / sw.sum()
    _, number = np.unique(user, return_inverse=True)
    influence = np.bincount(number, sw * (R - value))
    assert made.value == pytest.approx(value, rel=1e-12)
    assert made.units == number.max() + 1
    half = 0.5 * (made.intervals[1].upper - made.intervals[1].lower)
    error = np.sqrt(influence @ influence) / sw.sum()
    assert half == pytest.approx(stats.norm.ppf(0.975) * error, rel=1e-3)
    assert made.mean_weight.p_value > 0.01


@pytest.mark.nightly
@pytest.mark.parametrize("cluster", [None, "user"])
def test_passes_say_what_memory_says(cluster):
    whole, passes = (evaluated(cluster=cluster, in_memory=rows) for rows in (1_000_000, 10))
    left, right = (jax.tree.leaves(made.to_dict()) for made in (whole, passes))
    numbers = [[x for x in side if isinstance(x, float)] for side in (left, right)]
    np.testing.assert_allclose(*numbers, rtol=1e-7, atol=1e-9)
    assert whole.verdict == passes.verdict


@pytest.mark.nightly
def test_sampling_weights_are_in_any_unit_and_the_inverse_of_keep_probabilities():
    table = LOG.append_column("stands_for", pa.array(37 * S))
    made = evaluate(table, sampling_weight="stands_for", **DENSITIES)
    left, right = (jax.tree.leaves(x.to_dict()) for x in (made, evaluated()))
    numbers = [[x for x in side if isinstance(x, float)] for side in (left, right)]
    np.testing.assert_allclose(*numbers, rtol=1e-9, atol=1e-12)


@pytest.mark.nightly
def test_intervals_of_thinned_logs_cover():
    """0.95 of 2,000 logs of 2,000 kept rows each; the one for skewed rewards at least as many."""
    cells = (ARMS[:, None] * np.stack([0.1 * (1 - RATE), RATE], axis=1)).ravel()
    rng = np.random.default_rng(0)
    drawn = rng.choice(6, (2000, 2000), p=cells / cells.sum())
    log_weight = jnp.log(np.repeat(TARGET / ARMS, 2))[drawn]
    reward = jnp.asarray(drawn % 2, float)
    speaks = np.where(drawn % 2, 1.0, 10.0)
    log_sampling = jnp.log(speaks / speaks.mean(axis=1, keepdims=True))

    @jax.jit
    @jax.vmap
    def moments_of(log_weight, reward, log_sampling):
        block = whole_block(Columns(reward, (log_weight,)))
        one = member(NAMED["snips"], log_sampling=lambda block: log_sampling)
        return run_passes(Whole(block), (*one.stages, moments_stage(one)))

    moments = moments_of(log_weight, reward, log_sampling)
    pivots = [WALD[name].at(moments) for name in ("normal", "ess_exact", "ess_skew")]
    *two_sided, skew = (
        int(((interval.lower <= TRUTH) & (interval.upper >= TRUTH)).sum())
        for interval in batched_intervals(pivots, 0.05)
    )
    assert all(binomial_tail(hits, 2000, 0.95) > 0.001 for hits in two_sided)
    assert max(two_sided) <= skew < 1960


# Counts.


def aggregated(seed, click):
    """Rows of three arms, and their cells: counts, sums and sums of squares of rewards."""
    rng = np.random.default_rng(seed)
    arm = rng.choice(3, 3000, p=ARMS)
    reward = (rng.random(3000) < 5 * RATE[arm]) * 1.0 if click else rng.gamma(2, 1 + arm)
    rows = pa.table({"reward": reward, "q": ARMS[arm], "t": TARGET[arm]})
    cells = {"q": ARMS, "t": TARGET, "users": np.bincount(arm)}
    cells |= {"total": np.bincount(arm, reward), "squares": np.bincount(arm, reward**2)}
    return rows, pa.table(cells)


CELLS = {"count": "users", "reward": "total", "sum_of_squares": "squares"}


@pytest.mark.parametrize("in_memory", [1_000_000, pytest.param(10, marks=pytest.mark.nightly)])
def test_cells_of_equal_rows_say_what_the_rows_say(in_memory):
    rows, _ = aggregated(16, click=True)
    by_cell = rows.group_by(["reward", "q", "t"]).aggregate([([], "count_all")])
    made = evaluate(by_cell, count="count_all", in_memory=in_memory, **DENSITIES)
    plain = evaluate(rows, **DENSITIES)
    assert made.n == made.units == 3000
    for left, right in zip(made.intervals, plain.intervals, strict=True):
        assert left[1:] == pytest.approx(right[1:], rel=1e-9)
    assert made.value == pytest.approx(plain.value, rel=1e-12)
    assert made.ess == pytest.approx(plain.ess, rel=1e-9)
    assert (made.verdict, made.reasons) == (plain.verdict, plain.reasons)


@pytest.mark.parametrize("click", [True, False])
def test_sums_and_sums_of_squares_give_the_value_and_variance_of_the_rows(click):
    rows, cells = aggregated(17, click)
    made = evaluate(cells, interval=["normal", "ess_exact"], **CELLS, **DENSITIES)
    plain = evaluate(rows, interval=["normal", "ess_exact"], **DENSITIES)
    assert made.value == pytest.approx(plain.value, rel=1e-10)
    for left, right in zip(made.intervals, plain.intervals, strict=True):
        assert left[1:] == pytest.approx(right[1:], rel=1e-9)


@pytest.mark.nightly
def test_a_cell_of_clicks_is_its_very_rows():
    rows, cells = aggregated(18, click=True)
    assert evaluate(cells, reward_range=(0, 1), **CELLS, **DENSITIES).interval[1:] == pytest.approx(
        evaluate(rows, reward_range=(0, 1), **DENSITIES).interval[1:], rel=1e-9
    )


# Every verb.


def continuous(n=30_000):
    """A normal log, thinned where it was not clicked; clicks depend on the weights."""
    rng = np.random.default_rng(3)
    action = rng.normal(size=(n, 2))
    click = (rng.random(n) < 1 / (1 + np.exp(2 - action[:, 0]))) * 1.0
    keep = np.where(click > 0, 1.0, 0.2)
    kept = rng.random(n) < keep
    columns = {"w_1": action[:, 0], "w_2": action[:, 1], "reward": click, "keep": keep}
    return pa.table({name: column[kept] for name, column in columns.items()})


CONTINUOUS = continuous()
ROLES = {"action": "w_", "logging": standard(2)}


@pytest.mark.parametrize(("keep", "verdict"), [("keep", "trust"), (None, "refuse")])
def test_check_knows_that_clicks_were_kept_more_often(keep, verdict):
    """Of kept rows the actions are not the logging policy's."""
    assert check_log(CONTINUOUS, keep_probability=keep, **ROLES).verdict == verdict


@pytest.mark.nightly
def test_differences_and_smoothing_know_the_sampling_weights():
    """The rate of N(0, 1) itself by Gauss–Hermite; the point's by its surface."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    rate = weights / weights.sum() @ (1 / (1 + np.exp(2 - nodes)))
    target = Gaussian.diagonal([0.5, 0.0], 0.9)
    there = weights / weights.sum() @ (1 / (1 + np.exp(1.5 - 0.9 * nodes)))
    made = compare(CONTINUOUS, ["logging", target], keep_probability="keep", **ROLES)
    first, second = made.policies
    assert first.lower < rate < first.upper
    assert second.difference.lower < there - rate < second.difference.upper
    assert first.upper - first.lower < 0.02
    point = evaluate(
        CONTINUOUS, Deterministic(jnp.zeros(2)), bandwidth=0.5, keep_probability="keep", **ROLES
    )
    smoothed = weights / weights.sum() @ (1 / (1 + np.exp(2 - 0.5 * nodes)))
    adds = smoothed - 1 / (1 + np.exp(2))
    assert point.smoothing.bias == pytest.approx(adds, abs=4 * point.smoothing.bias_error + 0.003)


def test_what_does_not_know_sampling_weights_refuses_them():
    logs = read_logs(CONTINUOUS, keep_probability="keep", **ROLES)
    with pytest.raises(ValueError, match="pilot: expected a log without sampling weights"):
        plan(pilot=logs)


@pytest.mark.nightly
def test_a_thinned_log_teaches_and_certifies_what_all_of_it_would():
    """Of the rows that are left actions are not the logging policy's, nor is the rate of clicks."""
    made = learn(CONTINUOUS, keep_probability="keep", **ROLES)
    n = CONTINUOUS.num_rows
    assert np.abs(made.whitening.mean).max() < 10 / np.sqrt(n)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    policy = made.middle
    at = float(policy.mean[0]) + np.sqrt(float(policy.covariance[0, 0])) * nodes
    rate = weights / weights.sum() @ (1 / (1 + np.exp(2 - at)))
    assert made.certificate.bound < rate < 1.1 * float(made.certificate.value)
    plain = learn(CONTINUOUS, **ROLES)
    assert float(plain.certificate.value) > 1.5 * rate


@pytest.mark.nightly
def test_a_log_in_memory_knows_its_sampling_weights():
    logs = read_logs(CONTINUOUS, keep_probability="keep", **ROLES)
    target = Gaussian.diagonal([0.5, 0.0], 0.9)
    inside = evaluate(logs, target).value
    assert inside == pytest.approx(
        evaluate(CONTINUOUS, target, keep_probability="keep", **ROLES).value, rel=1e-12
    )


@pytest.mark.parametrize(
    ("column", "role", "message"),
    [
        ([0.5, 0.0], "keep_probability", "row 2 .* expected a probability in"),
        ([0.5, 1.5], "keep_probability", "row 2 .* expected a probability in"),
        ([2.0, -1.0], "sampling_weight", "row 2 .* expected a sampling weight > 0"),
        ([1.0, 1.5], "count", "row 2 .* expected a whole number of rows"),
        ([0.0, 0.0], "count", "expected at least one row"),
        ([1.0, 1.0], "sum_of_squares", "name their counts"),
    ],
)
def test_what_cannot_be_is_refused(column, role, message):
    table = pa.table({"reward": [0.0, 1.0], "q": [0.5, 0.5], "t": [0.5, 0.5], "x": column})
    with pytest.raises(ValueError, match=message):
        evaluate(table, **{role: "x"}, **DENSITIES)


def test_squares_that_no_rewards_have_are_refused():
    table = {"q": [0.5], "t": [0.5], "users": [4], "total": [8.0], "squares": [15.9]}
    with pytest.raises(ValueError, match="expected a sum of squares that the sum"):
        evaluate(pa.table(table), **CELLS, **DENSITIES)

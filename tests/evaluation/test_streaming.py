"""Streaming: a log read in blocks gives the numbers of the log held in memory, whatever the
estimator.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from worlds import standard
from yardsticks import eps

from mopl_jax import estimators, intervals
from mopl_jax.diagnostics import weight_diagnostics
from mopl_jax.diagnostics.weight_diagnostics import DiagnosisFacts, diagnosis_stage
from mopl_jax.estimators.cluster import cluster_stage
from mopl_jax.estimators.estimator import member
from mopl_jax.estimators.reward_model import FOLDS, doubly_robust
from mopl_jax.evaluation import answers, row_blocks, target_sums
from mopl_jax.intervals.moments import moments_stage
from mopl_jax.io import log_reader
from mopl_jax.io.read import open_log
from mopl_jax.numerics.reduce import Stream, beside, run_passes
from mopl_jax.policies import Gaussian

N, D = 700, 2
RANGE = (-jnp.inf, 1.5)
RNG = np.random.default_rng(5)
ACTION = RNG.normal(size=(N, D))
REWARD = 1e3 + ACTION.mean(axis=1) + RNG.normal(size=N)  # far from zero: sums must be centred
USER = RNG.integers(0, 60, N)
TARGETS = Gaussian.diagonal(np.full(D, 0.3), 0.6), Gaussian.diagonal(np.full(D, -0.1), 0.8)
LOG = pa.table(
    {
        "action": pa.FixedSizeListArray.from_arrays(pa.array(ACTION.ravel()), D),
        "reward": REWARD,
        "user": USER,
    }
)
READER = open_log(LOG, logging=standard(D), cluster="user")
ALONE = open_log(LOG, logging=standard(D))
NAMES = [*estimators.NAMED, "doubly_robust", "calibrated"]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Eleven blocks, the last one not full."""
    monkeypatch.setattr(row_blocks, "SIZE", 64)


def stream(reader=ALONE):
    return Stream(lambda: row_blocks.blocks(log_reader.chunks(reader, 64), N))


def member_of(name, target):
    kind = "column" if target is None else "policy"
    weigh = functools.partial(answers._weigh, kind, target)
    return member(estimators.bind_estimator(name, target), weigh)


def summed(made, stream, modal=0.0):
    """Moments and diagnosis."""
    both = beside(
        (moments_stage(made),),
        (diagnosis_stage(made, N, DiagnosisFacts(RANGE, modal_reward=modal)),),
    )
    state = run_passes(stream, made.stages)
    return run_passes(stream, both, (state, state))


@functools.cache
def whole(name, by_user):
    """The estimates on all rows at once."""
    rows = log_reader.whole(READER)
    fold = jnp.asarray(rows.cluster if by_user else np.arange(N)) % FOLDS
    return rows, [_whole(name, rows, target, fold) for target in TARGETS]


def _whole(name, rows, target, fold):
    log_weight = jax.vmap(target.log_density)(rows.action) - rows.log_propensity
    reward, action = jnp.asarray(rows.reward), jnp.asarray(rows.action)
    if name == "doubly_robust":
        return jax.jit(doubly_robust)(log_weight, reward, action=action, target=target, fold=fold)
    if name == "calibrated":
        return jax.jit(estimators.calibrated)(log_weight, reward, action=action, target=target)
    return jax.jit(estimators.NAMED[name])(log_weight, reward)


def assert_same(made, expected, scale=1.0):
    """Every leaf to rounding of the rewards' size."""

    def close(x, y):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e5 * scale * eps(np.float64))

    jax.tree.map(close, made, expected)


moments, difference = jax.jit(intervals.moments_of), jax.jit(estimators.difference)
diagnosed = jax.jit(
    functools.partial(weight_diagnostics.diagnose, reward_range=RANGE, modal_reward=0.0)
)
diagnosed_to = jax.jit(
    lambda estimate, modal: weight_diagnostics.diagnose(estimate, RANGE, math.nan, modal)
)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_give_the_moments_and_the_diagnosis_of_the_whole(name):
    _, expected = whole(name, False)
    for target, estimate in zip(TARGETS, expected, strict=True):
        sums, diagnosis = summed(member_of(name, target), stream())
        assert_same(sums, moments(estimate))
        assert_same(diagnosis, diagnosed(estimate))
        assert diagnosis.num_not_modal == diagnosis.num_interior == N


@pytest.mark.parametrize("name", ["snips", "doubly_robust", "calibrated"])
def test_blocks_give_the_difference_of_the_whole(name):
    """The contrast's weights |p_a − p_b| need a pass of their own; influences multiply to the
    covariance of the values.
    """
    _, (a, b) = whole(name, False)
    members = [member_of(name, target) for target in TARGETS]
    states = run_passes(stream(), beside(*[each.stages for each in members]))
    nothing = [lambda block: 0.0] * 2
    known = target_sums.LogFacts(N, RANGE, 0.0, [math.nan] * 2, nothing)
    sums, _ = target_sums.sum_targets(stream(), members, states, known)
    expected = difference(b, a)
    assert_same(sums.moments, [moments(each) for each in (a, b, expected)])
    assert_same(sums.diagnoses, [diagnosed(each) for each in (a, b)])
    products = np.sum(np.square(expected.influence))
    np.testing.assert_allclose(sums.products, [[products]], rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_give_the_clusters_of_the_whole(name):
    """One row a user, also for users that first occur in a later block."""
    rows, expected = whole(name, True)
    users = int(rows.cluster.max()) + 1
    made = member_of(name, TARGETS[0])
    assert_same(
        run_passes(stream(READER), (*made.stages, cluster_stage(made, users))),
        intervals.clustered(expected[0], jnp.asarray(rows.cluster), users),
        10.0,
    )


def odd_log(log_target, reward):
    columns = {"reward": reward, "log_propensity": np.zeros(N), "target": log_target}
    return open_log(columns, log_target_propensity="target")


HEAVY = np.where(np.arange(N) == 333, 40.0, RNG.normal(size=N))
ODD = {
    "no weight": (np.full(N, -np.inf), REWARD),
    "one row": (np.where(np.arange(N) == 333, 0.5, -np.inf), REWARD),
    "one heavy row": (HEAVY, REWARD),
    "weight late": (np.where(np.arange(N) > 600, 0.1, -np.inf), REWARD),
    "weight early": (np.where(np.arange(N) < 5, 0.1, -np.inf), REWARD),
    "equal rewards": (RNG.normal(size=N), np.full(N, 0.1)),
    "equal weights": (np.zeros(N), REWARD),
    "ties": (np.where(np.arange(N) % 7 == 0, 1.0, 0.0), REWARD),
    "huge weights": (500 + RNG.normal(size=N), REWARD),
    "rising weights": (np.linspace(-300, 300, N), REWARD),
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("name", estimators.NAMED)
def test_nothing_is_claimed_from_blocks_that_is_not_claimed_from_the_whole(case, name):
    """Where the whole log has no variance, or no finite value, the blocks have none; elsewhere they
    agree.
    """
    log_target, reward = ODD[case]
    reader = odd_log(log_target, reward)
    sums, diagnosis = summed(member_of(name, None), stream(reader), float(reward[0]))
    estimate = jax.jit(estimators.NAMED[name])(jnp.asarray(log_target), jnp.asarray(reward))
    with np.errstate(over="ignore"):
        big = (
            float(np.exp(np.max(log_target)))
            if case in ("one heavy row", "rising weights")
            else 1.0
        )
    ends = [
        intervals.WALD["ess_exact"].at(each).interval(0.05) for each in (sums, moments(estimate))
    ]
    for one, other in zip(jax.tree.leaves(ends[0]), jax.tree.leaves(ends[1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9 * big)
    np.testing.assert_allclose(sums.sum_p2, moments(estimate).sum_p2, rtol=1e-9)
    np.testing.assert_array_equal(
        diagnosis.verdict, diagnosed_to(estimate, float(reward[0])).verdict
    )

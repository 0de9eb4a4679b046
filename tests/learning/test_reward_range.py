"""Bounds of what rewards in a known range can gain: no further than the range is wide."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest

import mopl_jax as mopl
from mopl_jax.intervals.reward_range import between, gains
from mopl_jax.learning.arms import choose_arm
from mopl_jax.learning.certification import certified, possible
from mopl_jax.learning.pipeline import learn, learn_contextual
from mopl_jax.policies.discrete import Discrete
from mopl_jax.policies.gaussian import Gaussian


def clicks(n, seed=0):
    """Clicks at random under two weights, and two segments."""
    rng = np.random.default_rng(seed)
    action = rng.normal(size=(n, 2))
    segment = rng.integers(0, 2, n)
    along = np.where(segment == 0, 1.0, -1.0) * action[:, 0]
    reward = (rng.random(n) < 1 / (1 + np.exp(-along))).astype(float)
    columns = {"w_a": action[:, 0], "w_b": action[:, 1], "reward": reward}
    return pa.table(columns | {"segment": segment.astype(str)})


LOGGING = Gaussian(jnp.zeros(2), jnp.ones(2))
ROLES = {"action": "w_", "reward": "reward", "logging": LOGGING}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-3, 0.2, (-1, 0.2)), (-0.5, 4, (-0.5, 1)), (-math.inf, math.inf, (-1, 1))],
)
def test_an_interval_of_a_gain_is_cut_to_the_width(low, high, expected):
    ends = between(low, high, gains((2.0, 3.0)))
    assert (float(ends.lower), float(ends.upper)) == expected


def test_gains_of_a_range_with_one_end_are_not_bounded():
    assert gains((0.0, math.inf)) == (-math.inf, math.inf)


def test_bounds_of_value_and_gain_are_cut_and_what_is_missing_stays():
    """Certain to a millionth on sixty rows, of which few decide for weights so far away."""
    logs = mopl.read_logs(clicks(60), **ROLES)
    far = Gaussian(jnp.array([1.5, 0.0]), 0.6 * jnp.ones(2))
    made = certified(far, logs, np.array([-1.5, 0.0]), alpha=1e-6)
    cut = possible(made, (0.0, 1.0))
    assert float(made.bound) < 0
    assert float(made.gain_bound) < -1
    assert (float(cut.bound), float(cut.gain_bound)) == (0, -1)
    assert cut.short == pytest.approx(float(made.gain - made.gain_bound), rel=1e-12)
    free = possible(made, (-math.inf, math.inf))
    assert float(free.gain_bound) == float(made.gain_bound)
    assert float(free.bound) == float(made.bound)


SURE = {"share": 0.5, "alpha": 1e-6, **ROLES}


def test_learn_cuts_its_bounds():
    table = clicks(60)
    free, cut = (learn(table, reward_range=x, **SURE) for x in (None, (0, 1)))
    assert float(free.certificate.bound) < 0
    assert float(cut.certificate.bound) == 0
    assert cut.needed == pytest.approx(free.needed)


def test_of_a_cost_the_range_is_turned_around():
    table = clicks(60)
    free, cut = (learn(table, reward_range=x, minimise=True, **SURE) for x in (None, (0, 1)))
    assert free.to_dict()["certified_upper_bound"] > 1
    assert cut.to_dict()["certified_upper_bound"] == 1


def test_certify_of_what_was_learnt_has_its_range():
    train, test = (mopl.read_logs(clicks(60, seed), **ROLES) for seed in (0, 1))
    free, cut = (learn(train, alpha=1e-12, reward_range=x) for x in (None, (0, 1)))
    assert float(mopl.certify(free, test).bound) < 0
    assert float(mopl.certify(cut, test).bound) == 0


def test_segments_and_the_gain_of_personalising_are_cut():
    """Of the first segment the ends are impossible, of the second they are not."""
    made = learn_contextual(clicks(600), "segment", share=0.5, reward_range=(0, 1), **ROLES)
    first, second = made.segments
    wide = first._replace(lower=-1.3, upper=2.0), second
    cut = dataclasses.replace(made, segments=wide, interval=(-0.2, 1.5)).judged
    assert cut.segments == (first._replace(lower=-1.0, upper=1.0), second)
    assert cut.interval == (-0.2, 1.0)
    assert cut.least == made.least


def test_rewards_outside_of_the_range_are_refused():
    table = clicks(60)
    with pytest.raises(ValueError, match=r"a reward in \[0, 0.5\]"):
        learn(table, reward_range=(0, 0.5), **ROLES)
    logs = mopl.read_logs(table, **ROLES)
    with pytest.raises(ValueError, match=r"expected rewards in \[0, 0.5\]"):
        learn(logs, reward_range=(0, 0.5))


def test_guardrails_have_ranges_of_their_own():
    """Of certificates of several outcomes the first is the reward's."""
    far = Gaussian(jnp.array([1.5, 0.0]), 0.6 * jnp.ones(2))
    logs = mopl.read_logs(clicks(60), **ROLES)
    made = certified(far, logs, np.array([-1.5, 0.0]), alpha=1e-6)
    cut = possible(jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), made), (0.0, 1.0))
    assert cut.gain_bound.tolist() == [-1, float(made.gain_bound)]
    assert cut.bound.tolist() == [0, float(made.bound)]


def test_arms_are_cut():
    rng = np.random.default_rng(0)
    arm = rng.integers(0, 2, 40)
    table = pa.table({"w_a": arm.astype(float), "reward": rng.integers(0, 2, 40).astype(float)})
    logging = Discrete.of(np.array([[0.0], [1.0]]), np.array([0.5, 0.5]))
    roles = {"action": "w_", "reward": "reward", "logging": logging}
    asked = {"production": np.zeros(1), "alpha": 1e-9, "estimator": "ips", **roles}
    free, cut = (choose_arm(table, reward_range=x, **asked) for x in (None, (0, 1)))
    (before,), (after,) = free.arms, cut.arms
    assert -math.inf < before.certified_gain < -1
    assert after == before._replace(certified_gain=-1.0)


@pytest.mark.parametrize("estimator", ["snips", "ips"])
def test_compare_cuts_differences_of_every_estimator(estimator):
    table = clicks(12)
    far = Gaussian(jnp.array([1.5, 0.0]), 0.6 * jnp.ones(2))
    asked = {"estimator": estimator, "interval": "normal", "alpha": 1e-6, **ROLES}
    found = [mopl.compare(table, [far, "logging"], reward_range=x, **asked) for x in (None, (0, 1))]
    before, after = (x.policies[1].difference for x in found)
    assert before.lower < -1 or before.upper > 1
    assert (after.lower, after.upper) == (max(before.lower, -1), min(before.upper, 1))


def test_evaluate_cuts_every_interval():
    table = clicks(12)
    far = Gaussian(jnp.array([1.5, 0.0]), 0.6 * jnp.ones(2))
    asked = {"interval": ("normal", "recommended"), "alpha": 1e-6, **ROLES}
    free, cut = (mopl.evaluate(table, far, reward_range=x, **asked) for x in (None, (0, 1)))
    before, after = free.intervals[0], cut.intervals[0]
    assert before.lower < 0
    assert (after.lower, after.upper) == (max(before.lower, 0), min(before.upper, 1))

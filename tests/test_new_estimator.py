"""A new estimator is one definition: it then works in memory, in passes, on a mesh, in prefixes, in
a study, in learning and in every verb.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import log_of, of_users, standard
from yardsticks import KEY

import mopl_jax as mopl
from mopl_jax import intervals
from mopl_jax.coverage import engine
from mopl_jax.estimators import ESTIMATORS, Estimator, ips, snips
from mopl_jax.estimators.estimator import Columns, Constants, member
from mopl_jax.evaluation import row_blocks, sharded
from mopl_jax.learning.objective import importance_weighted
from mopl_jax.learning.optimise import fit
from mopl_jax.logs import log_weights
from mopl_jax.numerics.devices import one_device

# The definition: half-way between IPS and SNIPS.


def _between(totals):
    """The mean of IPS and SNIPS."""
    each = ips.finish(totals), snips.finish(totals)
    return Constants(0.5 * (each[0].value + each[1].value), each)


def _between_row(constants, totals, log_weight, gap, offset):
    terms = [
        estimator.row(one, totals, log_weight, gap, offset)
        for estimator, one in zip((ips, snips), constants.shift, strict=True)
    ]
    return tuple(0.5 * (a + b) for a, b in zip(*terms, strict=True))


between = Estimator(_between, _between_row)
TARGET = mopl.Gaussian.diagonal(np.array([0.3, 0.2, 0.1]), 0.8)
LOGS = log_of(KEY, n=600)


@functools.cache
def expected():
    """The mean of the two estimates by hand, and the interval of the mean of their influences."""
    log_weight = log_weights(TARGET, LOGS)
    one, other = (jax.jit(f)(log_weight, LOGS.reward) for f in (ips, snips))
    influence = 0.5 * (one.influence + other.influence)
    half = 1.959963984540054 * np.sqrt(np.sum(np.square(influence)) / 600 / 599)
    value = 0.5 * (float(one.value) + float(other.value))
    return value, (value - half, value + half)


def test_in_memory():
    estimate = between(log_weights(TARGET, LOGS), LOGS.reward)
    ends = intervals.normal(estimate, 0.05)
    value, limits = expected()
    np.testing.assert_allclose(estimate.value, value, rtol=1e-12)
    np.testing.assert_allclose((ends.lower, ends.upper), limits, rtol=1e-12)


@pytest.mark.parametrize("in_memory", [1000, 100])
def test_in_the_verb_whole_and_in_blocks(monkeypatch, in_memory):
    monkeypatch.setattr(row_blocks, "SIZE", 64)
    said = mopl.evaluate(LOGS, TARGET, estimator=between, interval=["normal"], in_memory=in_memory)
    value, limits = expected()
    assert said.value == pytest.approx(value, rel=1e-10)
    assert (said.interval.lower, said.interval.upper) == pytest.approx(limits, rel=1e-9)


def test_in_a_comparison_by_user():
    logs = of_users(LOGS, 3)
    policies = [standard(3), TARGET]
    said = mopl.compare(logs, policies, estimator=between)
    parts = [mopl.evaluate(logs, policy, estimator=between).value for policy in policies]
    assert said.units == 200
    assert said.policies[1].difference.value == pytest.approx(parts[1] - parts[0], rel=1e-9)


def test_on_a_mesh():
    spread = sharded.spread(LOGS, one_device())
    sums = sharded.moments(spread, TARGET, between)
    np.testing.assert_allclose(sums.value, expected()[0], rtol=1e-10)


def test_in_prefixes():
    columns = Columns(jnp.asarray(LOGS.reward), (log_weights(TARGET, LOGS),))
    sums = jax.jit(functools.partial(engine.moments_at, (50, 600), member=member(between)))(
        columns=columns
    )
    np.testing.assert_allclose(sums.value[1], expected()[0], rtol=1e-10)
    few = between(columns.log_weights[0][:50], columns.reward[:50])
    np.testing.assert_allclose(sums.value[0], few.value, rtol=1e-10)


def test_in_a_study_by_name(monkeypatch):
    """One line in the registry: a name that studies know."""
    monkeypatch.setitem(ESTIMATORS, "between", between)
    world = {
        "name": "w",
        "d": 2,
        "reward": {"kind": "linear"},
        "noise": {"kind": "normal"},
        "logging": {"kind": "normal", "scale": 1.0},
        "target": {"t": {"mean": 0.2, "scale": 0.8}},
    }
    found = mopl.coverage_study(
        {"world": [world]},
        n=[64],
        replicates=64,
        estimators=["between", "ips", "snips"],
        intervals=["normal"],
    )
    bias = {row["estimator"]: row["bias"] for row in found.rows}
    assert bias["between"] == pytest.approx(0.5 * (bias["ips"] + bias["snips"]), rel=1e-4)


def test_in_learning():
    found = fit(LOGS, TARGET, value_estimator=importance_weighted(between), limit=1)
    np.testing.assert_allclose(found.value, expected()[0], rtol=1e-10)
    slope = jax.grad(
        lambda mean: (
            between(log_weights(mopl.Gaussian(mean, TARGET.scale), LOGS), LOGS.reward).value
        )
    )(TARGET.mean)
    assert np.all(np.isfinite(slope))
    assert np.any(slope != 0)


def test_in_the_verb_of_learning():
    """What is certified is valued by it, as `certify` does on the same rows by the same names."""
    options = {"share": 0.5, "certificate": "normal"}
    own = mopl.learn(LOGS, estimator=between, **options)
    made = {name: mopl.learn(LOGS, estimator=name, **options) for name in ("ips", "snips")}
    parts = [float(each.certificate.value) for each in made.values()]
    assert float(own.certificate.value) == pytest.approx(np.mean(parts), rel=1e-9)
    assert own.to_dict()["estimator"] == "own"

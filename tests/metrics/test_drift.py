"""A relation that changes: told where it does, at its level where it does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yardsticks import KEY, binomial_tail

from benchmarks._weak_tests import OURS, draws
from mopl_jax.metrics import drift

TESTS, HALF = 100, 50
WEIGHTS = np.append(0.0, OURS.beta)


def histories(count):
    found = draws(OURS, KEY, count, TESTS, 100_000, 0.0)
    return [jax.tree.map(lambda x: x[i], found) for i in range(count)]  # noqa: B023


def changed(past, beta):
    """The same tests, of which the later half follows another β."""
    shift = past.effect[:, 1:] @ jnp.asarray(beta - OURS.beta)
    effect = past.effect.at[:, 0].add(jnp.where(jnp.arange(TESTS) < HALF, 0.0, shift))
    return dataclasses.replace(past, effect=effect)


def test_no_change_is_told_at_its_level():
    """150 histories: rejections at 5 % have a binomial tail above 1e-4."""
    told = [drift.drift(WEIGHTS, past).p_value < 0.05 for past in histories(150)]
    assert binomial_tail(sum(told), 150, 0.05) > 1e-4


def test_a_north_star_that_turns_round_is_told_and_dated():
    found = [drift.drift(WEIGHTS, changed(past, -OURS.beta)) for past in histories(20)]
    assert all(each.p_value < drift.LEVEL for each in found)
    assert abs(np.median([each.first for each in found]) - HALF) <= 3
    assert found[0].of == TESTS
    assert np.mean([each.before for each in found]) > 0.5
    assert np.mean([each.after for each in found]) < -0.5


def test_a_p_value_is_that_of_so_many_draws():
    """The largest of all is one of them: 1/1000 at least."""
    assert drift.drift(WEIGHTS, changed(histories(1)[0], -OURS.beta)).p_value == 1e-3


def test_a_rate_is_that_of_effects_without_their_noise():
    """Σ n (ωᵀΔ Δ_N − ωᵀSe_N) / Σ n ((ωᵀΔ)² − ωᵀSω), written out."""
    past, some = histories(1)[0], np.arange(TESTS) % 3 > 0
    true, noise = np.asarray(past.effect), np.asarray(past.covariance)
    above = below = 0.0
    for effect, covariance, n, taken in zip(true, noise, np.asarray(past.size), some, strict=True):
        ours = WEIGHTS @ effect
        above += taken * n * (ours * effect[0] - WEIGHTS @ covariance[:, 0])
        below += taken * n * (ours**2 - WEIGHTS @ covariance @ WEIGHTS)
    assert drift.rate(WEIGHTS, past, some) == pytest.approx(above / below, rel=1e-9)


def test_a_change_that_leaves_the_worth_of_the_metric_is_told():
    """β + δ with δᵀ Λ β = 0: a unit of the metric is worth the same in both halves."""
    true = OURS.signals @ OURS.beta
    delta = np.array([0.2, 1.0, -0.3])
    delta -= true * (delta @ true) / (true @ true)
    found = [drift.drift(WEIGHTS, changed(past, OURS.beta + delta)) for past in histories(20)]
    assert sum(each.p_value < drift.LEVEL for each in found) >= 18
    moved = np.array([each.after - each.before for each in found])
    assert abs(moved.mean()) < 4 * moved.std(ddof=1) / len(moved) ** 0.5


def test_nothing_beyond_noise_is_nothing_known():
    past = histories(1)[0]
    still = dataclasses.replace(past, effect=0 * past.effect)
    few = jax.tree.map(lambda x: x[:7], past)
    for history in (still, dataclasses.replace(few, user_covariance=past.user_covariance)):
        assert np.isnan(drift.drift(WEIGHTS, history).p_value)


def test_a_rate_is_the_slope_of_true_effects():
    """Without noise Σ n Δ_N ωᵀΔ / Σ n (ωᵀΔ)², and A/A tests have no say."""
    past = histories(1)[0]
    exact = dataclasses.replace(past, covariance=0 * past.covariance, null=past.experiment == 0)
    metric, size = np.asarray(exact.effect)[1:] @ WEIGHTS, np.asarray(exact.size)[1:]
    north = np.asarray(exact.effect)[1:, 0]
    expected = np.sum(size * metric * north) / np.sum(size * metric**2)
    assert np.isclose(drift.rate(WEIGHTS, exact, np.ones(TESTS, bool)), expected)

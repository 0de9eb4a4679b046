"""A relation that changes: told where it does, at its level where it does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yardsticks import KEY, binomial_tail

from benchmarks._weak_tests import OURS, draws
from mopl_jax.metrics import drift, objectives

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


def uneven(past):
    """The same tests with users of their own number, every ninth of them an A/A test, in which a
    unit of the signals is worth a little less later on.
    """
    size = np.asarray(past.size) * np.random.default_rng(1).uniform(0.2, 2, TESTS)
    noise = past.covariance * (past.size / size)[:, None, None]
    changes = {"size": jnp.asarray(size), "covariance": noise, "null": past.experiment % 9 == 4}
    return dataclasses.replace(changed(past, 0.7 * OURS.beta), **changes)


def by_hand(past):
    """The tests before the change and the p-value, as the module's text has them, test by test."""
    standard, _ = objectives.scaled(past)
    real = np.flatnonzero(~np.asarray(past.null))
    true = np.asarray(objectives.effect_covariance(standard, jnp.asarray(~past.null, float)))
    rows = []
    for i in real:
        noise, effect = np.asarray(standard.covariance[i]), np.asarray(standard.effect[i])
        said = np.linalg.inv(true[1:, 1:] + noise[1:, 1:]) @ effect[1:]
        own = effect[0] - noise[0, 1:] @ said
        rows.append((true[1:, 1:] @ said, own, noise[0, 0] + true[0, 0]))
    design, outcome, variance = (np.array(x) for x in zip(*rows, strict=True))
    turned, size, _ = np.linalg.svd(design / np.sqrt(variance)[:, None], full_matrices=False)
    x = turned[:, : min(len(real) // 12, int(sum(size**2 > 0.01 * sum(size**2))))]
    outcome = outcome / np.sqrt(variance)
    left = outcome - x @ (x.T @ outcome)
    error = left / np.sqrt(1 - (x**2).sum(axis=1))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (999, len(real)))
    cuts = np.unique(np.linspace(0.15 * len(real), 0.85 * len(real), 25).astype(int))

    def walds(terms):
        """Of partial sums, less their part of the sum of all."""
        for cut in cuts:
            part = x[:cut].T @ x[:cut]
            gap = terms[:cut].sum(axis=0) - part @ terms.sum(axis=0)
            yield gap @ np.linalg.inv(part @ (np.eye(x.shape[1]) - part)) @ gap

    found = list(walds(x * left[:, None]))
    drawn = [max(walds(x * (sign * error)[:, None])) for sign in signs]
    return cuts[np.argmax(found)], (1 + sum(np.array(drawn) >= max(found))) / 1000


def test_the_p_value_is_that_of_the_formula():
    """To the last draw of signs, where nothing is certain; users and A/A tests as they are."""
    for past in map(uneven, histories(2)):
        found, (first, p_value) = drift.drift(WEIGHTS, past), by_hand(past)
        assert (found.first, found.of) == (first, int((~past.null).sum()))
        assert found.p_value == pytest.approx(p_value, abs=1e-12)
        tests = np.flatnonzero(~past.null)
        before = np.arange(TESTS) < tests[first]
        assert found.before == drift.rate(WEIGHTS, past, before)
        assert found.after == drift.rate(WEIGHTS, past, ~before)


def test_a_rate_takes_out_what_noise_shares():
    """Σ n (ωᵀΔ Δ_N − ωᵀSe_N) / Σ n ((ωᵀΔ)² − ωᵀSω), test by test."""
    past, above, below = uneven(histories(1)[0]), 0.0, 0.0
    for i in np.flatnonzero(~past.null):
        effect, noise, size = (np.asarray(x[i]) for x in (past.effect, past.covariance, past.size))
        above += size * (WEIGHTS @ effect * effect[0] - WEIGHTS @ noise[0])
        below += size * ((WEIGHTS @ effect) ** 2 - WEIGHTS @ noise @ WEIGHTS)
    assert drift.rate(WEIGHTS, past, np.ones(TESTS, bool)) == pytest.approx(above / below)


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

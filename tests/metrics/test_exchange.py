"""Exchange rates: one formula for all estimators, invariances, and the test of direct effects."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yardsticks import KEY, binomial_tail

from benchmarks._weak_tests import OURS, THEIRS, draws
from mopl_jax.metrics import exchange, objectives

TESTS, ARM = 200, 20_000
LONGER = {name: pytest.mark.nightly for name in ("liml", "total_covariance")}  # each compiles
every = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LONGER.get(name, ())) for name in exchange.NAMED]
)


def history(share=0.0, world=OURS, seed=0, arm=ARM):
    """One history, with halves of twice its noise that are independent."""
    found = draws(world, jax.random.fold_in(KEY, seed), 1, TESTS, arm, share)
    one = jax.tree.map(lambda x: x[0], found)
    root = jnp.linalg.cholesky(one.covariance)
    noise = jnp.einsum("eij,ej->ei", root, jax.random.normal(KEY, one.effect.shape))
    halves = jnp.stack([one.effect + noise, one.effect - noise], axis=1)
    return dataclasses.replace(one, halves=halves)


PAST = history()
EVERY = jnp.ones(TESTS)
SIGNALS = objectives.signals_only(PAST)
learn = jax.jit(objectives.learn, static_argnames="objective")


def moments(past):
    """T and V of equal tests, by hand."""
    effect = np.asarray(past.effect)
    return effect.T @ effect / len(effect), np.asarray(past.covariance).mean(axis=0)


def test_naive_and_total_covariance_are_regressions():
    """κ = 0 regresses measured effects, κ = 1 the same with the noise subtracted."""
    total, noise = moments(PAST)
    for way, matrix in ((exchange.naive, total), (exchange.total_covariance, total - noise)):
        expected = np.linalg.solve(matrix[1:, 1:], matrix[1:, 0])
        np.testing.assert_allclose(way(PAST, EVERY, SIGNALS)[1:], expected, rtol=1e-9)


def test_liml_is_the_direction_of_least_effect_over_noise():
    """γ = (1, −β) minimises γᵀTγ / γᵀVγ: it is the smallest eigenvector of V⁻¹T."""
    total, noise = moments(PAST)
    values, vectors = np.linalg.eig(np.linalg.solve(noise, total))
    least = vectors[:, np.argmin(values)]
    beta = exchange.liml(PAST, EVERY, SIGNALS)[1:]
    np.testing.assert_allclose(beta, -least[1:] / least[0], rtol=1e-7)


def test_total_covariance_is_the_jackknife():
    """ΔΔᵀ − S is the mean of x yᵀ over pairs of distinct users, arm by arm and across."""
    rng = np.random.default_rng(0)
    sides = [rng.normal(size=(n, 2)) @ [[1.0, 0.5], [0.0, 1.0]] for n in (7, 5)]
    effect = sides[0].mean(0) - sides[1].mean(0)
    noise = sum(np.cov(side, rowvar=False) / len(side) for side in sides)
    pairs = sum(
        (np.outer(side.sum(0), side.sum(0)) - side.T @ side) / (len(side) * (len(side) - 1))
        for side in sides
    )
    cross = np.outer(sides[0].mean(0), sides[1].mean(0))
    np.testing.assert_allclose(
        np.outer(effect, effect) - noise, pairs - cross - cross.T, atol=1e-12
    )


@every
def test_units_and_swapped_arms_do_not_matter(name):
    """Δ → DΔ gives D⁻¹ω; control and treatment exchanged give the same weights."""
    units = jnp.array([0.01, 100.0, 3.0, 7.0])
    both = units[:, None] * units[None]
    flip = jnp.where(jnp.arange(TESTS) % 2 == 0, -1.0, 1.0)[:, None]
    other = dataclasses.replace(
        PAST,
        effect=flip * PAST.effect * units[None],
        covariance=PAST.covariance * both[None],
        user_covariance=PAST.user_covariance * both,
        halves=flip[:, None] * PAST.halves * units[None, None],
    )
    got = learn(other, objective=exchange.NAMED[name]) * units
    expected = learn(PAST, objective=exchange.NAMED[name])
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert float(expected @ PAST.user_covariance @ expected) == pytest.approx(1)
    assert float(expected[0]) == 0


@every
def test_a_metric_that_may_not_enter_does_not(name):
    """Leaving a signal out equals learning from a history without it."""
    allowed = SIGNALS.at[2].set(False)
    got = exchange.NAMED[name](PAST, EVERY, allowed)
    kept = jnp.array([0, 1, 3])
    without = dataclasses.replace(
        PAST,
        effect=PAST.effect[:, kept],
        covariance=PAST.covariance[:, kept][:, :, kept],
        halves=PAST.halves[:, :, kept],
        names=("y", "x1", "x3"),
    )
    expected = exchange.NAMED[name](without, EVERY, objectives.signals_only(without))
    np.testing.assert_allclose(got[kept], expected, rtol=1e-6, atol=1e-12)
    assert float(got[2]) == 0


def test_the_chosen_estimator_is_liml_or_total_covariance():
    """Within Fuller's constant of each, by what the test says."""
    assert float(exchange.direct_effects(PAST, EVERY, SIGNALS).p_value) > 0.05
    got = exchange.tested(PAST, EVERY, SIGNALS)
    np.testing.assert_allclose(got, exchange.liml(PAST, EVERY, SIGNALS), rtol=0.05, atol=0.01)
    direct = history(share=5.0)
    assert float(exchange.direct_effects(direct, EVERY, SIGNALS).p_value) < 1e-3
    np.testing.assert_allclose(
        exchange.tested(direct, EVERY, SIGNALS),
        exchange.total_covariance(direct, EVERY, SIGNALS),
        rtol=1e-3,
    )


def test_liml_with_fullers_constant_by_hand():
    """κ = the least eigenvalue less 6/e, where the test leaves all to LIML."""
    assert float(exchange.direct_effects(PAST, EVERY, SIGNALS).p_value) > exchange.LEVEL
    total, noise = moments(PAST)
    least = np.linalg.eigvals(np.linalg.solve(noise, total)).real.min()
    left = total - (least - 6 / TESTS) * noise
    got = exchange.tested(PAST, EVERY, SIGNALS)[1:]
    np.testing.assert_allclose(got, np.linalg.solve(left[1:, 1:], left[1:, 0]), rtol=1e-6)


def test_signals_without_effects_leave_weights_finite():
    """Nothing but noise: no NaN and no infinity, as the test of the least eigenvalue promises."""
    noise = dataclasses.replace(PAST, effect=PAST.effect.at[:, 3].set(0.0))
    for name in ("tested", "liml", "total_covariance"):
        assert np.isfinite(np.asarray(learn(noise, objective=exchange.NAMED[name]))).all()
    none = dataclasses.replace(PAST, halves=None)
    assert not np.asarray(exchange.cross_fold(none, EVERY, SIGNALS)).any()


def test_an_a_a_test_says_nothing_of_direct_effects():
    """Whatever it measured: it counts as one that is left out."""
    null = jnp.arange(TESTS) < 20
    odd = dataclasses.replace(PAST, null=null, effect=PAST.effect.at[:20].mul(100.0))
    ask = jax.jit(exchange.direct_effects)
    left_out = ask(PAST, jnp.where(null, 0.0, 1.0), SIGNALS)
    np.testing.assert_allclose(ask(odd, EVERY, SIGNALS), left_out, rtol=1e-9)


def test_direct_effects_are_found_at_their_level():
    """Without direct effects 5 % of 300 histories reject at most, binomial tail above 1e-3; with a
    tenth of the paper's, nearly all.
    """

    @jax.jit
    def p_values(key, share):
        found = draws(THEIRS, key, 300, TESTS, 100_000, share)
        axes = jax.tree.map(lambda _: 0, found)
        allowed = jnp.arange(3) != 0
        one = lambda past: exchange.direct_effects(past, EVERY, allowed).p_value  # noqa: E731
        return jax.vmap(one, in_axes=(axes,))(found)

    hits = int(np.sum(np.asarray(p_values(KEY, 0.0)) < 0.05))
    assert binomial_tail(hits, 300, 0.05) > 1e-3
    assert np.mean(np.asarray(p_values(KEY, 0.1)) < 0.05) > 0.95

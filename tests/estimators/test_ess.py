"""Effective sample sizes: range, order, invariance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from worlds import ESS, rows
from yardsticks import DTYPES, eps

from mopl_jax.estimators import ess

N = 12
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_ess = pytest.mark.parametrize("name", ESS)
quick = settings(deadline=None, max_examples=50, derandomize=True)
log_weights = st.lists(st.one_of(st.floats(-60, 60), st.just(-np.inf)), min_size=N, max_size=N).map(
    np.array
)


@jax.jit
def sizes(log_weight):
    """Every effective sample size, in the order of `ESS`: rising."""
    return jnp.stack([size(log_weight) for size in ESS.values()])


slopes = jax.jit(jax.jacrev(sizes))


@quick
@given(log_weights, st.sampled_from(DTYPES))
def test_range_and_order(log_weight, dtype):
    """1 ≤ ℓ∞ ≤ Rényi-3 ≤ ℓ2 ≤ perplexity ≤ Rényi-½ ≤ n where a row has weight: Hill numbers fall
    with their order.
    """
    size = np.asarray(sizes(log_weight.astype(dtype)), np.float64)
    if np.isneginf(log_weight).all():
        assert (size == 0).all()
        return
    rounding = 1 + 8 * N * eps(dtype)
    assert size[0] * rounding >= 1
    assert (size[1:] * rounding >= size[:-1]).all()
    assert size[-1] <= N * rounding


@quick
@given(log_weights, st.floats(-700, 700), st.sampled_from(DTYPES))
def test_shift_invariance(log_weight, shift, dtype):
    """log w + c gives the same sizes for |c| ≤ 700, in float32 too; the shift itself rounds at 760
    eps.
    """
    log_weight = log_weight.astype(dtype)
    shifted = log_weight + dtype(shift)
    np.testing.assert_allclose(sizes(shifted), sizes(log_weight), rtol=2000 * eps(dtype))


@every_dtype
def test_equal_weights_give_n(dtype):
    """n if the weights are equal, whatever they are, and any unequal weights give less."""
    for constant in (0.0, -700.0, 88.0):
        np.testing.assert_allclose(sizes(jnp.full(N, constant, dtype)), N, rtol=8 * eps(dtype))
    for gap in (0.1, -0.1):
        assert (sizes(jnp.zeros(N, dtype).at[3].set(gap)) < N * (1 - 16 * eps(dtype))).all()


@every_dtype
def test_one_heavy_row_gives_one(dtype):
    """1 if one row has all the mass, exactly or to rounding; more as soon as a second row has
    some.
    """
    for rest in (-np.inf, -700.0):
        np.testing.assert_array_equal(
            sizes(jnp.full(N, rest, dtype).at[5].set(0)), np.ones(len(ESS))
        )
    assert (
        sizes(jnp.full(N, -np.inf, dtype).at[5].set(0).at[2].set(-3)) > 1 + 16 * eps(dtype)
    ).all()


@every_dtype
def test_no_support_gives_zero(dtype):
    """0 if no row has positive weight, and a gradient of zero rather than NaN."""
    nothing = jnp.full(N, -jnp.inf, dtype)
    np.testing.assert_array_equal(sizes(nothing), np.zeros(len(ESS)))
    np.testing.assert_array_equal(ess.normalise(nothing), np.zeros(N))
    assert np.isfinite(slopes(nothing)).all()


@pytest.mark.parametrize("m", [1, 3, 7])
def test_equal_weights_on_a_subset(m):
    """m equal weights among zeros are worth m rows by every measure."""
    np.testing.assert_allclose(
        sizes(jnp.full(N, -jnp.inf).at[:m].set(2.5)), m, rtol=8 * eps(np.float64)
    )


def test_definitions():
    """1/Σp², 1/max p, exp of the entropy and the Hill numbers, by numpy; order 2 of Rényi's family
    is Kish's.
    """
    log_weight = np.asarray(rows(0, N)[0])
    p = np.exp(log_weight) / np.exp(log_weight).sum()
    expected = [
        1 / p.max(),
        (p**3).sum() ** (1 / -2),
        1 / (p**2).sum(),
        np.exp(stats.entropy(p)),
        (p**0.5).sum() ** 2,
    ]
    np.testing.assert_allclose(sizes(log_weight), expected, rtol=1e-13)
    np.testing.assert_allclose(ess.renyi(log_weight, 2.0), expected[2], rtol=1e-13)
    np.testing.assert_allclose(ess.normalise(log_weight), p, rtol=1e-13)


def test_float32_is_accurate():
    """float32 equals float64 to rounding, with log weights near ±700."""
    log_weight = np.round(np.asarray(rows(1, N)[0]), 3)
    for shift in (0, 700, -700):
        single = (log_weight + shift).astype(np.float32)
        np.testing.assert_allclose(
            sizes(single), sizes(single.astype(np.float64)), rtol=64 * eps(np.float32)
        )
        assert sizes(single).dtype == np.float32


def test_batching_is_looping():
    """`vmap` over logs equals one call each."""
    batch = np.stack([np.asarray(rows(seed, N)[0]) for seed in range(3)])
    looped = np.stack([sizes(row) for row in batch])
    np.testing.assert_allclose(jax.jit(jax.vmap(sizes))(batch), looped, rtol=64 * eps(np.float64))


def test_gradient():
    """Gradients equal central differences (error of order h²) and sum to zero, by shift invariance;
    finite with p = 0.
    """
    log_weight, h = np.asarray(rows(2, N)[0]), 1e-5
    gradient = slopes(log_weight)
    for i in range(N):
        step = np.eye(N)[i] * h
        difference = (sizes(log_weight + step) - sizes(log_weight - step)) / (2 * h)
        np.testing.assert_allclose(gradient[:, i], difference, rtol=1e-6, atol=1e-8)
    assert np.abs(gradient.sum(axis=1)).max() <= 64 * N * eps(np.float64)
    assert np.isfinite(slopes(np.append(log_weight[1:], -np.inf))).all()


def test_reward_aware():
    """Σpe²/Σp²e²: Kish's for equal e², at least ℓ∞, free of the reward's unit, 0 without residuals
    or support.
    """
    log_weight, residual = rows(3, N)
    size = jax.jit(ess.reward_aware)
    signs = jnp.sign(residual)
    np.testing.assert_allclose(
        size(log_weight, 3 * signs), ess.kish(log_weight), rtol=64 * eps(np.float64)
    )
    np.testing.assert_allclose(
        size(log_weight, -7 * residual), size(log_weight, residual), rtol=64 * eps(np.float64)
    )
    assert size(log_weight, residual) >= ess.max_weight(log_weight)
    assert size(log_weight, jnp.zeros(N)) == 0
    assert size(jnp.full(N, -jnp.inf), residual) == 0

"""The Student quantile against scipy, its gradients by the implicit function theorem, and its
limits.
"""

import jax
import numpy as np
import pytest
from scipy import stats

from mopl_jax.numerics.student import student_quantile

TAILS = np.array([0.4, 0.25, 0.1, 0.05, 0.025, 0.005, 5e-4])
DFS = np.concatenate([np.geomspace(0.05, 1e8, 60), np.array([1.0, 2.0, 39.9, 40.1])])
TAIL, DF = (x.ravel() for x in np.meshgrid(TAILS, DFS))

quantile = jax.jit(student_quantile)


@jax.jit
def slopes(tail, df):
    return jax.vmap(jax.grad(student_quantile, argnums=(0, 1)))(tail, df)


def test_equals_scipy():
    """Relative error below 1e-6 for 0.05 ≤ df ≤ 1e8 and 5e-4 ≤ tail ≤ 0.4 (scipy itself fails
    beyond 1e152).
    """
    np.testing.assert_allclose(quantile(TAIL, DF), stats.t.isf(TAIL, DF), rtol=1e-6)


def test_inverts_the_tail():
    """P(T > t) = tail: the definition, by scipy's survival function."""
    np.testing.assert_allclose(stats.t.sf(np.asarray(quantile(TAIL, DF)), DF), TAIL, rtol=1e-6)


def test_closed_forms():
    """Cauchy for df = 1 and t = (1−2p)·√(2/(4p(1−p))) for df = 2, to 1e-9."""
    np.testing.assert_allclose(quantile(TAILS, np.ones(7)), 1 / np.tan(np.pi * TAILS), rtol=1e-9)
    two = (1 - 2 * TAILS) * np.sqrt(1 / (2 * TAILS * (1 - TAILS)))
    np.testing.assert_allclose(quantile(TAILS, np.full(7, 2.0)), two, rtol=1e-9)


def test_normal_limit():
    """Infinite degrees of freedom give the normal quantile, and so do very many, with no step
    between.
    """
    for df in (np.inf, 1e13, 1e12, 1e11):
        np.testing.assert_allclose(
            quantile(TAILS, np.full(7, df)), stats.norm.isf(TAILS), rtol=1e-9
        )


def test_not_a_number_without_degrees_of_freedom():
    """df ≤ 0 or NaN gives NaN, never a number."""
    assert np.isnan(quantile(np.full(3, 0.025), np.array([0.0, -1.0, np.nan]))).all()


def test_monotone():
    """Decreasing in the tail and in the degrees of freedom."""
    grid = np.asarray(quantile(TAIL, DF)).reshape(len(DFS), len(TAILS))
    assert (np.diff(grid, axis=1) > 0).all()
    assert (np.diff(grid[np.argsort(DFS)], axis=0) < 0).all()


def test_float32():
    """In float32 the error is below 1e-4 where tail ≥ 0.005 and the quantile can be represented;
    float32 comes out.
    """
    keep = (TAIL >= 0.005) & (stats.t.isf(TAIL, DF) < 1e30)
    got = quantile(TAIL[keep].astype(np.float32), DF[keep].astype(np.float32))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, stats.t.isf(TAIL[keep], DF[keep].astype(np.float32)), rtol=1e-4)


@pytest.mark.parametrize("argument", [0, 1], ids=["tail", "df"])
def test_gradient_is_the_finite_difference(argument):
    """Derivatives equal central differences to their error, third derivative included: 1e-5
    relative.
    """
    keep = (DF >= 0.2) & (DF < 1e3)
    at, step = [TAIL[keep], DF[keep]], 1e-4
    sides = [
        [x * (1 + sign * step) if i == argument else x for i, x in enumerate(at)]
        for sign in (1, -1)
    ]
    difference = (stats.t.isf(*sides[0]) - stats.t.isf(*sides[1])) / (2 * step * at[argument])
    np.testing.assert_allclose(slopes(*at)[argument], difference, rtol=1e-5)


def test_gradient_finite_everywhere():
    """No NaN or infinity in any derivative, from df = 0.05 to infinity."""
    df = np.append(DFS, [1e13, np.inf])
    for slope in slopes(np.full(df.size, 0.025), df):
        assert np.isfinite(slope).all()


def test_scalars_broadcast_and_batch():
    """A scalar tail broadcasts over degrees of freedom of any shape, and a batch equals its
    entries.
    """
    df = DFS[:6].reshape(2, 3)
    batch = jax.jit(student_quantile, static_argnums=0)(0.025, df)
    one = jax.jit(jax.vmap(lambda df: student_quantile(0.025, df)))(df.ravel())
    assert batch.shape == (2, 3)
    np.testing.assert_allclose(batch.ravel(), one, rtol=1e-13)
    assert jax.eval_shape(student_quantile, 0.025, 5.0).shape == ()

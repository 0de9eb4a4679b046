"""Row keys: the generator is JAX's threefry, logs are prefixes of longer logs, and draws are
independent.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy import stats
from yardsticks import KEY, standard_errors

from benchmarks import randomness
from mopl_jax.numerics import random

N, D = 40_000, 5


@pytest.fixture(scope="module")
def normals():
    """(stream, row, coordinate) standard normals."""
    return np.asarray(_streams(KEY))


@jax.jit
def _streams(key):
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(2))
    return jax.vmap(lambda k: jax.vmap(lambda row: random.normal(row, D))(random.row_keys(k, N)))(
        keys
    )


def test_bits_are_threefry():
    """The generator equals JAX's threefry2x32 bit for bit, on random keys and counters."""
    rng = np.random.default_rng(0)
    key, counter = rng.integers(0, 2**32, (2, 2, 20), dtype=np.uint32)
    drawn = np.stack(random.threefry2x32(key, counter))
    for i in range(20):
        expected = threefry_2x32(jnp.asarray(key[:, i]), jnp.asarray(counter[:, i]))
        assert (drawn[:, i] == np.asarray(expected)).all()


def test_rows_are_a_prefix():
    """Row i has the same key however many rows there are, and different rows have different
    keys.
    """
    many, few = (np.asarray(jax.random.key_data(random.row_keys(KEY, n))) for n in (64, 7))
    assert (many[:7] == few).all()
    assert len({tuple(row) for row in many}) == 64


def test_keys_split_and_fold_apart():
    """Keys derived from row keys by split and fold_in differ from each other and from the keys of
    other rows.
    """
    parents = random.row_keys(KEY, 4)
    children = [jax.random.split(parent, 3) for parent in parents]
    folded = [jax.random.fold_in(parent, i)[None] for parent in parents for i in range(3, 6)]
    data = np.concatenate(
        [np.asarray(jax.random.key_data(keys)) for keys in [parents, *children, *folded]]
    )
    assert len({tuple(row) for row in data}) == len(data)


@pytest.mark.parametrize("size", [65, 66])
def test_many_numbers_of_a_row_are_those_written_out_one_by_one(size, monkeypatch):
    keys = random.row_keys(KEY, 50)
    for draw in (random.normal, random.uniform):
        found = jax.jit(jax.vmap(lambda key, draw=draw: draw(key, size)))(keys)
        with monkeypatch.context() as patched:
            patched.setattr(random, "WRITTEN_OUT", size)
            written = jax.jit(jax.vmap(lambda key, draw=draw: draw(key, size)))(keys)
        np.testing.assert_array_equal(found, written)


def test_one_more_draw_keeps_the_first():
    """Drawing more numbers from a key does not change the first ones, for an even number of
    normals.
    """
    assert (random.normal(KEY, 2) != random.normal(jax.random.fold_in(KEY, 1), 2)).all()
    row = random.row_keys(KEY, 1)[0]
    np.testing.assert_array_equal(random.normal(row, 4), random.normal(row, 6)[:4])


def test_row_keys_draw_32_bits_only():
    """A row key refuses words of another width instead of giving poor ones."""
    with pytest.raises(ValueError, match="32-bit"):
        jax.random.bits(random.row_keys(KEY, 1)[0], (2,), jnp.uint64)


def test_normal_moments(normals):
    """Means 0, variances 1, skewness 0 and kurtosis 3 of every stream and coordinate, at 4.5
    standard errors (20 tests).
    """
    for power, expected in ((1, 0), (2, 1), (3, 0), (4, 3)):
        assert standard_errors(normals**power, expected, axis=1).max() < 4.5


def test_normal_distribution(normals):
    """Kolmogorov–Smirnov against the normal distribution; each of ten p-values above 1e-4."""
    for sample in normals.transpose(0, 2, 1).reshape(-1, N):
        assert stats.kstest(sample, "norm").pvalue > 1e-4


@pytest.mark.parametrize("power", [1, 2], ids=["values", "squares"])
def test_normals_are_independent(normals, power):
    """No correlation across coordinates, neighbouring rows or streams, nor of squares, at 5
    standard errors.
    """
    x = normals.astype(float) ** power
    x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    columns = x.transpose(0, 2, 1).reshape(-1, N)
    across = columns @ columns.T / N
    lagged = columns[:, 1:] @ columns[:, :-1].T / N
    assert np.abs(across[np.triu_indices(len(columns), 1)]).max() * np.sqrt(N) < 5
    assert np.abs(lagged).max() * np.sqrt(N) < 5


def test_uniform_is_open_and_uniform():
    """Uniforms lie strictly inside (0, 1), also for the extreme words, and pass
    Kolmogorov–Smirnov.
    """
    extreme = random.unit(jnp.array([0, 2**32 - 1], jnp.uint32))
    assert (extreme > 0).all()
    assert (extreme < 1).all()
    assert stats.kstest(np.asarray(random.uniform(KEY, N)), "uniform").pvalue > 1e-4


def test_cosine_and_sine_are_on_the_circle():
    """The polynomial cosine and sine equal numpy's to four float32 roundings, over the whole
    circle.
    """
    word = np.random.default_rng(1).integers(0, 2**32, 10_000, dtype=np.uint32)
    angle = word.view(np.int32).astype(np.float64) * np.pi / 2**31
    cosine, sine = random.cosine_sine(jnp.asarray(word))
    rounding = 4 * np.finfo(np.float32).eps
    np.testing.assert_allclose(cosine, np.cos(angle), rtol=0, atol=rounding)
    np.testing.assert_allclose(sine, np.sin(angle), rtol=0, atol=rounding)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_any_key_will_do(impl):
    """`normal` serves JAX's own keys too: mean 0 and variance 1 at 4 standard errors, and no two
    keys alike.
    """
    keys = jax.random.split(jax.random.key(0, impl=impl), 2000)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: random.normal(key, 3)))(keys))
    assert drawn.shape == (2000, 3)
    assert standard_errors(drawn, 0).max() < 4
    assert standard_errors(drawn**2, 1).max() < 4
    assert len(np.unique(drawn, axis=0)) == 2000


def test_largest_normal_is_bounded():
    """|z| ≤ √(−2 log 2⁻³³) = 6.76: Box–Muller from 32-bit words."""
    word = jnp.array([0, 0], jnp.uint32)
    z = np.abs(np.stack(random.box_muller((word, jnp.array([0, 2**31], jnp.uint32)))))
    assert z.max() == pytest.approx(
        np.sqrt(66 * np.log(2)), rel=4 * float(np.finfo(np.float32).eps)
    )


@pytest.mark.nightly
def test_ten_million_draws_are_independent_normals():
    """Bits, six moments, distribution and correlations along rows, within rows and across
    replicates; 1 % limits, Bonferroni.

    `benchmarks/randomness.py` does the same at 10⁸.
    """
    found = randomness.measure(16)
    scores = [row["z"] for row in found["moments"]] + [
        row["z"] for row in found["correlations"].values()
    ]
    assert randomness.bits_differ(10**6) == 0
    assert np.abs(scores).max() < stats.norm.isf(0.005 / len(scores))
    assert found["ks"] < found["ks_critical_1_percent"]
    assert found["chi2_p_value"] > 0.001

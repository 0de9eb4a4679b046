"""Random numbers for the rows of a log: one counter-based key a row, normals by Box–Muller.

`row_keys(key, n)` gives `n` keys that share two key words and differ in a counter word, so that
making them is free and the first `m` of them are `row_keys(key, m)`: a log at a small sample
size is the prefix of the log at a larger one. The generator is threefry2x32 (Salmon et al.,
SC'11), the one in JAX, written out so that the compiler can vectorise it. Draws have float32
resolution in every dtype; the same key therefore gives the same log in float32 and in float64.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import define_prng_impl
from jaxtyping import Array, Float, Key, UInt32

from mopl_jax.numerics.shapes import Floats, OneKey

WRITTEN_OUT = 64  # numbers of a row, one by one: of more, compilers take minutes
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_FOLD = np.uint32(0x9E3779B9)  # key tweak that keeps derived keys apart from drawn bits
_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))
# Taylor series of sin πx and cos πx on [-1/2, 1/2]: the first term left out is below 6e-8, the
# rounding of float32.
_SIN = tuple((-1) ** k * math.pi ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(6))
_COS = tuple((-1) ** k * math.pi ** (2 * k) / math.factorial(2 * k) for k in range(7))


def threefry2x32(key: Any, counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Twenty rounds of threefry2x32 on two words of `counter`, elementwise.

    Bit-identical to JAX's own.
    """
    x, y = counter
    words = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x, y = x + words[0], y + words[1]
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            x = x + y
            y = x ^ ((y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation)))
        x, y = x + words[(i + 1) % 3], y + words[(i + 2) % 3] + np.uint32(i + 1)
    return x, y


def _row_bits(key, bit_width, shape):
    """Random words of one row, from the counters (block, row).

    Every block of few is written out, so that rows vectorise under `vmap`.
    """
    if bit_width != 32:
        raise ValueError(f"row keys draw 32-bit words, got a request for {bit_width} bits")
    size = math.prod(shape)
    if size > WRITTEN_OUT:
        block = jnp.arange((size + 1) // 2, dtype=jnp.uint32)
        words = threefry2x32(key[:2], (block, jnp.broadcast_to(key[2], block.shape)))
        return jnp.stack(words, axis=1).ravel()[:size].reshape(shape)
    blocks = [
        threefry2x32(key[:2], (jnp.uint32(block), key[2])) for block in range((size + 1) // 2)
    ]
    words = [word for block in blocks for word in block][:size]
    return jnp.stack(words).reshape(shape) if words else jnp.zeros(shape, jnp.uint32)


def _fold_in(key, data):
    derived = threefry2x32((key[0] ^ _FOLD, key[1]), (jnp.asarray(data, jnp.uint32), key[2]))
    return jnp.stack([*derived, jnp.uint32(0)])


def _split(key, shape):
    index = jnp.arange(math.prod(shape), dtype=jnp.uint32)
    return jax.vmap(lambda i: _fold_in(key, i))(index).reshape(*shape, 3)


def _seed(seed):
    words = jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))
    return jnp.append(words, jnp.uint32(0))


_ROWS = define_prng_impl(
    key_shape=(3,),
    seed=_seed,
    split=_split,
    random_bits=_row_bits,
    fold_in=_fold_in,
    name="threefry_rows",
    tag="rows",
)


def row_keys(key: OneKey, n: int) -> Key[Array, " n"]:
    """One key for each of `n` rows; row `i` has the same key whatever `n` is."""
    words = jax.random.bits(key, (2,), jnp.uint32)
    counter = jnp.arange(n, dtype=jnp.uint32)
    data = jnp.stack(
        [jnp.full_like(counter, words[0]), jnp.full_like(counter, words[1]), counter], axis=1
    )
    return jax.random.wrap_key_data(data, impl=_ROWS)


def unit(word: UInt32[Array, "..."]) -> Floats:
    """A uniform number on the open interval (0, 1) from a random `word`.

    As fine as float32 allows near 0, where the tails of a draw are decided.
    """
    return jnp.minimum(
        word.astype(jnp.float32) * np.float32(2**-32) + np.float32(2**-33), _BELOW_ONE
    )


def cosine_sine(word: UInt32[Array, "..."]) -> tuple[Floats, Floats]:
    """Cosine and sine of a uniform angle, without range reduction."""
    half_turns = lax.bitcast_convert_type(word, jnp.int32).astype(jnp.float32) * np.float32(2**-31)
    folded = jnp.abs(half_turns) - 0.5
    square = folded * folded
    sine = folded * _horner(_SIN, square)
    return -sine, jnp.where(half_turns < 0, -1, 1) * _horner(_COS, square)


def _horner(coefficients, x):
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + np.float32(coefficient)
    return total


def box_muller(words: Any) -> tuple[Array, Array]:
    """Two independent standard normals from two uniform words (Box & Muller 1958); |z| ≤ 6.8."""
    radius = jnp.sqrt(-2 * jnp.log(unit(words[0])))
    cosine, sine = cosine_sine(words[1])
    return radius * cosine, radius * sine


def normal(key: OneKey, size: int) -> Float[Array, " size"]:
    """`size` standard normals from one key of any kind."""
    pairs = (size + 1) // 2
    words = jax.random.bits(key, (2 * pairs,), jnp.uint32)
    if size > WRITTEN_OUT:
        return jnp.stack(box_muller((words[::2], words[1::2])), axis=1).ravel()[:size]
    drawn = [z for pair in range(pairs) for z in box_muller((words[2 * pair], words[2 * pair + 1]))]
    return jnp.stack(drawn[:size])


def uniform(key: OneKey, size: int) -> Float[Array, " size"]:
    """`size` uniforms on (0, 1) from one key of any kind."""
    return unit(jax.random.bits(key, (size,), jnp.uint32))

"""Can the normals of a sweep be drawn faster on a CPU? Other generators, other ways from words to
normals, wider vectors: side by side with the present way, the tail of each, and the sweep.

Six normals a row, five for an action and one for a reward, over all devices, in turns; times as
fast are medians of ratios within a round. The tail is how many of some ten million normals lie
beyond the two-sided 10⁻⁴ and 10⁻⁶ of the normal distribution, with the exact binomial p-value. The
sweep is the reference cell of `speed`, with the compiler's own width of vectors and with wide ones.
"""

import functools
import math
import statistics
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import stats

from benchmarks import _by_hand, _one_cell, _study, roofline
from mopl_jax.coverage import engine
from mopl_jax.numerics import devices, random
from mopl_jax.numerics.quick_jit import WIDE, has_wide

SIZES = {"rounds": 15, "samples": 8, "replicates": 1024}
QUICK = {"rounds": 1, "samples": 1, "replicates": 64}
D = 5  # weights of an action
LEVELS = (1e-4, 1e-6)
# Giles, "Approximating the erfinv function" (GPU Computing Gems 2, 2010), single precision.
CENTRE = (
    *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087),
    *(-0.00125372503, -0.00417768164, 0.246640727, 1.50140941),
)
TAIL = (
    *(-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773),
    *(-0.0076224613, 0.00943887047, 1.00167406, 2.83297682),
)


def present(key, n):
    """As the engine draws: Box–Muller from threefry, five normals by one key and one by another."""
    rows = [random.row_keys(jax.random.fold_in(key, k), n) for k in (0, 1)]
    action = jax.vmap(lambda row: random.normal(row, D), out_axes=1)(rows[0])
    return action, jax.vmap(lambda row: random.normal(row, 1)[0])(rows[1])


def blocks(count, rounds, key, n):
    """Pairs of words by counters, of threefry with some number of rounds."""
    counter, words = jnp.arange(n, dtype=jnp.uint32), jax.random.key_data(key)
    made = threefry if rounds < 20 else random.threefry2x32
    return [made(words, (jnp.full(n, k, jnp.uint32), counter)) for k in range(count)]


def threefry(key, counter):
    """Thirteen rounds, the fewest that pass BigCrush (Salmon et al., SC'11)."""
    x, y = counter
    words = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x, y = x + words[0], y + words[1]
    for i, rotation in enumerate((13, 15, 26, 6, 17, 29, 16, 24, 13, 15, 26, 6, 17)):
        x = x + y
        y = x ^ ((y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation)))
        if i % 4 == 3:
            k = i // 4 + 1
            x, y = x + words[k % 3], y + words[(k + 1) % 3] + np.uint32(k)
    return x, y


def pairs(words):
    """Box–Muller of each pair: five normals for the action, the sixth for the reward."""
    return _six([z for pair in words for z in random.box_muller(pair)])


def packed(words):
    """Both normals of a pair kept together as one complex number until all are there."""
    both = lax.optimization_barrier([lax.complex(*random.box_muller(pair)) for pair in words])
    return _six([z for each in both for z in (each.real, each.imag)])


def inverses(inverse, words):
    """A normal from each word."""
    return _six([inverse(word) for pair in words for word in pair])


def giles(word):
    """The inverse normal by two polynomials, as fine in both tails as 2⁻³²."""
    p = random.unit(word << np.uint32(1))  # two-sided
    w = -jnp.log(p * (2 - p))
    centre = _polynomial(CENTRE, w - np.float32(2.5))
    size = jnp.where(w < 5, centre, _polynomial(TAIL, jnp.sqrt(w) - 3)) * (1 - p)
    return jnp.where(word >> np.uint32(31) == 0, 1, -1) * size * np.float32(math.sqrt(2))


def erf_inv(word):
    """By XLA's inverse error function, whose last argument below 1 is 1 − 2⁻²⁴: |z| ≤ 5.4."""
    x = lax.bitcast_convert_type(word, jnp.int32).astype(jnp.float32) * np.float32(2**-31)
    limit = np.nextafter(np.float32(1), np.float32(0))
    return lax.erf_inv(jnp.clip(x, -limit, limit)) * np.float32(math.sqrt(2))


def halves(words):
    """A pair of normals from the two halves of each word: no normal is beyond √(34 ln 2) = 4.85."""
    words = [word for pair in words for word in pair][:3]
    uniforms = [(x >> np.uint32(16)).astype(jnp.float32) for x in words]
    radii = [jnp.sqrt(-2 * jnp.log((u + 0.5) * np.float32(2**-16))) for u in uniforms]
    turns = [random.cosine_sine(word << np.uint32(16)) for word in words]
    return _six([r * x for r, turn in zip(radii, turns, strict=True) for x in turn])


def other(impl, key, n):
    """Box–Muller from the words of another of JAX's generators."""
    words = jnp.tile(jax.random.key_data(key), 2)
    bits = jax.random.bits(jax.random.wrap_key_data(words, impl=impl), (6, n), jnp.uint32)
    return pairs([(bits[k], bits[k + 1]) for k in (0, 2, 4)])


def jax_normal(partitionable, key, n):
    """`jax.random.normal`."""
    with jax.threefry_partitionable(partitionable):
        return _six(jax.random.normal(key, (D + 1, n)))


def _polynomial(coefficients, x):
    return functools.reduce(lambda total, c: total * x + np.float32(c), coefficients[1:],
                            jnp.full_like(x, coefficients[0]))  # fmt: skip


def _six(normals):
    return jnp.stack(list(normals[:D])), normals[D]


def _of(way, count=3, rounds=20):
    return lambda key, n: way(blocks(count, rounds, key, n))


WAYS: dict[str, Callable] = {
    "present": present,
    "reward from the spare normal": _of(pairs),
    "both normals of a pair as one complex number": _of(packed),
    "threefry of 13 rounds": _of(pairs, rounds=13),
    "inverse normal, Giles": _of(functools.partial(inverses, giles)),
    "inverse normal, erf_inv": _of(functools.partial(inverses, erf_inv)),
    "16 + 16 bits": _of(halves, count=2),
    "rbg": functools.partial(other, "rbg"),
    "unsafe_rbg": functools.partial(other, "unsafe_rbg"),
    "jax.random.normal": functools.partial(jax_normal, True),
    "jax.random.normal, not partitionable": functools.partial(jax_normal, False),
}


def ways(options, mesh) -> list[dict]:
    """Each way with the compiler's width of vectors and with wide ones."""
    widths = {"as compiled": {}} | ({"wide": WIDE} if has_wide() else {})
    cells = {(name, width): roofline.prepared(way, mesh, **widths[width])
             for name, way in WAYS.items() for width in widths}  # fmt: skip
    took: dict[tuple, list] = {cell: [] for cell in cells}
    for _ in range(options.rounds):
        for cell, task in cells.items():
            took[cell].append(roofline.seconds(*task))
    together, n = roofline.shape("cpu")
    rows = together * n * mesh.size
    return [
        {
            "way": name,
            "vectors": width,
            "ns_a_row": 1e9 * statistics.median(took[name, width]) / rows,
            "times_as_fast": _ratio(took["present", "as compiled"], took[name, width]),
        }
        | (_tails(*task, options.samples) if width == "as compiled" else dict.fromkeys(TESTED))
        for (name, width), task in cells.items()
    ]


def _ratio(slow, fast):
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


TESTED = ("largest", *(f"{kind}_{level:.0e}" for level in LEVELS for kind in ("beyond", "p")))


def _tails(task, keys, samples) -> dict[str, Any]:
    counts, largest, total = np.zeros(len(LEVELS), int), 0.0, 0
    fold = jax.jit(jax.vmap(jax.random.fold_in, in_axes=(0, None)))
    for k in range(samples):
        for normals in task(fold(keys, k)):
            z = np.abs(np.asarray(normals))
            counts += [int((z > stats.norm.isf(level / 2)).sum()) for level in LEVELS]
            largest, total = max(largest, float(z.max())), total + z.size
    found = {"largest": largest}
    for level, count in zip(LEVELS, counts, strict=True):
        found[f"beyond_{level:.0e}"] = int(count)
        found[f"p_{level:.0e}"] = float(stats.binomtest(int(count), total, level).pvalue)
    return found


# The sweep.


def sweep(options, mesh) -> list[dict]:
    """The reference cell with both widths, and whether a single bit differs."""
    static = {"draw_batch": ("n", "mesh"), "reward_batch": ("mesh",)}
    narrow = {
        name: jax.jit(getattr(engine, name).__wrapped__, static_argnames=names)
        for name, names in static.items()
    }
    took: dict[str, list] = {"as compiled": [], "wide": []}
    for seed in range(options.rounds + 1):
        for width, functions in (("as compiled", narrow), ("wide", {})):
            with mock.patch.dict(vars(engine), functions):
                took[width].append(_one_cell.seconds(_one_cell.mopl, options.replicates, seed)[0])
                bits = engine.draw_batch(_keys(mesh), _one_cell.world().logging, 4096, mesh)
            took.setdefault(f"bits {width}", []).append(np.asarray(bits))
    differ = int(np.sum(took.pop("bits as compiled")[0] != took.pop("bits wide")[0]))
    rows = options.replicates * _by_hand.SIZES[-1]
    return [
        {
            "way": "the sweep",
            "vectors": width,
            "ns_a_row": 1e9 * statistics.median(seconds[1:]) / rows,
            "times_as_fast": _ratio(took["as compiled"][1:], seconds[1:]),
        }
        | dict.fromkeys(TESTED)
        | {"bits_differ": differ}
        for width, seconds in took.items()
    ]


def _keys(mesh):
    return engine.batch_keys(jax.random.key(1), 0, 32 * mesh.size, mesh)


def run(options) -> _study.Rows:
    """A row for each way and width."""
    mesh = devices.start()
    of_sweep = sweep(options, mesh)
    differ = [row.pop("bits_differ") for row in of_sweep][0]
    rows = [*ways(options, mesh), *of_sweep]
    return _study.Rows(rows, bits_differ=differ, has_avx512=has_wide())


def table(rows: _study.Rows) -> str:
    """The ways, and whether wide vectors change a bit."""
    differ, wide = rows.about["bits_differ"], "yes" if rows.about["has_avx512"] else "no"
    return (
        f"{_study.plain(rows)}\n\nNanoseconds are of all devices together. {differ} of the engine's"
        f" numbers differ between widths of vectors; AVX-512: {wide}."
    )

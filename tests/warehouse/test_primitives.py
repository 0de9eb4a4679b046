"""Each primitive of JAX, computed by DuckDB, has numpy's numbers: small, large and negative."""

import jax.numpy as jnp
import numpy as np
import pytest
from engines import engine
from jax import lax
from scipy import special

from mopl_jax.warehouse.primitives import RULES
from mopl_jax.warehouse.queries import Queries, nearest
from mopl_jax.warehouse.traced import ROWS, Column, run

SIZES = [1e-300, 3e-17, 1e-9, 4e-4, 0.3, 0.5, 0.7, 1.0, 2.5, 30.0, 700.0, 1e10, 1e300]
NUMBERS = np.array([0.0, *SIZES, *np.negative(SIZES), np.inf, -np.inf])
POSITIVE = NUMBERS[NUMBERS >= 0]
MORE_THAN_MINUS_ONE = NUMBERS[NUMBERS >= -1]
TWICE = np.array([(x, y) for x in (-2.5, -0.3, 0.0, 0.7, 30.0) for y in (-1.0, 0.0, 0.7, 2.0)])
ONE = {  # the primitive, numpy's, and where it is asked
    "neg": (lax.neg, np.negative, NUMBERS),
    "abs": (lax.abs, np.abs, NUMBERS),
    "sign": (lax.sign, np.sign, NUMBERS),
    "exp": (lax.exp, np.exp, NUMBERS[NUMBERS < 1e10]),
    "expm1": (lax.expm1, np.expm1, NUMBERS[NUMBERS < 1e10]),
    "log": (lax.log, np.log, POSITIVE),
    "log1p": (lax.log1p, special.log1p, MORE_THAN_MINUS_ONE),
    "sqrt": (lax.sqrt, np.sqrt, POSITIVE),
    "floor": (lax.floor, np.floor, NUMBERS),
    "square": (lax.square, np.square, NUMBERS[np.abs(NUMBERS) < 1e100]),
    "integer_pow": (lambda x: lax.integer_pow(x, -3), lambda x: x**-3.0, TWICE[5:, 0] + 0.1),
    "is_finite": (lax.is_finite, np.isfinite, NUMBERS),
}
TWO = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
    **{"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal},
    **{"gt": np.greater, "ge": np.greater_equal},
}
ABSOLUTE = {"log1p": 2.3e-16}  # as its rule says; of others the last digits count


def by_engine(function, *columns):
    """`function` of one row whose entries are the columns; each is then the sum over the row."""
    names = [[f"x{i}_{k}" for k in range(len(x))] for i, x in enumerate(columns)]
    table = engine(
        {
            name: [float(value)]
            for each, x in zip(names, columns, strict=True)
            for name, value in zip(each, x, strict=True)
        }
    )

    def summed(rows):
        return jnp.sum(jnp.asarray(function(*rows), jnp.float64), axis=0)

    asked = [Column(tuple(each)) for each in names]
    return np.asarray(run(summed, asked, (), Queries(table, "log"), {ROWS: 1}))


@pytest.mark.parametrize("name", ONE)
def test_of_one_number(name):
    primitive, numpys, asked = ONE[name]
    with np.errstate(all="ignore"):
        expected = numpys(asked).astype(float)
    found = by_engine(primitive, asked)
    np.testing.assert_allclose(found, expected, rtol=4e-16, atol=ABSOLUTE.get(name, 0))


@pytest.mark.parametrize("name", TWO)
def test_of_two_numbers(name):
    left, right = TWICE.T
    if name == "pow":
        left = np.abs(left) + 0.1
    with np.errstate(all="ignore"):
        expected = TWO[name](left, right).astype(float)
    found = by_engine(getattr(lax, name), left, right)
    np.testing.assert_allclose(found, expected, rtol=4e-16)


def test_of_truth_values():
    for name, numpys in (("and", np.logical_and), ("or", np.logical_or)):
        word = getattr(lax, f"bitwise_{name}")
        found = by_engine(lambda x, y, word=word: word(x > 0, y > 0.5), *TWICE.T)
        np.testing.assert_array_equal(found, numpys(TWICE[:, 0] > 0, TWICE[:, 1] > 0.5))
    np.testing.assert_array_equal(
        by_engine(lambda x: lax.bitwise_not(x > 0), TWICE[:, 0]), TWICE[:, 0] <= 0
    )
    chosen = by_engine(lambda x, y: lax.select(x > y, x, y), *TWICE.T)
    np.testing.assert_array_equal(chosen, TWICE.max(axis=1))


def test_entries_are_added_compared_and_multiplied():
    row = TWICE[:, 0]
    for numpys in (jnp.sum, jnp.max, jnp.min):
        found = by_engine(lambda x, numpys=numpys: numpys(x, axis=1), row)
        assert found == pytest.approx(float(numpys(jnp.asarray(row))), rel=4e-16)
    matrix = np.arange(2.0 * len(row)).reshape(len(row), 2)
    found = by_engine(lambda x: x @ jnp.asarray(matrix), row)
    np.testing.assert_allclose(found, row @ matrix, rtol=4e-16)


def test_the_nearest_whole_numbers_are_those_of_floats():
    """An engine's whole numbers end long before its floats."""
    table = engine({"x": NUMBERS})
    found = Queries(table, "log").arrow(table.select(x=nearest(table.x)))
    np.testing.assert_array_equal(found["x"].to_numpy(), np.floor(NUMBERS + 0.5))


def test_every_rule_of_an_entry_is_compared():
    """Whole logs in an engine try those of shapes, groups and sums over rows."""
    shapes = "broadcast_in_dim reshape squeeze expand_dims transpose slice pad concatenate stack"
    rows = "gather reduce_sum reduce_max reduce_min reduce_and reduce_or dot_general top_k"
    kept = "convert_element_type stop_gradient copy select_n and or not scatter-add"
    assert {*RULES} == {*ONE, *TWO, *shapes.split(), *rows.split(), *kept.split()}

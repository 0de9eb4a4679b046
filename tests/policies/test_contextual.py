"""Policies that depend on the context: levels, codes, one policy for each row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from yardsticks import KEY

from mopl_jax.io.policy_json import parse, read_policy, write_policy
from mopl_jax.policies import Dirichlet, Gaussian, Segmented, log_normal
from mopl_jax.policies.context_normal import ContextNormal, input_of
from mopl_jax.policies.contextual import Levels, level, log_densities

HERE = Gaussian.diagonal([1.0, 0.0], 0.5)
THERE = Gaussian.diagonal([-1.0, 0.0], 0.5)
OTHERWISE = Gaussian.diagonal([0.0, 2.0], 0.5)
TWO = Segmented.of(("country", "tier"), [("DE", 1), ("FR", None)], [HERE, THERE], OTHERWISE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("DE", "DE"),
        (3, "3"),
        (3.0, "3"),
        (0.5, "0.5"),
        (True, "true"),
        ("", None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_a_value_is_the_same_level_however_it_is_stored(value, expected):
    assert level(value) == expected


def test_rows_have_the_code_of_their_segment_and_unknown_values_are_named():
    country = Levels(("DE", "FR", "US"), np.array([0, 0, 1, 1, 2]))
    tier = Levels(("1", None), np.array([0, 1, 1, 0, 0]))
    codes, unknown = TWO.encode([country, tier])
    assert codes.tolist() == [0, 2, 1, 2, 2]
    assert set(unknown) == {("DE", None), ("FR", "1"), ("US", "1")}


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"country": "DE", "tier": 1}, HERE),
        ({"country": "DE", "tier": "1"}, HERE),
        ({"country": "FR"}, THERE),
        ({"country": "FR", "tier": float("nan")}, THERE),
        ({}, OTHERWISE),
        ({"country": "US", "tier": 1}, OTHERWISE),
    ],
)
def test_a_request_has_the_policy_of_its_segment(context, expected):
    jax.tree.map(np.testing.assert_array_equal, TWO.at(**context), expected)


def test_densities_are_those_of_each_rows_policy():
    codes = np.array([0, 1, 2, 1])
    action = jax.random.normal(KEY, (4, 2))
    each = [[HERE, THERE, OTHERWISE][k].log_density(a) for k, a in zip(codes, action, strict=True)]
    np.testing.assert_allclose(log_densities(TWO, action, codes), jnp.stack(each), rtol=1e-14)


@pytest.mark.parametrize(
    "policies",
    [
        [log_normal(np.array(x), 0.3) for x in ([0.0, 1.0], [1.0, 1.0])],
        [Dirichlet(jnp.array([1.0, 2.0])), Dirichlet(jnp.array([3.0, 2.0]))],
    ],
    ids=["log_normal", "dirichlet"],
)
def test_policies_of_every_kind_may_depend_on_the_context(tmp_path, policies):
    made = Segmented.of(("country",), [(None,)], policies[:1], policies[1])
    path = write_policy(tmp_path / "policy.json", made, objectives=["a", "b"])
    read, _ = read_policy(path)
    assert (read.columns, read.levels) == (("country",), ((None,),))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-14), read, made)
    moved, _ = read_policy(path, ["b", "a"])
    action = jnp.array([0.3, 0.7])
    for context in ({}, {"country": "x"}):
        np.testing.assert_allclose(
            moved.at(**context).log_density(action[::-1]),
            made.at(**context).log_density(action),
            rtol=1e-14,
        )


AGE = np.array([20.0, 30.0, np.nan, 50.0])
PLACE = Levels(("DE", None), np.array([0, 1, 0, 1]))


@pytest.mark.parametrize("logarithms", [False, True])
def test_a_mean_may_be_a_function_of_the_context(tmp_path, logarithms):
    """Its value is that of the layers by hand; ends, unknown values and the document hold."""
    rng = np.random.default_rng(0)
    shapes = (3, 4), (2, 3)
    first, last = ((rng.normal(size=shape), rng.normal(size=shape[0])) for shape in shapes)
    layers = tuple(tuple(map(jnp.asarray, layer)) for layer in (first, last))
    low, high, scale = jnp.full(2, -0.9), jnp.full(2, 0.9), jnp.array([[0.5, 0.0], [0.2, 0.4]])
    inputs = input_of("age", AGE), input_of("place", PLACE)
    made = ContextNormal(inputs, layers, low, high, scale, jnp.zeros(2), logarithms)
    path = write_policy(tmp_path / "policy.json", made, objectives=["a", "b"])
    read, moved = read_policy(path)[0], read_policy(path, ["b", "a"])[0]
    assert read.inputs == made.inputs
    known = AGE[[0, 1, 3]]
    for place, age in (("DE", 20.0), (None, 90.0), ("DE", None), ("US", 20.0)):
        x = [0.0, 1.0] if age is None else [(min(age, 50) - known.mean()) / known.std(), 0.0]
        x += [place == "DE", place is None]
        mean = last[0] @ np.tanh(first[0] @ x + first[1]) + last[1]
        mean = np.zeros(2) if place == "US" else np.clip(mean, -0.9, 0.9)
        action = jnp.array([0.3, 0.7])
        expected = Gaussian(jnp.asarray(mean), scale)
        expected = expected.log_density(jnp.log(action) if logarithms else action)
        expected = float(expected) - np.log(action).sum() * logarithms
        for policy, weights in ((made, action), (read, action), (moved, action[::-1])):
            density = policy.at(age=age, place=place).log_density(weights)
            np.testing.assert_allclose(density, expected, rtol=1e-10)


def test_it_has_no_weights_without_a_row():
    with pytest.raises(ValueError, match=r"depend on country, tier: .* policy.at\(country=…, tier"):
        TWO.log_density(jnp.zeros(2))
    with pytest.raises(ValueError, match="expected values of country, tier, got 'age'"):
        TWO.at(age=3)


NORMAL = {"kind": "normal", "mean": [0.0], "scale": 1.0}
ONE = {"values": ["DE"], "policy": NORMAL}
GOOD = {
    "mopl_policy": 1,
    "kind": "segmented",
    "context": ["country"],
    "segments": [ONE],
    "otherwise": NORMAL,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": []}, "key 'context': expected a list of at least 1"),
        ({"segments": [ONE, ONE]}, "segment DE: expected it once, got it twice"),
        ({"segments": [ONE | {"values": []}]}, "expected a value of each of country, got 0"),
        ({"segments": [ONE | {"values": [["DE"]]}]}, "key 'values', entry 1: expected"),
        ({"segments": [ONE | {"policy": NORMAL | {"mean": [0.0, 1.0]}}]}, "segment 1: key 'mean'"),
        ({"otherwise": {"kind": "deterministic", "action": [1.0]}}, "otherwise: expected a policy"),
        ({"otherwise": GOOD}, "unknown kind of policy: 'segmented'"),
        (
            {"otherwise": {"kind": "uniform", "low": [0.0], "high": [1.0]}},
            "segment DE: expected a policy of the kind and shape of 'otherwise'",
        ),
    ],
)
def test_bad_documents_are_refused_in_one_line(change, message):
    parse(GOOD)
    with pytest.raises(ValueError, match=message) as error:
        parse(GOOD | change)
    assert "\n" not in str(error.value)

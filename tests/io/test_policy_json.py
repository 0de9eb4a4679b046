"""Policy documents: what is read is what was written, and a document that is not a policy is
refused in one line.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import POLICIES, sample_rows
from yardsticks import KEY

from mopl_jax.io.policy_json import VERSION, document, parse, read_policy, write_policy
from mopl_jax.policies import Deterministic, Gaussian, Mixture

WRITTEN = POLICIES | {
    "mixed_kinds": Mixture.of([1.0, 3.0], [POLICIES["diagonal"], POLICIES["uniform"]]),
    "deterministic": Deterministic(jnp.array([0.1, 0.2, 0.3])),
}
NORMAL = {"mopl_policy": VERSION, "kind": "normal", "mean": [0.0, 1.0], "scale": [1.0, 2.0]}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_read_is_what_was_written(tmp_path, name):
    """Every leaf to rounding; the document keeps what is said about it; no temporary file stays."""
    policy = WRITTEN[name]
    read, content = read_policy(
        write_policy(tmp_path / "policy.json", policy, objectives=["a", "b", "c"], value=0.5)
    )
    assert jax.tree.structure(read) == jax.tree.structure(policy)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-14, atol=1e-15), read, policy
    )
    assert (content["value"], content["objectives"]) == (0.5, ["a", "b", "c"])
    assert not list(tmp_path.glob(".*"))


def test_densities_survive(tmp_path):
    """A mixture's density is the weighted sum of its components', read back or not."""
    policy = WRITTEN["mixed_kinds"]
    action = sample_rows(KEY, policy.components[0], 50)
    read, _ = read_policy(write_policy(tmp_path / "policy.json", policy))
    expected = 0.25 * jnp.exp(jax.vmap(policy.components[0].log_density)(action))
    expected += 0.75 * jnp.exp(jax.vmap(policy.components[1].log_density)(action))
    np.testing.assert_allclose(jnp.exp(jax.vmap(read.log_density)(action)), expected, rtol=1e-12)


def test_what_is_not_finite_is_null_and_arrays_are_lists():
    made = document(
        POLICIES["diagonal"], ends=(jnp.array(-jnp.inf), np.float32(2)), nested={"x": np.arange(2)}
    )
    assert (made["ends"], made["nested"]) == ([None, 2.0], {"x": [0, 1]})
    json.dumps(made, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mopl_policy": 0}, "expected policy format 1, got 0; write it again"),
        ({"mopl_policy": None}, "expected policy format 1, got None"),
        ({"kind": "norml"}, "unknown kind of policy: 'norml'; did you mean 'normal'?"),
        ({"kind": ["normal"]}, "unknown kind of policy"),
        ({"kind": "uniform"}, "no key 'low'; keys: mopl_policy, kind, mean, scale"),
        ({"mean": "0, 1"}, "key 'mean': expected numbers, got \"0, 1\""),
        ({"mean": []}, "key 'mean': expected"),
        ({"mean": [[0.0, 1.0]]}, r"key 'mean': expected d numbers, got shape \(1, 2\)"),
        ({"mean": [0.0, None]}, "key 'mean': expected numbers"),
        ({"mean": [0.0, float("nan")]}, "key 'mean': expected finite numbers"),
        ({"mean": [[0.0], 1.0]}, "key 'mean': expected numbers"),
        ({"scale": [1.0]}, r"key 'scale': expected 2 numbers, got shape \(1,\)"),
        ({"scale": [1.0, 0.0]}, "key 'scale': expected numbers > 0, got 0.0"),
        ({"scale": [1.0, -1.0]}, "key 'scale': expected numbers > 0, got -1.0"),
        ({"covariance": [[1.0, 0.0], [0.0, 1.0]]}, "one of the keys 'covariance' and 'scale'"),
        ({"scale": None}, "key 'scale': expected numbers"),
        ({"objectives": ["a"]}, "key 'objectives': expected 2 different names"),
        ({"objectives": ["a", "a"]}, "key 'objectives': expected 2 different names"),
        ({"objectives": "ab"}, "key 'objectives': expected a list of names"),
        ({"kind": "deterministic"}, "no key 'action'"),
        (
            {"kind": "uniform", "low": [0, 0], "high": [1, 0]},
            "expected low < high, got 0.0 and 0.0 in entry 2",
        ),
        (
            {"kind": "mixture", "weights": [1], "components": []},
            "key 'components': expected a list of policies",
        ),
        (
            {"kind": "mixture", "weights": [1], "components": [3]},
            "component 1: expected a policy, got 3",
        ),
        (
            {"kind": "mixture", "weights": [1], "components": [{"kind": "x"}]},
            "component 1: unknown kind of policy",
        ),
        (
            {"kind": "mixture", "weights": [0], "components": [NORMAL]},
            "key 'weights': expected numbers > 0",
        ),
        (
            {
                "kind": "mixture",
                "weights": [1, 1],
                "components": [NORMAL, NORMAL | {"mean": [0], "scale": 1}],
            },
            r"expected policies of one dimension, got \[1, 2\]",
        ),
        (
            {
                "kind": "mixture",
                "weights": [1],
                "components": [{"kind": "deterministic", "action": [1]}],
            },
            "component 1: expected a policy with a density",
        ),
    ],
)
def test_bad_documents_are_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(NORMAL | change))
    with pytest.raises(ValueError, match=message) as error:
        read_policy(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], "positive definite matrix, got smallest eigenvalue -1"),
        ([[1.0, 0.5], [0.0, 1.0]], "symmetric matrix, got entries that differ by 0.5"),
        ([1.0, 1.0], r"expected 2 × 2 numbers, got shape \(2,\)"),
    ],
)
def test_bad_covariances_are_refused(covariance, message):
    content = {
        "mopl_policy": VERSION,
        "kind": "normal",
        "mean": [0.0, 1.0],
        "covariance": covariance,
    }
    with pytest.raises(ValueError, match=message):
        parse(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "expected a policy in JSON"),
        (b"{", "expected a policy in JSON"),
        (b"\xff\xfe", "expected a policy in JSON"),
        (b"[" * 100_000, "expected a policy in JSON"),
        (b"[1]", "no key 'mopl_policy'"),
        (b'{"kind": "normal"}', "no key 'mopl_policy'"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "policy.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_policy(path)
    assert "\n" not in str(error.value)


def test_what_cannot_be_written_is_refused_and_leaves_the_old_file(tmp_path):
    path = write_policy(tmp_path / "policy.json", POLICIES["diagonal"])
    before = path.read_text()
    with pytest.raises(ValueError, match="got 'mean', which the format uses"):
        write_policy(path, POLICIES["diagonal"], mean=3)
    with pytest.raises(ValueError, match="finite numbers"):
        write_policy(path, Gaussian.diagonal([jnp.nan], 1.0))
    with pytest.raises(ValueError, match="expected a policy with a JSON form"):
        write_policy(path, object())  # pyright: ignore[reportArgumentType]
    assert path.read_text() == before


def test_a_deterministic_policy_has_no_density():
    with pytest.raises(ValueError, match="smooth it"):
        Deterministic(jnp.zeros(2)).log_density(jnp.zeros(2))


# Beside a log: weights are matched by name.

NAMES = ("w_click", "w_like", "w_share")
ORDERS = {
    "as they are": ("w_share", "w_click", "w_like"),
    "without the prefix": ("share", "click", "like"),
    "with another prefix": ("x.share", "x.click", "x.like"),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", WRITTEN)
def test_objectives_in_another_order_are_the_same_policy(case, order, tmp_path):
    """Density or action at weights by name, whichever order the document has."""
    policy = WRITTEN[case]
    path = write_policy(tmp_path / "policy.json", policy, objectives=ORDERS[order])
    moved, content = read_policy(path, NAMES)
    assert content["objectives"] == list(ORDERS[order])
    to_names = np.array([1, 2, 0])  # where click, like and share stand in the document
    if case == "deterministic":
        np.testing.assert_array_equal(moved.action, policy.action[to_names])
        return
    action = sample_rows(KEY, policy, 20)
    expected = jax.vmap(policy.log_density)(action)
    np.testing.assert_allclose(
        jax.vmap(moved.log_density)(action[:, to_names]), expected, rtol=1e-12
    )
    same, _ = read_policy(path, ORDERS[order])
    # a full covariance is kept to rounding
    np.testing.assert_allclose(jax.vmap(same.log_density)(action), expected, rtol=1e-13)


def test_one_number_for_all_weights_has_no_order(tmp_path):
    path = tmp_path / "policy.json"
    for spread in ({"scale": 3}, {"covariance": 9}):
        content = {"mopl_policy": 1, "kind": "normal", "mean": [1, 2], "objectives": ["b", "a"]}
        path.write_text(json.dumps(content | spread))
        moved, _ = read_policy(path, ["a", "b"])
        assert moved.mean.tolist() == [2, 1]
        np.testing.assert_allclose(moved.covariance, 9 * np.eye(2))


def test_objectives_that_are_only_partly_the_logs_are_refused(tmp_path):
    """Names that have nothing in common say nothing of the order; one of them does."""
    path = write_policy(tmp_path / "p.json", WRITTEN["deterministic"], objectives=["a", "b", "c"])
    np.testing.assert_array_equal(read_policy(path, NAMES)[0].action, [0.1, 0.2, 0.3])
    path = write_policy(
        tmp_path / "p.json", WRITTEN["deterministic"], objectives=["click", "like", "watch"]
    )
    with pytest.raises(ValueError, match="p.json: its objectives are click, like, watch, the log"):
        read_policy(path, NAMES)

"""Policies as JSON documents: what a learner writes, a platform reviews, and `mopl evaluate`
reads back.

    {"mopl_policy": 1, "kind": "normal", "mean": [0.1, 0.4], "covariance": [[0.04, 0.0], [0.0,
    0.09]], …}

| kind | keys |
|---|---|
| `normal` | `mean` (d,); `covariance` (d, d) or `scale` (standard deviations, (d,) or one) |
| `uniform` | `low`, `high` (d,) |
| `deterministic` | `action` (d,) |
| `mixture` | `weights` (k,) > 0, `components`: k documents of the kinds above, without version |

`objectives`, d names, says which weight is which. Every other key is the writer's: estimator,
value, provenance.
"""

import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from mopl_jax.io.files import write_atomically
from mopl_jax.numerics.check import choose
from mopl_jax.policies.deterministic import Deterministic
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy
from mopl_jax.policies.uniform import Uniform

VERSION = 1


def write_policy(path: Path | str, policy: Policy, **about: Any) -> Path:
    """Write `policy` and what there is to say `about` it, all of it or nothing; numbers that are
    not finite become null.

    ValueError for a policy that has no JSON form, or `about` with a key of the format. Scales
    are kept to every bit, a full covariance to rounding.
    """
    text = json.dumps(document(policy, **about), indent=1, allow_nan=False, default=str) + "\n"
    return write_atomically(Path(path), lambda temporary: temporary.write_text(text))


def read_policy(path: Path | str) -> tuple[Policy, dict[str, Any]]:
    """The policy and its whole document; ValueError in one line for anything that is not one."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected a policy in JSON, got something else ({error}); write it again"
        ) from None
    try:
        return parse(content), content
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def document(policy: Policy, **about: Any) -> dict[str, Any]:
    """The JSON document of a policy, as plain Python."""
    described = {"mopl_policy": VERSION} | _described(policy)
    taken = sorted(_RESERVED & about.keys())
    if taken:
        raise ValueError(
            f"expected free keys about the policy, got {taken[0]!r}, which the format uses;"
            " rename it"
        )
    _check_objectives(about, dimension(policy))
    return described | {key: finite(value) for key, value in about.items()}


def parse(content: Any) -> Policy:
    """The policy that a document describes, in JAX's default precision."""
    if not isinstance(content, dict) or "mopl_policy" not in content:
        raise ValueError(
            "expected a policy document, got no key 'mopl_policy'; write it with"
            " artifact.write_policy"
        )
    if content["mopl_policy"] != VERSION:
        raise ValueError(
            f"expected policy format {VERSION}, got {content['mopl_policy']!r}; write it again with"
            " this version"
        )
    policy = _policy(content)
    _check_objectives(content, dimension(policy))
    return policy


def finite(value: Any) -> Any:
    """`value` as JSON can hold it: records by their `to_dict`, arrays as lists, and None for every
    number that is not finite.
    """
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if hasattr(value, "tolist"):
        return finite(np.asarray(value).tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


# Writing.


@functools.singledispatch
def _described(policy) -> dict[str, Any]:
    kinds = "Gaussian, Uniform, Deterministic, Mixture"
    raise ValueError(f"expected a policy with a JSON form ({kinds}), got {type(policy).__name__}")


@_described.register
def _(policy: Gaussian):
    mean = {"kind": "normal", "mean": _list(policy.mean)}
    return mean | (
        {"scale": _list(policy.scale)}
        if policy.scale.ndim == 1
        else {"covariance": _list(policy.covariance)}
    )


@_described.register
def _(policy: Uniform):
    return {"kind": "uniform", "low": _list(policy.low), "high": _list(policy.high)}


@_described.register
def _(policy: Deterministic):
    return {"kind": "deterministic", "action": _list(policy.action)}


@_described.register
def _(policy: Mixture):
    weights = _list(jnp.exp(policy.log_weight))
    return {
        "kind": "mixture",
        "weights": weights,
        "components": [_described(part) for part in policy.components],
    }


def _list(array: ArrayLike) -> list:
    values = np.asarray(array)
    if not np.isfinite(values).all():
        raise ValueError(
            "expected a policy of finite numbers, got one that is not; nothing was written"
        )
    return values.tolist()


# Reading.


def _normal(content):
    mean = _numbers(content, "mean", (None,))
    if ("covariance" in content) == ("scale" in content):
        raise ValueError(
            "kind 'normal': expected one of the keys 'covariance' and 'scale'; add or drop one"
        )
    if "scale" in content:
        return Gaussian.diagonal(
            mean, _positive("scale", _numbers(content, "scale", (mean.size,), one=True))
        )
    covariance = _numbers(content, "covariance", (mean.size, mean.size))
    _check_covariance(covariance)
    return Gaussian.full(mean, covariance)


def _check_covariance(covariance):
    remedy = "write standard deviations as 'scale' if that is what they are"
    gap = np.abs(covariance - covariance.T).max()
    if gap > 1e-6 * np.abs(covariance).max():
        raise ValueError(
            f"key 'covariance': expected a symmetric matrix, got entries that differ by {gap:.3g};"
            " repair it"
        )
    smallest = np.linalg.eigvalsh(covariance)[0]
    if not smallest > 0:
        raise ValueError(
            "key 'covariance': expected a positive definite matrix, got smallest eigenvalue"
            f" {smallest:.3g}; {remedy}"
        )


def _uniform(content):
    low = _numbers(content, "low", (None,))
    high = _numbers(content, "high", (low.size,))
    if not (low < high).all():
        i = int(np.argmin(low < high))
        raise ValueError(
            f"expected low < high, got {low[i]} and {high[i]} in entry {i + 1}; swap or widen them"
        )
    return Uniform(jnp.asarray(low), jnp.asarray(high))


def _deterministic(content):
    return Deterministic(jnp.asarray(_numbers(content, "action", (None,))))


def _mixture(content):
    parts = _key(content, "components")
    if not isinstance(parts, list) or not parts:
        raise ValueError(f"key 'components': expected a list of policies, got {_short(parts)}")
    weights = _positive("weights", _numbers(content, "weights", (len(parts),)))
    components = [_component(i, part) for i, part in enumerate(parts)]
    sizes = sorted({dimension(component) for component in components})
    if len(sizes) > 1:
        raise ValueError(f"key 'components': expected policies of one dimension, got {sizes}")
    return Mixture.of(weights, components)


def _component(i, part):
    try:
        policy = _policy(part)
    except ValueError as error:
        raise ValueError(f"component {i + 1}: {error}") from None
    if isinstance(policy, Deterministic):
        raise ValueError(
            f"component {i + 1}: expected a policy with a density, got 'deterministic'; make it"
            " normal"
        )
    return policy


_KINDS: dict[str, Callable[[Mapping], Any]] = {
    "normal": _normal,
    "uniform": _uniform,
    "deterministic": _deterministic,
    "mixture": _mixture,
}
_RESERVED = {
    "mopl_policy",
    "kind",
    "mean",
    "covariance",
    "scale",
    "low",
    "high",
    "action",
    "weights",
    "components",
}


def _policy(content):
    if not isinstance(content, dict):
        raise ValueError(f"expected a policy, got {_short(content)}")
    (kind,) = choose([str(_key(content, "kind"))], _KINDS, "kind of policy")
    return _KINDS[kind](content)


def _key(content, name):
    if name not in content:
        raise ValueError(
            f"kind {content.get('kind', '')!r}: no key {name!r}; "
            f"keys: {', '.join(map(str, content))}"[:300]
        )
    return content[name]


def _numbers(content, name, shape, one=False):
    """Key `name` as finite float64 of `shape` (None: any length ≥ 1), or one number for all if
    `one`.
    """
    value = _key(content, name)
    try:
        numbers = np.asarray(value)
    except ValueError:  # ragged
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "if":
        raise ValueError(f"key {name!r}: expected numbers, got {_short(value)}")
    fits = len(numbers.shape) == len(shape) and all(
        w in (None, g) for w, g in zip(shape, numbers.shape, strict=True)
    )
    if not (fits or (one and numbers.ndim == 0)) or numbers.size == 0:
        wanted = " × ".join("d" if length is None else str(length) for length in shape)
        raise ValueError(f"key {name!r}: expected {wanted} numbers, got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"key {name!r}: expected finite numbers, got {_short(value)}")
    return numbers.astype(np.float64)


def _positive(name, numbers):
    if not (numbers > 0).all():
        raise ValueError(f"key {name!r}: expected numbers > 0, got {numbers.min()}")
    return numbers


def _check_objectives(content, d):
    names = content.get("objectives")
    if names is None:
        return
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"key 'objectives': expected a list of names, got {_short(names)}")
    if len(names) != d or len(set(names)) != d:
        raise ValueError(
            f"key 'objectives': expected {d} different names, one for each weight, got"
            f" {_short(names)}"
        )


def dimension(policy: Policy) -> int:
    """d, of a policy of these kinds."""
    if isinstance(policy, Mixture):
        return dimension(policy.components[0])
    fields = ("mean", "low", "action")
    return next(getattr(policy, field).shape[-1] for field in fields if hasattr(policy, field))


def _short(value):
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"

"""What a JSON document says of a policy: its kind, and the keys of the kind."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from mopl_jax.policies.bounded import ClippedNormal, TruncatedNormal
from mopl_jax.policies.context_normal import ContextNormal, Input
from mopl_jax.policies.contextual import Segmented
from mopl_jax.policies.deterministic import Deterministic
from mopl_jax.policies.dirichlet import Dirichlet
from mopl_jax.policies.discrete import Discrete
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.product import Product
from mopl_jax.policies.soft_clip import SoftClip
from mopl_jax.policies.transformed import EXP, SHARES, Transformed
from mopl_jax.policies.uniform import Uniform


@functools.singledispatch
def describe(policy: Any) -> dict[str, Any]:
    """The kind of a policy and its keys; ValueError for a policy that has no JSON form."""
    kinds = ", ".join(sorted(x.__name__ for x in describe.registry if x is not object))
    raise ValueError(f"expected a policy with a JSON form ({kinds}), got {type(policy).__name__}")


@describe.register
def _describe_gaussian(policy: Gaussian):
    if policy.scale.ndim == 1:
        return {"kind": "normal", "mean": _list(policy.mean), "scale": _list(policy.scale)}
    return {"kind": "normal", "mean": _list(policy.mean), "covariance": _list(policy.covariance)}


@describe.register
def _describe_transformed(policy: Transformed):
    kinds = {EXP: "log_normal", SHARES: "logistic_normal"}
    made = policy.map
    known = made in kinds or isinstance(made, SoftClip)
    if not known or not isinstance(policy.base, Gaussian):
        raise ValueError("expected a map and a base with a JSON form, got others; nothing written")
    if isinstance(made, SoftClip):
        softness = {"softness": list(made.softness)}
        kind = {"kind": "soft_clipped_normal"}
        return describe(policy.base) | kind | _described_ends(made) | softness
    return describe(policy.base) | {"kind": kinds[made]}


def _described_ends(policy):
    """The bounds that there are."""
    ends = {"low": policy.low, "high": policy.high}
    return {name: _list(np.nan_to_num(x)) for name, x in ends.items() if not np.isinf(x).all()}


@describe.register(TruncatedNormal)
@describe.register(ClippedNormal)
def _describe_bounded(policy):
    kind = "truncated_normal" if isinstance(policy, TruncatedNormal) else "clipped_normal"
    return describe(policy.normal) | {"kind": kind} | _described_ends(policy)


@describe.register
def _describe_dirichlet(policy: Dirichlet):
    return {"kind": "dirichlet", "concentration": _list(policy.concentration)}


@describe.register
def _describe_discrete(policy: Discrete):
    shares = _shares(policy.log_probability)
    return {"kind": "discrete", "actions": _list(policy.actions), "probabilities": shares}


@describe.register
def _describe_product(policy: Product):
    return {"kind": "product", "parts": list(map(describe, policy.parts))}


@describe.register
def _describe_uniform(policy: Uniform):
    return {"kind": "uniform", "low": _list(policy.low), "high": _list(policy.high)}


@describe.register
def _describe_deterministic(policy: Deterministic):
    return {"kind": "deterministic", "action": _list(policy.action)}


@describe.register
def _describe_mixture(policy: Mixture):
    weights, components = _shares(policy.log_weight), map(describe, policy.components)
    return {"kind": "mixture", "weights": weights, "components": list(components)}


@describe.register
def _describe_segmented(policy: Segmented):
    segments = [
        {"values": list(values), "policy": describe(each)}
        for values, each in policy.segments().items()
    ]
    return {
        "kind": "segmented",
        "context": list(policy.columns),
        "segments": segments,
        "otherwise": describe(policy.otherwise),
    }


@describe.register
def _describe_context_normal(policy: ContextNormal):
    kind = "contextual_log_normal" if policy.logarithms else "contextual_normal"
    shape = {"scale": policy.scale}
    if policy.scale.ndim == 2:
        shape = {"covariance": policy.scale @ policy.scale.T}
    numbers = shape | {"low": policy.low, "high": policy.high, "otherwise": policy.fallback}
    layers = [{"matrix": _list(matrix), "bias": _list(bias)} for matrix, bias in policy.layers]
    inputs = [_describe_input(each) for each in policy.inputs]
    plain = {key: _list(x) for key, x in numbers.items()}
    return {"kind": kind, "inputs": inputs, "layers": layers} | plain


def _describe_input(each: Input):
    if each.levels is not None:
        return {"column": each.column, "levels": list(each.levels)}
    return {key: x for key, x in each._asdict().items() if key != "levels"}


def _shares(logs):
    """Shares by their logarithms: of one, or where a float of one has not all their digits, in
    another unit.
    """
    shares = np.asarray(jnp.exp(logs))
    if shares.min() < np.finfo(shares.dtype).tiny:
        wide = np.asarray(logs, float)
        with np.errstate(over="ignore"):  # refused
            shares = np.exp(wide - (wide.max() + wide.min()) / 2)
    return _list(shares)


def _list(array):
    values = np.asarray(array)
    if not np.isfinite(values).all():
        raise ValueError(
            "expected a policy of finite numbers, got one that is not; nothing was written"
        )
    return values.tolist()

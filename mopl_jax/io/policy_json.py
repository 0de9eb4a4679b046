"""Policies as JSON documents: what a learner writes, a platform reviews, and `mopl evaluate`
reads back.

    {"mopl_policy": 1, "kind": "normal", "mean": [0.1, 0.4],
     "covariance": [[0.04, 0.0], [0.0, 0.09]], …}

| kind | keys |
|---|---|
| `normal` | `mean` (d,); `covariance`, (d, d) or a number times I, or `scale`, (d,) or a number |
| `uniform` | `low`, `high` (d,) |
| `deterministic` | `action` (d,) |
| `log_normal` | as `normal`, of the logarithms |
| `logistic_normal` | as `normal`, of the log ratios to the last share, (d − 1) |
| `soft_clipped_normal` | as `normal`, of what `SoftClip` keeps between `low` and `high`, bending \
over `softness` (d,) or a number |
| `truncated_normal`, `clipped_normal` | `mean` (d,), `scale`; `low`, `high` or none |
| `dirichlet` | `concentration` (d,) > 0 |
| `discrete` | `actions` (k, d), `probabilities` (k,) > 0 |
| `mixture` | `weights` (k,) > 0, `components`: k documents of the kinds above, without version |
| `product` | `parts`: documents of the kinds above, each for the next weights |
| `segmented` | `context`: c columns; `segments`: `values` (c,), null for missing, and `policy`; \
`otherwise`: the policy of all other rows; policies of the kinds above |
| `contextual_normal` | as `normal`, but for the mean: that of a row is the output of `layers` \
(`matrix`, `bias`; tanh between them) of its `inputs`, clipped to `low`, `high` (d,); `otherwise` \
(d,) where these are not known. Of an input: `column` and `levels`, or `centre`, `width`, `low`, \
`high`, `missing` of a number |
| `contextual_log_normal` | the same, of the logarithms |

`objectives`, d names, says which weight is which: beside a log, weights are matched by these
names, with or without the prefix that all of them have. Every other key is the writer's: estimator,
value, provenance.
"""

import functools
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, get_args

import jax.numpy as jnp
import msgspec
import numpy as np
from msgspec import Meta

from mopl_jax.io import documents
from mopl_jax.io.documents import ABSENT, Numbers, full, length, positive
from mopl_jax.io.files import write_json
from mopl_jax.io.refusals import short, within
from mopl_jax.policies.bounded import ClippedNormal, TruncatedNormal
from mopl_jax.policies.context_normal import ContextNormal, Input
from mopl_jax.policies.contextual import Segmented, level
from mopl_jax.policies.deterministic import Deterministic
from mopl_jax.policies.dirichlet import Dirichlet
from mopl_jax.policies.discrete import Discrete
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.mixture import Mixture
from mopl_jax.policies.policy import Policy
from mopl_jax.policies.product import Product
from mopl_jax.policies.soft_clip import SoftClip
from mopl_jax.policies.transformed import EXP, SHARES, Transformed
from mopl_jax.policies.uniform import Uniform

VERSION = 1
Name = Annotated[str, Meta(min_length=1)]
Columns = Annotated[list[Name], Meta(min_length=1)]
FARTHEST = 1000  # standard deviations from its mean to what a truncated normal plays
LARGEST = sys.float_info.max  # a bound as large is none: JSON has no infinity


def write_policy(path: Path | str, policy: Policy, **about: Any) -> Path:
    """Write `policy` and what there is to say `about` it, all of it or nothing; numbers that are
    not finite become null.

    ValueError for a policy that has no JSON form, or `about` with a key of the format. Scales
    are kept to every bit, a full covariance to rounding.
    """
    return write_json(Path(path), document(policy, **about))


def read_policy(path: Path | str, names: Sequence[str] = ()) -> tuple[Policy, dict[str, Any]]:
    """The policy and its whole document; ValueError in one line for anything that is not one.

    `names` of the weights of a log: where they are the document's objectives in another order, the
    policy is in theirs. ValueError where only some of them are.
    """
    refusal = "expected a policy in JSON, got something else ({}); write it again"
    content = documents.load(path, json.loads, refusal)
    with within(str(path)):
        return parse(content, names), content


def given_policy(target: Any, names: Sequence[str] = ()) -> Any:
    """A policy, or that of a path, in the order of the `names`; anything else as it is."""
    is_path = isinstance(target, str) or hasattr(target, "__fspath__")
    return read_policy(target, names)[0] if is_path else target


def document(policy: Policy, **about: Any) -> dict[str, Any]:
    """The JSON document of a policy, as plain Python."""
    described = {"mopl_policy": VERSION} | describe(policy)
    taken = sorted(_RESERVED & about.keys())
    if taken:
        raise ValueError(
            f"expected free keys about the policy, got {taken[0]!r}, which the format uses;"
            " rename it"
        )
    _check_objectives(about, policy.dim)
    return described | {key: finite(value) for key, value in about.items()}


def parse(content: Any, names: Sequence[str] = ()) -> Policy:
    """The policy that a document describes, in JAX's default precision, in the order of `names`."""
    if not isinstance(content, dict) or "mopl_policy" not in content:
        raise ValueError(
            "expected a policy document, got no key 'mopl_policy'; write it with"
            " policy_json.write_policy"
        )
    if content["mopl_policy"] != VERSION:
        raise ValueError(
            f"expected policy format {VERSION}, got {content['mopl_policy']!r}; write it again with"
            " this version"
        )
    described = documents.fit(content, Described, "policy")
    with documents.flat():
        _check_objectives(content, described.dim)
        order = _order(content.get("objectives") or (), names)
        return (described.moved(order) if order else described).build(described.dim)


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


def _check_objectives(content, d):
    names = content.get("objectives")
    if names is None:
        return
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"key 'objectives': expected a list of names, got {short(names)}")
    if len(names) != d or len(set(names)) != d:
        raise ValueError(
            f"key 'objectives': expected {d} different names, one for each weight, got"
            f" {short(names)}"
        )


def _order(objectives, names) -> list[int]:
    """Which objective each of the `names` is; nothing where they have no name in common."""
    if len(objectives) != len(names):  # one column of lists, or a complaint to come
        return []
    given, wanted = _without_prefix(objectives), _without_prefix(names)
    if set(given) == set(wanted):
        return [given.index(name) for name in wanted]
    if {*given, *objectives} & {*wanted, *names}:
        raise ValueError(
            f"its objectives are {', '.join(objectives)}, the log's weights {', '.join(names)};"
            " name the columns of its weights, with --action"
        )
    return []


def _without_prefix(names):
    stem = len(os.path.commonprefix(list(names)))
    return [name[stem:] for name in names]


# Writing.


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


# Reading. Coverage studies, whose worlds have d, build policies from the same structs.


class PolicyEntry(documents.KindEntry, forbid_unknown_fields=False):
    """A policy, among whose keys a writer may leave notes.

    `dim`: d, as the keys tell it.
    `build(d)`: the policy over d weights.
    `moved(order)`: the entry whose weight i is its weight order[i].
    """

    def moved(self, order: list[int]) -> Self:
        """This entry with every vector and matrix in the `order` of the log's weights."""
        fields = msgspec.structs.asdict(self).items()
        arrays = {key: x for key, x in fields if isinstance(x, np.ndarray)}
        changed = {
            key: x[np.ix_(*[order] * x.ndim)]
            for key, x in arrays.items()
            if set(x.shape) == {len(order)}  # one number stands for all; others are refused later
        }
        return msgspec.structs.replace(self, **changed)


class NormalEntry(PolicyEntry, tag="normal"):
    """`mean` and one of `scale` and `covariance`."""

    mean: Numbers
    scale: Numbers = ABSENT
    covariance: Numbers = ABSENT

    @property
    def dim(self) -> int:
        return length(self.mean, "mean")

    def build(self, d: int) -> Gaussian:
        """ValueError unless the covariance is symmetric and positive definite."""
        if (self.scale is None) == (self.covariance is None):
            raise ValueError(
                "kind 'normal': expected one of the keys 'covariance' and 'scale'; add or drop one"
            )
        mean = full(self.mean, (d,), "mean")
        if self.covariance is None:
            scale = positive(full(self.scale, (d,), "scale"), "scale")
            return Gaussian(jnp.asarray(mean), jnp.asarray(scale))
        covariance = full(self.covariance, (d, d), "covariance")
        _check_covariance(covariance)
        return Gaussian.full(mean, covariance)


class LogNormalEntry(NormalEntry, tag="log_normal"):
    """A log-normal policy, by the mean and covariance of the logarithms."""

    def build(self, d: int) -> Transformed:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Transformed(super().build(d), EXP)


class LogisticNormalEntry(NormalEntry, tag="logistic_normal"):
    """A logistic-normal policy of d shares, by the mean and covariance of the logarithms of the
    first d − 1 over the last.
    """

    @property
    def dim(self) -> int:
        return length(self.mean, "mean") + 1

    def moved(self, order: list[int]) -> Self:
        return _unmoved(self, order)

    def build(self, d: int) -> Transformed:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Transformed(super().build(d - 1), SHARES)


def _unmoved(entry, order):
    """ValueError where the weights of a log are in another order."""
    if order != sorted(order):
        raise ValueError(
            "key 'objectives': expected the order of the log's weights, which this kind cannot be"
            " put into; name the action columns in the order of its objectives"
        )
    return entry


class TruncatedNormalEntry(PolicyEntry, tag="truncated_normal"):
    """A normal policy and bounds; without one of them there is none."""

    mean: Numbers
    scale: Numbers
    low: Numbers = ABSENT
    high: Numbers = ABSENT

    @property
    def dim(self) -> int:
        return length(self.mean, "mean")

    def build(self, d: int) -> Any:
        """ValueError unless low < high, and not too far from the mean for what is between."""
        normal, low, high = self._parts(d)
        away = np.asarray(jnp.maximum(low - normal.mean, normal.mean - high) / normal.scale)
        if away.max() > FARTHEST:
            raise ValueError(
                f"expected bounds within {FARTHEST} standard deviations of the mean, got"
                f" {away.max():g} in entry {away.argmax() + 1}; widen the bounds or the scale"
            )
        return TruncatedNormal(normal, low, high)

    def _parts(self, d):
        scale = positive(full(self.scale, (d,), "scale"), "scale")
        normal = Gaussian(jnp.asarray(self.mean), jnp.asarray(scale))
        return normal, *map(jnp.asarray, _ends(self, d))


def _ends(entry, d):
    """Lower and upper bounds (d,), infinite where there is none."""
    ends = ("low", entry.low, -np.inf), ("high", entry.high, np.inf)
    low, high = (np.full(d, x) if each is None else full(each, (d,), k) for k, each, x in ends)
    _check_bounds(low, high)
    return [np.where(abs(x) < LARGEST, x, np.copysign(np.inf, x)) for x in (low, high)]


class ClippedNormalEntry(TruncatedNormalEntry, tag="clipped_normal"):
    """A normal policy whose draws beyond the bounds are set to them."""

    def build(self, d: int) -> ClippedNormal:
        return ClippedNormal(*self._parts(d))


class SoftClippedNormalEntry(NormalEntry, tag="soft_clipped_normal"):
    """A normal policy that a `SoftClip` keeps between bounds."""

    softness: Numbers = ABSENT
    low: Numbers = ABSENT
    high: Numbers = ABSENT

    def build(self, d: int) -> Transformed:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.softness is None:
            raise ValueError("kind 'soft_clipped_normal': expected the key 'softness'; add it")
        softness = positive(full(self.softness, (d,), "softness"), "softness")
        low, high = _ends(self, d)
        numbers = (tuple(x.tolist()) for x in (low, high, softness))
        return Transformed(super().build(d), SoftClip(*numbers))


class DirichletEntry(PolicyEntry, tag="dirichlet"):
    """Shares of one."""

    concentration: Numbers

    @property
    def dim(self) -> int:
        return length(self.concentration, "concentration")

    def build(self, d: int) -> Dirichlet:
        return Dirichlet(jnp.asarray(positive(self.concentration, "concentration")))


class DiscreteEntry(PolicyEntry, tag="discrete"):
    """k actions, and k probabilities."""

    actions: Numbers
    probabilities: Numbers

    @property
    def dim(self) -> int:
        if self.actions.ndim != 2 or not self.actions.size:
            shape = self.actions.shape
            raise ValueError(f"key 'actions': expected k lists of d numbers, got shape {shape}")
        return self.actions.shape[1]

    def moved(self, order: list[int]) -> Self:
        return msgspec.structs.replace(self, actions=self.actions[:, order])

    def build(self, d: int) -> Discrete:
        """ValueError unless there is a positive probability for each action."""
        shares = full(self.probabilities, (len(self.actions),), "probabilities")
        return Discrete.of(self.actions, positive(shares, "probabilities"))


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


class UniformEntry(PolicyEntry, tag="uniform"):
    """A box."""

    low: Numbers
    high: Numbers

    @property
    def dim(self) -> int:
        return max(length(self.low, "low"), length(self.high, "high"))

    def build(self, d: int) -> Uniform:
        """ValueError unless low < high."""
        low, high = full(self.low, (d,), "low"), full(self.high, (d,), "high")
        _check_bounds(low, high)
        return Uniform(jnp.asarray(low), jnp.asarray(high))


def _check_bounds(low, high):
    if not (low < high).all():
        i = int(np.argmin(low < high))
        raise ValueError(
            f"expected low < high, got {low[i]} and {high[i]} in entry {i + 1}; swap or widen them"
        )


class DeterministicEntry(PolicyEntry, tag="deterministic"):
    """One action."""

    action: Numbers

    @property
    def dim(self) -> int:
        return length(self.action, "action")

    def build(self, d: int) -> Deterministic:
        return Deterministic(jnp.asarray(self.action))


class MixtureEntry(PolicyEntry, tag="mixture"):
    """k policies of one dimension, and k weights."""

    weights: Numbers
    components: list["Plain"]

    @property
    def dim(self) -> int:
        if not self.components:
            raise ValueError("key 'components': expected a list of policies, got []")
        length(self.weights, "weights")
        sizes = {part.dim for part in self.components}
        if len(sizes) > 1:
            raise ValueError(
                f"key 'components': expected policies of one dimension, got {sorted(sizes)}"
            )
        return min(sizes)

    def moved(self, order: list[int]) -> Self:
        return msgspec.structs.replace(self, components=[x.moved(order) for x in self.components])

    def build(self, d: int) -> Mixture:
        """ValueError with the component that is wrong."""
        weights = full(self.weights, (len(self.components),), "weights")
        return Mixture.of(positive(weights, "weights"), components_of(self.components, d))


class ProductEntry(PolicyEntry, tag="product"):
    """Independent policies, each for the next of the weights."""

    parts: list["Plain"]

    @property
    def dim(self) -> int:
        if not self.parts:
            raise ValueError("key 'parts': expected a list of policies, got []")
        return sum(part.dim for part in self.parts)

    def moved(self, order: list[int]) -> Self:
        return _unmoved(self, order)

    def build(self, d: int) -> Product:
        """ValueError with the part that is wrong."""
        return Product(tuple(_built(part, i, "part") for i, part in enumerate(self.parts, 1)))


def _built(entry, number: int, what: str, d: int | None = None) -> Policy:
    """A policy that is part of another, and so has a density."""
    with within(f"{what} {number}" if number else what):
        if isinstance(entry, DeterministicEntry):
            raise ValueError(
                "expected a policy with a density, got 'deterministic'; make it normal"
            )
        return entry.build(entry.dim if d is None else d)


class Segment(documents.Entry):
    """`values` of the columns of the context, and the `policy` of the rows that have them."""

    values: list[str | float | bool | None]
    policy: "Plain"


class SegmentedEntry(PolicyEntry, tag="segmented"):
    """A policy for each segment, and one for all other rows."""

    context: Columns
    segments: list[Segment]
    otherwise: "Plain"

    @property
    def dim(self) -> int:
        return self.otherwise.dim

    def moved(self, order: list[int]) -> Self:
        segments = [
            msgspec.structs.replace(each, policy=each.policy.moved(order)) for each in self.segments
        ]
        otherwise = self.otherwise.moved(order)
        return msgspec.structs.replace(self, segments=segments, otherwise=otherwise)

    def build(self, d: int) -> Segmented:
        """ValueError with the segment that is wrong."""
        policies = [_built(each.policy, k, "segment", d) for k, each in enumerate(self.segments, 1)]
        otherwise = _built(self.otherwise, 0, "otherwise", d)
        values = [each.values for each in self.segments]
        return Segmented.of(self.context, values, policies, otherwise)


class InputEntry(documents.Entry):
    """A column, and its `levels` or how its numbers are scaled; see `Input`."""

    column: Name
    levels: Annotated[list[str | float | bool | None], Meta(min_length=1)] | None = None
    centre: documents.Number = 0.0
    width: documents.Positive = 1.0
    low: documents.Number = -LARGEST
    high: documents.Number = LARGEST
    missing: bool = False

    def build(self) -> Input:
        levels = None if self.levels is None else tuple(map(level, self.levels))
        ends = self.low, self.high
        return Input(self.column, levels, self.centre, self.width, *ends, self.missing)


class LayerEntry(documents.Entry):
    """A `matrix` (o, i) and a `bias` (o,)."""

    matrix: Numbers
    bias: Numbers


class ContextNormalEntry(PolicyEntry, tag="contextual_normal"):
    """A normal policy whose mean is a function of the context."""

    inputs: Annotated[list[InputEntry], Meta(min_length=1)]
    layers: Annotated[list[LayerEntry], Meta(min_length=1)]
    low: Numbers
    high: Numbers
    otherwise: Numbers
    scale: Numbers = ABSENT
    covariance: Numbers = ABSENT

    @property
    def dim(self) -> int:
        return length(self.otherwise, "otherwise")

    def moved(self, order: list[int]) -> Self:
        *layers, last = self.layers
        last = LayerEntry(matrix=last.matrix[order], bias=last.bias[order])
        return msgspec.structs.replace(super().moved(order), layers=[*layers, last])

    def build(self, d: int) -> ContextNormal:
        """ValueError for layers that do not fit one another, or their inputs."""
        like = NormalEntry(mean=self.otherwise, scale=self.scale, covariance=self.covariance)
        normal, inputs = like.build(d), tuple(each.build() for each in self.inputs)
        _check_bounds(low := full(self.low, (d,), "low"), high := full(self.high, (d,), "high"))
        layers = tuple(self._layers(sum(each.size for each in inputs), d))
        ends = jnp.asarray(low), jnp.asarray(high)
        logarithms = isinstance(self, ContextLogNormalEntry)
        return ContextNormal(inputs, layers, *ends, normal.scale, normal.mean, logarithms)

    def _layers(self, width, d):
        for number, each in enumerate(self.layers, 1):
            with within(f"layer {number}"):
                out = d if number == len(self.layers) else length(each.bias, "bias")
                bias = full(each.bias, (out,), "bias")
                yield jnp.asarray(full(each.matrix, (out, width), "matrix")), jnp.asarray(bias)
                width = out


class ContextLogNormalEntry(ContextNormalEntry, tag="contextual_log_normal"):
    """A log-normal policy whose logarithms have a mean by context."""


def components_of(entries: list, d: int) -> list[Policy]:
    """The policies of a mixture."""
    return [_built(entry, i, "component", d) for i, entry in enumerate(entries, 1)]


Plain = (
    NormalEntry
    | UniformEntry
    | DeterministicEntry
    | MixtureEntry
    | LogNormalEntry
    | LogisticNormalEntry
    | SoftClippedNormalEntry
    | TruncatedNormalEntry
    | ClippedNormalEntry
    | DirichletEntry
    | DiscreteEntry
    | ProductEntry
)
Described = Plain | SegmentedEntry | ContextNormalEntry | ContextLogNormalEntry
_RESERVED = {"mopl_policy", "kind"}.union(*(e.__struct_fields__ for e in get_args(Described)))

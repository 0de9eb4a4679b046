"""Policies as documents describe them: an entry for each kind, which is checked and then built.

Coverage studies, whose worlds have d, build policies from the same structs.
"""

import sys
from typing import Annotated, Any, Self

import jax.numpy as jnp
import msgspec
import numpy as np
from msgspec import Meta

from mopl_jax.io import documents
from mopl_jax.io.documents import ABSENT, Numbers, full, length, positive
from mopl_jax.io.refusals import within
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

Name = Annotated[str, Meta(min_length=1)]
Columns = Annotated[list[Name], Meta(min_length=1)]
FARTHEST = 1000  # standard deviations from its mean to what a truncated normal plays
LARGEST = sys.float_info.max  # a bound as large is none: JSON has no infinity


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


def _built(entry: Any, number: int, what: str, d: int | None = None) -> Policy:
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

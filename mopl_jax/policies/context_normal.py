"""Normal policies whose mean is a function of the context: linear, or a small network."""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mopl_jax.numerics.pytree import pytree_dataclass
from mopl_jax.numerics.shapes import OneKey, Scalar, Vector
from mopl_jax.policies.contextual import Level, Levels, at, no_weights
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.policies.policy import Policy
from mopl_jax.policies.transformed import EXP, Transformed

Layer = tuple[Float[Array, "o i"], Float[Array, " o"]]


class Input(NamedTuple):
    """How a column becomes features: of a number x one, (x − centre)/width, and one that says that
    it is missing; of levels one each, which is 1 where a row has it.

    `levels`: those that are known; None of a number
    `low`, `high`: a number beyond them counts as they do
    `missing`: whether numbers may be missing; else such a row is not known
    """

    column: str
    levels: tuple[Level, ...] | None = None
    centre: float = 0.0
    width: float = 1.0
    low: float = -sys.float_info.max
    high: float = sys.float_info.max
    missing: bool = False

    @property
    def size(self) -> int:
        """How many features it has."""
        return 2 if self.levels is None else len(self.levels)

    def features(self, column: Any) -> tuple[np.ndarray, np.ndarray, tuple[Level, ...]]:
        """Of n rows: features (n, k), whether each is known (n,), and levels that are not."""
        if self.levels is None:
            there = ~np.isnan(column)
            x = (np.clip(np.nan_to_num(column), self.low, self.high) - self.centre) / self.width
            features = np.stack([np.where(there, x, 0), ~there], axis=1)
            return features, there | self.missing, () if there.all() or self.missing else (None,)
        number = {word: k for k, word in enumerate(self.levels)}
        each = np.array([number.get(word, -1) for word in column.words], np.int64)
        index = each[column.index]
        unknown = tuple(word for word, k in zip(column.words, each, strict=True) if k < 0)
        return np.eye(len(self.levels))[np.maximum(index, 0)], index >= 0, unknown


@pytree_dataclass(static=("inputs", "logarithms"))
class ContextNormal:
    """N(mean(x), scale scaleᵀ) in the features x (q,) of a row's context.

    `inputs`: the columns and their features, side by side
    `layers`: matrix and bias of each layer, tanh between them; the last one's output is the mean
    `low`, `high` (d,): the ends of the mean, which is clipped to them
    `scale`: standard deviations (d,), or the lower Cholesky factor (d, d) of the covariance
    `fallback` (d,): the mean for a row whose context is not known
    `logarithms`: whether all of this is of the logarithms of the weights
    """

    inputs: tuple[Input, ...]
    layers: tuple[Layer, ...]
    low: Vector
    high: Vector
    scale: Float[Array, "d *d"]
    fallback: Vector
    logarithms: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the context."""
        return tuple(each.column for each in self.inputs)

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Whether each column is read as numbers."""
        return tuple(each.levels is None for each in self.inputs)

    @property
    def dim(self) -> int:
        """d."""
        return self.fallback.shape[-1]

    @property
    def otherwise(self) -> Policy:
        """The policy of rows whose context is not known."""
        return self._around(self.fallback)

    def encode(
        self, columns: Sequence[Any]
    ) -> tuple[Float[np.ndarray, "n q1"], tuple[tuple[Level, ...], ...]]:
        """Features of each row and a last one, 1 where all of them are known; and the values that
        are not known, each alone in its column.
        """
        features, known, unknown = features_of(self.inputs, columns)
        return np.concatenate([features, known[:, None]], axis=1), unknown

    def given(self, code: Float[Array, " q1"]) -> Policy:
        """The policy of a row."""
        mean = jnp.clip(network(self.layers, code[:-1]), self.low, self.high)
        return self._around(jnp.where(code[-1] > 0, mean, self.fallback))

    def _around(self, mean):
        normal = Gaussian(mean, self.scale)
        return Transformed(normal, EXP) if self.logarithms else normal

    def at(self, **context: Any) -> Policy:
        """The policy of one request, by the values of its columns; missing ones may be left out.

        ValueError for a name that is no column of the context.
        """
        return at(self, context)

    def log_density(self, action: Vector) -> Scalar:
        """ValueError: it is that of a row's policy."""
        raise no_weights(self)

    def sample(self, key: OneKey) -> Vector:
        """ValueError, likewise."""
        raise no_weights(self)


def features_of(
    inputs: Sequence[Input], columns: Sequence[Any]
) -> tuple[Float[np.ndarray, "n q"], np.ndarray, tuple[tuple[Level, ...], ...]]:
    """Features of all columns, whether all of a row are known (n,), and values that are not."""
    found = [each.features(column) for each, column in zip(inputs, columns, strict=True)]
    known = np.all([known for _, known, _ in found], axis=0)
    alone = [
        tuple(word if j == k else "…" for j in range(len(inputs)))
        for k, (_, _, unknown) in enumerate(found)
        for word in unknown
    ]
    return np.concatenate([features for features, _, _ in found], axis=1), known, tuple(alone)


def network(layers: Sequence[Layer], x: Float[Array, " q"]) -> Vector:
    """The output of the last layer; tanh after the others."""
    for matrix, bias in layers[:-1]:
        x = jnp.tanh(matrix @ x + bias)
    matrix, bias = layers[-1]
    return matrix @ x + bias


def input_of(name: str, column: Any) -> Input:
    """How a column (n,) of a log, numbers or `Levels`, is made into features."""
    if isinstance(column, Levels):
        return Input(name, tuple(column.words))
    there = column[~np.isnan(column)]
    centre, width = float(np.mean(there)), float(np.std(there))
    ends = float(there.min()), float(there.max())
    return Input(name, None, centre, width or 1.0, *ends, missing=len(there) < len(column))

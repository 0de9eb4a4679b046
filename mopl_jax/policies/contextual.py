"""Policies that depend on what is known of a row before its action: the context.

A contextual policy has a policy for each row. It names its `columns`, `encode`s their values as
arrays with one entry a row, and `given(code)` is the policy of a row with that code, which vmaps.
A server asks for the policy of one request by name: `policy.at(country="DE").sample(key)`.

A row whose context the policy does not know, such as a level that never occurred when it was
learnt, is played the policy `otherwise`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from mopl_jax.numerics.pytree import entries, pytree_dataclass, stacked
from mopl_jax.numerics.shapes import OneKey, PerRow, Scalar, Vector
from mopl_jax.policies.policy import Policy

BLOCK = 4096  # rows whose policies exist at once

Level = str | None  # None: a missing value


class Levels(NamedTuple):
    """A column of levels: its different `words`, and of each row (n,) which of them it has."""

    words: Sequence[Level]
    index: Int[np.ndarray, " n"]  # pyright: ignore[reportIncompatibleMethodOverride]


@pytree_dataclass(static=("columns", "levels"))
class Segmented:
    """A policy for each of S segments, and one for all other rows.

    `columns`: the c columns of the context, each of levels.
    `levels`: of each segment its level of each column, S tuples of c.
    `table`: the policies of the segments and then `otherwise`, of one kind, as one record whose
        arrays have S + 1 entries.
    """

    columns: tuple[str, ...]
    levels: tuple[tuple[Level, ...], ...]
    table: Any

    @classmethod
    def of(
        cls,
        columns: Sequence[str],
        values: Sequence[Sequence[Any]],
        policies: Sequence[Policy],
        otherwise: Policy,
    ) -> "Segmented":
        """The policy of each segment by its `values` of the `columns`, of which None is missing.

        ValueError for policies that are not all of one kind and shape, or two of one segment.
        """
        levels = tuple(tuple(map(level, each)) for each in values)
        kind, seen = _kind(otherwise), set()
        for each, policy in zip(levels, policies, strict=True):
            if len(each) != len(columns):
                expected, got = f"a value of each of {', '.join(columns)}", f"{len(each)} of them"
            elif each in seen:
                expected, got = "it once", "it twice; drop one"
            elif _kind(policy) != kind:
                expected = "a policy of the kind and shape of 'otherwise'"
                got = "another; give all of them the same keys"
            else:
                seen.add(each)
                continue
            raise ValueError(f"segment {shown(each)}: expected {expected}, got {got}")
        return cls(tuple(columns), levels, stacked([*policies, otherwise]))

    @property
    def dim(self) -> int:
        """d."""
        return self.otherwise.dim

    @property
    def otherwise(self) -> Policy:
        """The policy of rows that are in no segment."""
        return entries(self.table, -1)

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Whether each column is read as numbers: none is."""
        return (False,) * len(self.columns)

    def encode(
        self, columns: Sequence[Levels]
    ) -> tuple[Int[np.ndarray, " n"], tuple[tuple[Level, ...], ...]]:
        """The segment of each row, S where it is in none; and the values that are in none."""
        code, sizes = np.zeros(len(columns[0].index), np.int64), [len(x.words) for x in columns]
        for column, size in zip(columns, sizes, strict=True):
            code = code * size + column.index
        seen, index = np.unique(code, return_inverse=True)
        parts = np.unravel_index(seen, sizes)
        words = [[x.words[i] for i in part] for x, part in zip(columns, parts, strict=True)]
        values = list(zip(*words, strict=True))
        number = {known: k for k, known in enumerate(self.levels)}
        found = np.array([number.get(each, len(self.levels)) for each in values], np.int64)
        return found[index], tuple(each for each in values if each not in number)

    def given(self, code: Int[Array, ""]) -> Policy:
        """The policy of a row of this segment."""
        return entries(self.table, code)

    def log_density(self, action: Vector) -> Scalar:
        """ValueError: it is that of a row's policy."""
        raise no_weights(self)

    def sample(self, key: OneKey) -> Vector:
        """ValueError, likewise."""
        raise no_weights(self)

    def at(self, **context: Any) -> Policy:
        """The policy of one request, by the values of its columns; missing ones may be left out.

        ValueError for a name that is no column of the context.
        """
        return at(self, context)

    def segments(self) -> dict[tuple[Level, ...], Policy]:
        """The policies by the levels of their segments."""
        return {values: entries(self.table, k) for k, values in enumerate(self.levels)}


def _kind(policy):
    """What policies have in common whose arrays stack."""
    return jax.tree.structure(policy), [np.shape(x) for x in jax.tree.leaves(policy)]


def level(value: Any) -> Level:
    """A value as a level: text as it is, numbers as they are written, None for a missing value.

    An empty text and NaN are missing.
    """
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def shown(values: Sequence[Level]) -> str:
    """The levels of a segment as text."""
    return ", ".join("missing" if value is None else value for value in values)


def at(policy: Any, context: Mapping[str, Any]) -> Policy:
    """The policy of one row by the values of its columns."""
    for name in context:
        if name not in policy.columns:
            raise ValueError(
                f"expected values of {', '.join(policy.columns)}, got {name!r}; leave it out"
            )
    values = [context.get(name) for name in policy.columns]
    columns = [
        _number(name, value) if numeric else Levels((level(value),), np.zeros(1, np.int64))
        for name, value, numeric in zip(policy.columns, values, policy.numeric, strict=True)
    ]
    return policy.given(policy.encode(columns)[0][0])


def _number(name, value) -> Float[np.ndarray, " 1"]:
    try:
        return np.array([np.nan if level(value) is None else value], float)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected a number, got {value!r}") from None


def log_densities(policy: Any, action: Float[Array, "n d"], code: Any) -> PerRow:
    """Log densities (n,) of actions under the policy of each row's code."""

    def one(row):
        each, own = row
        return policy.given(own).log_density(each)

    return lax.map(one, (jnp.asarray(action), jnp.asarray(code)), batch_size=BLOCK)


def is_contextual(policy: Any) -> bool:
    """Whether a policy is one for each row."""
    return hasattr(policy, "given")


def no_weights(policy: Any) -> ValueError:
    """The complaint where the policy of a row is asked for without a row."""
    names = policy.columns
    given = ", ".join(f"{name}=…" for name in names)
    return ValueError(
        f"expected a policy that is the same for all rows, got one whose weights depend on"
        f" {', '.join(names)}: that of a request is policy.at({given}), that of rows is evaluated"
        " on a log with these columns"
    )

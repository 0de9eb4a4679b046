"""What a query computes for one row: expressions, each of which exists once.

A `Cell` is a literal, a column of a relation, or an operation on cells. Equal cells are the same
object, so that what two formulas share is computed once; literals are folded as they arise.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


class Relation:
    """The rows of a table, or the groups of another relation's rows by the cell `key`.

    `key`: None of a table
    `sums`: over the rows of each group, all that were made
    """

    def __init__(self, key: Any = None) -> None:
        self.key, self.sums = key, {}


class Cell:
    """`op` of `args`, which are cells; of a column its name and relation, of a literal its value.

    `relation`: whose rows it is computed for; None of literals
    """

    __slots__ = ("args", "op", "relation")

    def __init__(self, op: str, args: tuple, relation: Relation | None) -> None:
        self.op, self.args, self.relation = op, args, relation

    @property
    def value(self) -> Any:
        """Of a literal."""
        return self.args[0]


@dataclasses.dataclass(frozen=True)
class Aggregate:
    """A number that the engine is asked for.

    `kind`: sum, max, min, or top: the `k` largest
    `cell`: of which
    `relation`: over whose rows, which a literal does not know
    """

    kind: str
    cell: Cell
    relation: Relation
    k: int = 0


def unsupported(what: str) -> ValueError:
    """The complaint about a computation that no query does."""
    return ValueError(
        f"a query engine does not compute {what}, which this estimator or option needs; choose"
        " snips, ips or beta_ips, or read the rows into memory (export them to Parquet)"
    )


class Cells:
    """All cells of a computation."""

    def __init__(self):
        self._known: dict[tuple, Cell] = {}

    def _one(self, key, op, args, relation) -> Cell:
        return self._known.setdefault(key, Cell(op, args, relation))

    def literal(self, value: Any) -> Cell:
        """A number or a truth value; NaN is one cell, and 0 and −0 are two."""
        value = np.asarray(value)[()]
        kind = "b" if value.dtype == bool else "i" if value.dtype.kind in "iu" else "f"
        own = bool(value) if kind == "b" else int(value) if kind == "i" else float(value)
        return self._one(("literal", kind, repr(own)), "literal", (own,), None)

    def column(self, name: str, relation: Relation) -> Cell:
        """A column of a base table."""
        return self._one(("column", name, relation), "column", (name,), relation)

    def of_group(self, total: Cell, relation: Relation) -> Cell:
        """The sum of a cell over the rows of each group."""
        cell = self._one(("of_group", id(total), relation), "of_group", (total,), relation)
        relation.sums[cell] = None
        return cell

    def apply(self, op: str, *args: Cell) -> Cell:
        """The operation `op` of `OPERATIONS`, or a simpler cell of the same value."""
        if all(each.op == "literal" for each in args):
            with np.errstate(all="ignore"):
                return self.literal(OPERATIONS[op](*[_typed(each.value) for each in args]))
        simple = _SIMPLER.get(op, lambda *x: None)(*args)
        if simple is not None:
            return simple
        relation = next(each.relation for each in args if each.relation is not None)
        return self._one((op, *map(id, args)), op, args, relation)


def _typed(value):
    return np.float64(value) if isinstance(value, float) else np.asarray(value)[()]


def _is(cell, *values):
    return cell.op == "literal" and any(
        type(cell.value) is type(value) and cell.value == value for value in values
    )


def _sum(a, b):
    return b if _is(a, 0.0, 0) else a if _is(b, 0.0, 0) else None


def _product(a, b):
    return b if _is(a, 1.0, 1) else a if _is(b, 1.0, 1) else None


def _both(a, b):
    return _chosen(a, b, True, False)


def _either(a, b):
    return _chosen(a, b, False, True)


def _chosen(a, b, neutral, final):
    for one, other in ((a, b), (b, a)):
        if _is(one, neutral):
            return other
        if _is(one, final):
            return one
    return None


def _select(condition, no, yes):
    if condition.op == "literal":
        return yes if condition.value else no
    return yes if yes is no else None


_SIMPLER: dict[str, Callable[..., Cell | None]] = {
    "add": _sum,
    "sub": lambda a, b: a if _is(b, 0.0, 0) else None,
    "mul": _product,
    "div": lambda a, b: a if _is(b, 1.0) else None,
    "and": _both,
    "or": _either,
    "select": _select,
    "float": lambda a: None,
}


OPERATIONS: dict[str, Callable] = {  # on literals, as numpy has them
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "power": np.power,
    "max": np.maximum,
    "min": np.minimum,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "is_nan": np.isnan,
    "is_finite": np.isfinite,
    "select": lambda condition, no, yes: yes if condition else no,
    "float": np.float64,
    "int": np.int64,
}

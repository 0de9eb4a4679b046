"""What each primitive of JAX does to values that have rows in a query engine.

Such a value, `OfRows`, has a cell for each of its entries of one row. Its shape in the traced
function has one axis over rows, whose cells are of length one. `RULES` has a function for each
primitive: (context, equation, arguments) -> the results; an argument is an `OfRows` or an array.
"""

import functools
import string
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mopl_jax.warehouse.cells import Aggregate, Cells, Relation, unsupported


class OfRows(NamedTuple):
    """A value with rows.

    `cells`: expressions of a row, in the value's shape with a length of one along `axis`
    `axis`: over the rows
    """

    cells: np.ndarray
    axis: int


class Later(NamedTuple):
    """A value that is known after the next query: its entries are what was `asked`."""

    asked: np.ndarray

    @property
    def relation(self) -> Relation:
        """Over whose rows."""
        return self.asked.flat[0].relation


class Context(NamedTuple):
    """What rules know.

    `cells`: of the computation
    `relations`: by the length that stands for the number of their rows in the traced function
    """

    cells: Cells
    relations: dict[int, Relation]

    def axis(self, shape: Sequence[int]) -> int | None:
        """Which axis of a shape is over rows."""
        return next((i for i, size in enumerate(shape) if size in self.relations), None)

    def lift(self, value: Any, rank: int) -> np.ndarray:
        """The cells of an argument of an elementwise operation."""
        if isinstance(value, OfRows):
            return value.cells
        array = np.asarray(value)
        cells = np.empty(array.shape, object)
        cells[...] = np.vectorize(self.cells.literal, otypes=[object])(array)
        return cells.reshape([1] * (rank - array.ndim) + [*array.shape])


def of_rows(context: Context, cells: Any, shape: Sequence[int]) -> OfRows:
    """Cells for a value of `shape`, of which a row has one length less."""
    axis = context.axis(shape)
    if axis is None:
        raise unsupported("a value of this shape")
    one = [1 if i == axis else size for i, size in enumerate(shape)]
    return OfRows(np.broadcast_to(cells, one), axis)


# Entry by entry.


def _elementwise(build: Callable) -> Callable:
    """`build(apply, params, *cells)` gives the cell of an entry."""

    def rule(context, equation, *arguments):
        shape = equation.outvars[0].aval.shape
        lifted = [context.lift(each, len(shape)) for each in arguments]
        one = functools.partial(build, context.cells, equation.params)
        cells = np.frompyfunc(one, len(lifted), 1)(*lifted)
        return (of_rows(context, np.asarray(cells, object), shape),)

    return rule


def _plain(op):
    return _elementwise(lambda cells, params, *args: cells.apply(op, *args))


def _not_equal(cells, params, a, b):
    return cells.apply("is_nan", a) if a is b else cells.apply("ne", a, b)


def _integer_pow(cells, params, x):
    power, result = abs(params["y"]), x
    for _ in range(power - 1):
        result = cells.apply("mul", result, x)
    return result if params["y"] > 0 else cells.apply("div", cells.literal(1.0), result)


def _convert(cells, params, x):
    kind = np.dtype(params["new_dtype"]).kind
    return x if kind == "b" else cells.apply("float" if kind == "f" else "int", x)


def _same(cells, params, x):
    return x


def _log1p(cells, params, x):
    """log(1 + x), as an engine has it: what 1 + x rounds away is lost, 1e-16 a row."""
    return cells.apply("log", cells.apply("add", cells.literal(1.0), x))


def _expm1(cells, params, x):
    """exp(x) − 1, of which no engine has the name, to the last digits also near zero: there x times
    the quotient of exp(x) − 1 and the logarithm of what exp(x) was rounded to, as W. Kahan does.
    """
    one, power = cells.literal(1.0), cells.apply("exp", x)
    less = cells.apply("sub", power, one)
    quotient = cells.apply("div", less, cells.apply("log", power))
    rounded = cells.apply("eq", power, one)
    near = cells.apply("select", rounded, cells.apply("mul", x, quotient), x)
    small = cells.apply("le", cells.apply("abs", x), cells.literal(0.5))
    return cells.apply("select", small, less, near)


# Shapes.


def _structural(move: Callable) -> Callable:
    """`move(params, shape, cells)` is an operation of numpy; `shape` the new one, of one row."""

    def rule(context, equation, *arguments):
        shape = equation.outvars[0].aval.shape
        one = [1 if size in context.relations else size for size in shape]
        cells = [context.lift(each, np.ndim(getattr(each, "cells", each))) for each in arguments]
        return (of_rows(context, move(equation.params, one, *cells), shape),)

    return rule


def _broadcast(params, shape, cells):
    spread = [1] * len(shape)
    for size, axis in zip(cells.shape, params["broadcast_dimensions"], strict=True):
        spread[axis] = size
    return cells.reshape(spread)


def _slice(params, shape, cells):
    strides = params["strides"] or [1] * cells.ndim
    ends = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return cells[tuple(slice(*end) for end in ends)]


def _pad(params, shape, cells, value):
    if any(x < 0 for lo_hi in params["padding_config"] for x in lo_hi):
        raise unsupported("a negative padding")
    widths = [(low, high) for low, high, _ in params["padding_config"]]
    return np.pad(cells, widths, constant_values=value.ravel()[0])


def _join(params, shape, *cells):
    return np.concatenate(cells, axis=params["dimension"])


def _stack(params, shape, *cells):
    return np.stack(cells, axis=params["axis"])


def _gather(context, equation, x, index):
    """Entries along one axis that is not over rows."""
    numbers = equation.params["dimension_numbers"]
    (axis,), operand = numbers.start_index_map, equation.invars[0].aval.shape
    sizes = [n for i, n in enumerate(equation.params["slice_sizes"]) if i != axis]
    whole = [n for i, n in enumerate(operand) if i != axis]
    if isinstance(index, OfRows) or axis == x.axis or sizes != whole:
        raise unsupported("entries by their numbers")
    taken = np.take(x.cells, np.asarray(index)[..., 0], axis=axis)
    if axis not in numbers.collapsed_slice_dims or taken.ndim != len(
        equation.outvars[0].aval.shape
    ):
        raise unsupported("entries by their numbers")
    return (of_rows(context, taken, equation.outvars[0].aval.shape),)


# Over entries, over rows.


def _reduce(op: str, kind: str) -> Callable:
    """`op` joins the entries of a row; `kind` is what the engine is asked for over rows."""

    def rule(context, equation, x):
        axes = equation.params["axes"]
        cells = x.cells
        inner = tuple(axis for axis in axes if axis != x.axis)
        cells = _fold(context, op, cells, inner)
        if x.axis in axes:
            cells = np.squeeze(cells, tuple(axes))
            rows = context.relations[equation.invars[0].aval.shape[x.axis]]
            return (Later(_ask(kind, cells, rows)),)
        shape = equation.outvars[0].aval.shape
        return (of_rows(context, np.squeeze(cells, inner), shape),)

    return rule


def _fold(context, op, cells, axes):
    join = np.frompyfunc(lambda a, b: context.cells.apply(op, a, b), 2, 1)
    for axis in axes:
        parts = np.split(cells, cells.shape[axis], axis)
        cells = functools.reduce(join, parts)
    return cells


def _ask(kind, cells, rows):
    asked = np.empty(np.shape(cells), object)
    for index, cell in np.ndenumerate(cells):
        asked[index] = Aggregate(kind, cell, rows)
    return asked


def _dot(context, equation, a, b):
    """Sums of products, over entries or over rows."""
    (left, right), (batch_left, batch_right) = equation.params["dimension_numbers"]
    letters = iter(string.ascii_letters)
    shapes = [v.aval.shape for v in equation.invars]
    names = [[""] * len(shape) for shape in shapes]
    for pairs in (zip(batch_left, batch_right, strict=True), zip(left, right, strict=True)):
        for i, j in pairs:
            names[0][i] = names[1][j] = next(letters)
    batch = [names[0][i] for i in batch_left]
    names = [[name or next(letters) for name in each] for each in names]
    summed = [names[0][i] for i in left]
    free = [[n for n in each if n not in batch + summed] for each in names]
    order = [*batch, *free[0], *free[1], *summed]
    product = np.frompyfunc(lambda x, y: context.cells.apply("mul", x, y), 2, 1)(
        *[
            _aligned(context.lift(x, len(shape)), each, order)
            for x, shape, each in zip((a, b), shapes, names, strict=True)
        ]
    )
    over_rows = [
        name
        for x, each in zip((a, b), names, strict=True)
        if isinstance(x, OfRows) and (name := each[x.axis]) in summed
    ]
    inner = tuple(i for i, name in enumerate(order) if name in summed and name not in over_rows)
    cells = _fold(context, "add", product, inner)
    cells = cells.reshape(cells.shape[: len(order) - len(summed)])
    if over_rows:
        length = next(size for size in (*shapes[0], *shapes[1]) if size in context.relations)
        return (Later(_ask("sum", cells, context.relations[length])),)
    return (of_rows(context, cells, equation.outvars[0].aval.shape),)


def _aligned(cells, names, order):
    sizes = dict(zip(names, cells.shape, strict=True))
    present = [name for name in order if name in sizes]
    return cells.transpose([names.index(name) for name in present]).reshape(
        [sizes.get(name, 1) for name in order]
    )


def _top(context, equation, x):
    k = equation.params["k"]
    if x.cells.size != 1:
        raise unsupported("the largest of several columns")
    rows = context.relations[equation.invars[0].aval.shape[x.axis]]
    asked = np.empty((), object)
    asked[()] = Aggregate("top", x.cells.item(), rows, k)
    return Later(asked), None


def _scatter_add(context, equation, start, index, updates):
    """Sums over the rows of each group."""
    shape = equation.outvars[0].aval.shape
    axis = context.axis(shape)
    key = index.cells.item() if isinstance(index, OfRows) and index.cells.size == 1 else None
    if axis is None or key is None or not isinstance(updates, OfRows):
        raise unsupported("sums by a number of the row")
    while key.op in ("int", "float"):
        key = key.args[0]
    groups = context.relations[shape[axis]]
    if groups.key is not key:
        raise unsupported("sums by a number of the row")
    of_group = np.frompyfunc(lambda cell: context.cells.of_group(cell, groups), 1, 1)
    return (of_rows(context, of_group(np.moveaxis(updates.cells, updates.axis, axis)), shape),)


RULES: dict[str, Callable] = {
    **{
        name: _plain(name)
        for name in ("add", "sub", "mul", "div", "neg", "abs", "sign", "exp", "log")
    },
    **{name: _plain(name) for name in ("sqrt", "floor", "max", "min", "is_finite")},
    **{name: _plain(name) for name in ("eq", "lt", "le", "gt", "ge", "and", "or", "not")},
    "ne": _elementwise(_not_equal),
    "pow": _plain("power"),
    "log1p": _elementwise(_log1p),
    "expm1": _elementwise(_expm1),
    "square": _elementwise(lambda cells, params, x: cells.apply("mul", x, x)),
    "integer_pow": _elementwise(_integer_pow),
    "select_n": _plain("select"),
    "convert_element_type": _elementwise(_convert),
    "stop_gradient": _elementwise(_same),
    "copy": _elementwise(_same),
    "broadcast_in_dim": _structural(_broadcast),
    "reshape": _structural(lambda params, shape, cells: cells.reshape(shape)),
    "squeeze": _structural(lambda params, shape, cells: cells.reshape(shape)),
    "expand_dims": _structural(lambda params, shape, cells: cells.reshape(shape)),
    "transpose": _structural(lambda params, shape, x: x.transpose(params["permutation"])),
    "slice": _structural(_slice),
    "pad": _structural(_pad),
    "concatenate": _structural(_join),
    "stack": _structural(_stack),
    "gather": _gather,
    "reduce_sum": _reduce("add", "sum"),
    "reduce_max": _reduce("max", "max"),
    "reduce_min": _reduce("min", "min"),
    "reduce_and": _reduce("and", "min"),
    "reduce_or": _reduce("or", "max"),
    "dot_general": _dot,
    "top_k": _top,
    "scatter-add": _scatter_add,
}

"""A function of JAX computed by a query engine: sums over rows there, all else here.

`run` traces the function once. Then, in rounds: what depends on numbers alone is computed by JAX;
what depends on rows becomes expressions (`primitives`); and one query asks for every sum, maximum
and largest entry that can be asked for by now. The rounds are the passes over the rows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax.warehouse.cells import Aggregate, Cells, Relation, unsupported
from mopl_jax.warehouse.primitives import RULES, Context, Later, OfRows

# Lengths that stand for the number of rows and of groups while a function is traced: primes that
# are no other length. Where such a number is data, as in a mean, it is replaced by the true one.
ROWS, GROUPS = 15_485_863, 15_485_867


class Engine(Protocol):
    """What answers: a number, or the largest entries, for each question."""

    def answer(self, asked: Sequence[Aggregate]) -> Sequence[Any]: ...


class Step(NamedTuple):
    """An equation, with the numbers of its variables; a literal is an array."""

    equation: Any
    inputs: tuple[Any, ...]
    outputs: tuple[int, ...]


def run(function: Callable, columns: Any, arguments: tuple, engine: Engine, sizes: dict) -> Any:
    """`function(columns, *arguments)`, in which columns lie in the engine.

    `columns`: a record of `Column`; of each the function sees an array of `ROWS` rows
    `sizes`: how many rows there are (`ROWS`), and how many groups of the column `key` (`GROUPS`)

    ValueError for what no query computes.
    """
    shapes = jax.tree.map(Column.shape, columns, is_leaf=_is_column)
    closed, out = jax.make_jaxpr(function, return_shape=True)(shapes, *arguments)
    steps, inputs, outputs = _steps(closed, sizes)
    values: dict[int, Any] = {}
    context = _context(columns)
    leaves = [
        *(each.of_rows(context) for each in jax.tree.leaves(columns, is_leaf=_is_column)),
        *jax.tree.leaves(arguments),
    ]
    values.update(zip(inputs, leaves, strict=True))
    _rounds(_needed(steps, outputs), outputs, values, context, engine)
    found = [values[each] if isinstance(each, int) else each for each in outputs]
    return jax.tree.unflatten(jax.tree.structure(out), found)


class Column(NamedTuple):
    """Columns of the base table by their names: one, or several side by side.

    `names`: one name, or a tuple
    `whole`: whether they hold whole numbers, or what groups are told apart by
    """

    names: Any
    whole: bool = False

    def shape(self) -> jax.ShapeDtypeStruct:
        """What the function sees."""
        several = () if isinstance(self.names, str) else (len(self.names),)
        return jax.ShapeDtypeStruct((ROWS, *several), jnp.int64 if self.whole else jnp.float64)

    def of_rows(self, context: Context) -> OfRows:
        """The cells of a row."""
        base, cells = context.relations[ROWS], context.cells
        if isinstance(self.names, str):
            return OfRows(np.array([cells.column(self.names, base)], object), 0)
        return OfRows(np.array([[cells.column(name, base) for name in self.names]], object), 0)


def _is_column(x):
    return isinstance(x, Column)


def _context(columns):
    cells = Cells()
    key = next((x for x in jax.tree.leaves(columns, is_leaf=_is_column) if x.whole), None)
    base = Relation()
    relations = {ROWS: base}
    if key is not None:
        relations[GROUPS] = Relation(cells.column(key.names, base))
    return Context(cells, relations)


# The steps of a function, those of functions that it calls among them.

_CALLS = {
    **dict.fromkeys(("jit", "pjit"), "jaxpr"),
    **dict.fromkeys(("closed_call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
}


def _steps(closed, sizes: Mapping[int, int]):
    steps: list[Step] = []
    count = iter(range(2**62))

    def atom(known, variable):
        if hasattr(variable, "val"):
            return _true(np.asarray(variable.val), sizes)
        return known[variable]

    def walk(jaxpr, consts, arguments):
        known = dict(zip(jaxpr.constvars, [_true(x, sizes) for x in consts], strict=True))
        known |= dict(zip(jaxpr.invars, arguments, strict=True))
        for equation in jaxpr.eqns:
            inputs = tuple(atom(known, each) for each in equation.invars)
            inner = equation.params.get(_CALLS.get(equation.primitive.name, ""))
            if inner is None:
                outputs = tuple(next(count) for _ in equation.outvars)
                steps.append(Step(equation, inputs, outputs))
            else:
                outputs = walk(inner.jaxpr, inner.consts, inputs)
            known |= dict(zip(equation.outvars, outputs, strict=True))
        return tuple(atom(known, each) for each in jaxpr.outvars)

    inputs = tuple(next(count) for _ in closed.jaxpr.invars)
    return steps, inputs, walk(closed.jaxpr, closed.consts, inputs)


def _true(value, sizes):
    """The number of rows or groups where a length that stands for it is data."""
    if getattr(value, "shape", None) == () and jnp.issubdtype(value.dtype, np.number):
        size = sizes.get(int(value)) if np.isfinite(value) else None
        return value if size is None else np.asarray(size, value.dtype)
    return value


def _needed(steps, outputs) -> list[Step]:
    wanted = {each for each in outputs if isinstance(each, int)}
    kept = []
    for step in reversed(steps):
        if wanted.intersection(step.outputs):
            wanted.update(each for each in step.inputs if isinstance(each, int))
            kept.append(step)
    return kept[::-1]


# Rounds.


def _rounds(steps, outputs, values, context, engine):
    """All steps, as far in each round as numbers and expressions go, then a query.

    Groups are asked last, when all sums over their rows are known that will be.
    """
    later: dict[int, tuple[Later, Any]] = {}
    while steps or later:
        steps = _compute(steps, outputs, values, context)
        steps, more = _express(steps, values, context)
        later |= more
        if steps and not later:
            raise unsupported(f"the step {steps[0].equation.primitive.name}")
        now = {n: x for n, x in later.items() if x[0].relation.key is None} or later
        later = {n: x for n, x in later.items() if n not in now}
        unique = list(dict.fromkeys(x for value, _ in now.values() for x in value.asked.flat))
        found = dict(zip(unique, engine.answer(unique) if unique else (), strict=True))
        for number, (value, aval) in now.items():
            values[number] = _filled(value, aval, found)


def _compute(steps, outputs, values, context) -> list[Step]:
    """Run what depends on numbers alone, as one compiled function; the steps that are left."""
    ready, known = [], {n for n, value in values.items() if not isinstance(value, OfRows)}
    for step in steps:
        lengths = [context.axis(v.aval.shape) for v in step.equation.outvars]
        numbers = all(not isinstance(each, int) or each in known for each in step.inputs)
        if numbers and not any(axis is not None for axis in lengths):
            ready.append(step)
            known.update(step.outputs)
    if not ready:
        return steps
    done = {id(step) for step in ready}
    left = [step for step in steps if id(step) not in done]
    uses = [*outputs, *(each for step in left for each in step.inputs)]
    wanted = {each for each in uses if isinstance(each, int)}
    made = [n for step in ready for n in step.outputs if n in wanted]
    given = sorted({n for step in ready for n in step.inputs if isinstance(n, int)} & {*values})

    @jax.jit
    def compute(arguments):
        here = dict(zip(given, arguments, strict=True))
        for step in ready:
            inputs = [here[n] if isinstance(n, int) else jnp.asarray(n) for n in step.inputs]
            bound = step.equation.primitive.get_bind_params(step.equation.params)
            functions, params = bound if isinstance(bound, tuple) else ((), bound)
            found = step.equation.primitive.bind(*functions, *inputs, **params)
            several = step.equation.primitive.multiple_results
            here |= dict(zip(step.outputs, found if several else [found], strict=True))
        return [here[n] for n in made]

    found = jax.device_get(compute([values[n] for n in given]))
    values.update(zip(made, found, strict=True))
    return left


def _express(steps, values, context):
    """Turn what depends on rows into expressions; the steps that are left, and what is to be asked
    for, by the numbers of its values.
    """
    left, later = [], {}
    for step in steps:
        if not all(not isinstance(each, int) or each in values for each in step.inputs):
            left.append(step)
            continue
        name = step.equation.primitive.name
        if name not in RULES:
            raise unsupported(name)
        arguments = [values[n] if isinstance(n, int) else n for n in step.inputs]
        found = RULES[name](context, step.equation, *arguments)
        for number, value, variable in zip(step.outputs, found, step.equation.outvars, strict=True):
            if isinstance(value, Later):
                later[number] = value, variable.aval
            elif value is not None:
                values[number] = value
    return left, later


def _filled(value: Later, aval, found) -> np.ndarray:
    """The answers in the shape of a value; of fewer rows than `top` asks for the others are −∞."""
    if value.asked.ndim == 0 and value.asked.item().kind == "top":
        largest = np.asarray(found[value.asked.item()], aval.dtype)
        return np.pad(largest, (0, aval.shape[0] - len(largest)), constant_values=-np.inf)
    filled = [found[each] for each in value.asked.flat]
    return np.array(filled, aval.dtype).reshape(aval.shape)

"""Questions about cells as queries of ibis: layers of columns, then sums over all rows or groups.

A cell that several others are made of becomes a column of its own in a layer of its own, a query
in the next one's FROM; all others are written where they stand.
"""

import contextlib
import logging
import operator
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mopl_jax.warehouse.cells import Aggregate, Cell, Relation, unsupported
from mopl_jax.warehouse.connection import complaints

LOG = logging.getLogger(__name__)
_KEPT = {  # how an engine makes and drops a table that is seen by this session alone
    "": ("CREATE TEMPORARY TABLE {} AS {}", "DROP TABLE {}"),
    "pyspark": ("CACHE TABLE {} AS {}", "UNCACHE TABLE {}"),
}
_INLINE = {"duckdb": "NOT MATERIALIZED "}  # a layer is a view, not a table
IEEE = ("duckdb",)  # engines that divide by zero, and take logarithms of it, as IEEE 754 says


class Queries:
    """A base table in an engine, and what has been asked of it.

    `table`: of ibis
    `name`: what complaints call it

    Every query is logged before it runs, to `LOG` at level INFO.
    """

    def __init__(self, table: Any, name: str):
        self.table, self.name = table, name
        self.engine = table.get_backend()
        self._groups: dict[Relation, tuple[Any, dict[Cell, str]]] = {}
        self._made: list[str] = []

    def of(self, table: Any) -> "Queries":
        """Queries of another table in this engine."""
        return Queries(table, self.name)

    # Questions.

    def rows(self, expression: Any, layers: Sequence[str] = ()) -> list[dict]:
        """The rows of a small table; ValueError where the engine fails."""
        return self.arrow(expression, layers).to_pylist()

    def arrow(self, expression: Any, layers: Sequence[str] = ()) -> Any:
        """The rows of a table, as one of pyarrow; ValueError where the engine fails."""
        with complaints(self.name):
            text = self._text(expression, layers)
            LOG.info("%s;", text)
            found = self.engine.sql(text, schema=expression.schema())
            return self.engine.to_pyarrow(found)

    def layer(self, expression: Any, before: Sequence[str] = ()) -> tuple[Any, list[str]]:
        """A table whose columns are not written out again where they are used, and the queries
        that its name stands for.
        """
        import ibis

        name, hint = f"mopl_layer_{len(before) + 1}", _INLINE.get(self.engine.name, "")
        with complaints(self.name):
            text = f"{name} AS {hint}({self.engine.compile(expression)})"
        return ibis.table(expression.schema(), name=name), [*before, text]

    def answer(self, asked: Sequence[Aggregate]) -> list[Any]:
        """What is asked for: everything over all rows in one query, each `top` in one."""
        found: dict[Aggregate, Any] = {}
        totals = [each for each in asked if each.kind != "top"]
        for relation in dict.fromkeys(each.relation for each in totals):
            here = [each for each in totals if each.relation is relation]
            found |= dict(zip(here, self._totals(relation, here), strict=True))
        for each in asked:
            if each.kind == "top":
                found[each] = self._largest(each)
        return [found[each] for each in asked]

    def _totals(self, relation, asked):
        table, layers, write = self._layers(relation, [each.cell for each in asked])
        totals = {
            f"x{k}": _over_rows(each.kind, write(each.cell), table) for k, each in enumerate(asked)
        }
        (row,) = self.rows(table.aggregate(**totals), layers)
        return list(row.values())

    def _largest(self, asked):
        table, layers, write = self._layers(asked.relation, [asked.cell])
        column = table.select(x=write(asked.cell))
        falling = column.order_by(column.x.desc()).limit(asked.k)
        return [row["x"] for row in self.rows(falling, layers)]

    def _text(self, expression, layers):
        text = self.engine.compile(expression)
        return f"WITH {', '.join(layers)} {text}" if layers else text

    # Groups.

    def _base(self, relation, roots):
        """The table of a relation, and the names of the columns that cells are."""
        if relation.key is None:
            return self.table, {}
        if relation not in self._groups:
            self._groups[relation] = self._make_groups(relation)
        if not {cell for cell in _reachable(roots) if cell.op == "of_group"} <= {
            *self._groups[relation][1]
        }:
            raise unsupported("sums over users that depend on other such sums")
        return self._groups[relation]

    def _make_groups(self, relation):
        cells = list(relation.sums)
        totals = [cell.args[0] for cell in cells]
        table, layers, write = self._layers(relation.key.relation, [relation.key, *totals])
        names = {cell: f"g{k}" for k, cell in enumerate(cells)}
        sums = {name: _over_rows("sum", write(cell.args[0]), table) for cell, name in names.items()}
        grouped = table.group_by(key=write(relation.key)).aggregate(**sums)
        return self._kept(grouped, layers), names

    def _kept(self, expression, layers):
        """A table that the engine keeps until `close`."""
        name = f"mopl_{uuid.uuid4().hex[:12]}"
        make, _ = _KEPT.get(self.engine.name, _KEPT[""])
        with complaints(self.name):
            self._run(make.format(name, self._text(expression, layers)))
            self._made.append(name)
            return self.engine.sql(f"SELECT * FROM {name}", schema=expression.schema())

    def _run(self, text):
        LOG.info("%s;", text)
        self.engine.raw_sql(text)

    def close(self) -> None:
        """Drop what the engine has kept."""
        _, drop = _KEPT.get(self.engine.name, _KEPT[""])
        while self._made:
            with contextlib.suppress(Exception):  # an engine that is gone has dropped it
                self._run(drop.format(self._made.pop()))

    # Layers.

    def _layers(self, relation, roots):
        """A table with a column for each cell that several are made of, the queries that its name
        stands for, and a function that writes cells in it.
        """
        table, names = self._base(relation, roots)
        levels, names, layers, memo = _levels(roots, names), dict(names), [], {}
        for level in range(max(levels.values(), default=-1) + 1):
            own = [cell for cell, at in levels.items() if at == level]
            made = {f"v{k}": cell for k, cell in enumerate(levels) if levels[cell] == level}
            later = [cell for cell, at in levels.items() if at > level]
            read = _read(later, roots, levels) - {*own, *later}
            kept = {self._name(cell, names): self._write(cell, table, names, {}) for cell in read}
            new = {name: self._written(cell, table, names, {}) for name, cell in made.items()}
            chosen = table.select(**kept, **new)
            table, layers = self.layer(chosen, layers)
            names = names | {cell: name for name, cell in made.items()}
        return table, layers, lambda cell: self._write(cell, table, names, memo)

    def _name(self, cell, names):
        return names[cell] if cell in names else cell.args[0]

    def _write(self, cell, table, names, memo):
        if cell not in memo:
            known = cell in names
            memo[cell] = table[names[cell]] if known else self._written(cell, table, names, memo)
        return memo[cell]

    def _written(self, cell, table, names, memo):
        import ibis

        if cell.op == "literal":
            return _literal(ibis, cell.value)
        if cell.op == "column":
            return table[cell.args[0]]
        arguments = [self._write(each, table, names, memo) for each in cell.args]
        if cell.op in _NOT_FINITE:
            return _NOT_FINITE[cell.op](self.engine, *arguments)
        if self.engine.name not in IEEE and cell.op in _GUARDED:
            return _GUARDED[cell.op](ibis, *arguments)
        return _WRITTEN[cell.op](ibis, *arguments)


def _read(made, written, levels) -> set[Cell]:
    """The columns that cells are read from which are yet to be `made` columns, or `written`."""
    found: set[Cell] = set()
    seen: set[Cell] = set()

    def visit(cell):
        if cell in levels or cell.op in ("column", "of_group"):
            found.add(cell)
        elif cell not in seen:
            seen.add(cell)
            inside(cell)

    def inside(cell):
        for each in cell.args if cell.op not in _LEAVES else ():
            visit(each)

    for cell in made:
        inside(cell)
    for cell in written:
        visit(cell)
    return found


def _reachable(roots):
    """All cells that some cells are made of, after those that they are made of."""
    found: dict[Cell, None] = {}

    def visit(cell):
        if cell not in found:
            for each in cell.args if cell.op not in _LEAVES else ():
                visit(each)
            found[cell] = None

    for root in roots:
        visit(root)
    return list(found)


_LEAVES = ("literal", "column", "of_group")


def _levels(roots, known) -> dict[Cell, int]:
    """The layer of each cell that becomes a column: after those of the cells it is made of."""
    cells = _reachable(roots)
    uses = Counter(each for cell in cells if cell.op not in _LEAVES for each in cell.args)
    uses.update(roots)
    levels: dict[Cell, int] = {}
    first: dict[Cell, int] = {}
    for cell in cells:
        if cell in known or cell.op in _LEAVES:
            first[cell] = 0
            continue
        first[cell] = max(levels[x] + 1 if x in levels else first[x] for x in cell.args)
        if uses[cell] > 1:
            levels[cell] = first[cell]
    return levels


def _over_rows(kind, x, table):
    if x.op().shape.is_columnar():
        return getattr(x.cast("float64"), kind)()
    return x * table.count().cast("float64") if kind == "sum" else x


def _literal(ibis, value):
    """A number as text that is read back exactly: 0.1 may be a decimal to an engine."""
    if isinstance(value, float) and value - value == 0:
        return ibis.literal(repr(value)).cast("float64")
    return ibis.literal(value, "float64") if isinstance(value, float) else ibis.literal(value)


def _binary(operation):
    return lambda ibis, a, b: operation(a, b)


_WRITTEN: dict[str, Callable] = {
    **{
        name: _binary(getattr(operator, word))
        for name, word in {
            "add": "add",
            "sub": "sub",
            "mul": "mul",
            "div": "truediv",
            "power": "pow",
            "eq": "eq",
            "ne": "ne",
            "lt": "lt",
            "le": "le",
            "gt": "gt",
            "ge": "ge",
            "and": "and_",
            "or": "or_",
        }.items()
    },
    "not": lambda ibis, x: ~x,
    "neg": lambda ibis, x: -x,
    "abs": lambda ibis, x: x.abs(),
    "sign": lambda ibis, x: x.sign().cast("float64"),
    "exp": lambda ibis, x: x.exp(),
    "log": lambda ibis, x: x.ln(),
    "sqrt": lambda ibis, x: x.sqrt(),
    "floor": lambda ibis, x: floor(x),
    "max": lambda ibis, a, b: ibis.greatest(a, b),
    "min": lambda ibis, a, b: ibis.least(a, b),
    "select": lambda ibis, condition, no, yes: condition.ifelse(yes, no),
    "float": lambda ibis, x: x.cast("float64"),
    "int": lambda ibis, x: x.cast("int64"),
}


def is_nan(engine: Any, x: Any) -> Any:
    """Whether entries are NaN; in an engine that has no word for it, whether they are unlike
    themselves.
    """
    from ibis.expr.operations import IsNan

    return x.isnan() if engine.has_operation(IsNan) else x != x


def is_infinite(engine: Any, x: Any) -> Any:
    """Whether entries are infinite."""
    from ibis.expr.operations import IsInf

    return x.isinf() if engine.has_operation(IsInf) else x.abs() > float(np.finfo(np.float64).max)


_NOT_FINITE = {
    "is_nan": is_nan,
    "is_finite": lambda engine, x: ~(is_nan(engine, x) | is_infinite(engine, x)),
}


def rounded(column: Any, decimals: int) -> Any:
    """Whether entries are rounded to so many decimals, as `io.precision.decimals_of` sees it."""
    import ibis

    scaled = column * 10.0**decimals
    slack = ibis.least(1e-9 + 2.0**-24 * scaled.abs(), 0.1)
    return (scaled - nearest(scaled)).abs() <= slack


def nearest(x: Any) -> Any:
    """The whole number nearest to each entry."""
    return floor(x + 0.5)


def floor(x: Any) -> Any:
    """The largest whole number up to each entry: itself where floats are no finer, and where an
    engine's whole numbers end.
    """
    import ibis

    fine = x.abs() < 2.0**52
    return fine.ifelse(fine.ifelse(x, ibis.literal(0.0)).floor().cast("float64"), x)


def _guarded_log(ibis, x):
    end = (x == 0).ifelse(_literal(ibis, -float("inf")), _literal(ibis, float("nan")))
    return (x > 0).ifelse(x.ln(), end)


def _guarded_division(ibis, a, b):
    none, infinite = _literal(ibis, float("nan")), _literal(ibis, float("inf"))
    end = (a > 0).ifelse(infinite, (a < 0).ifelse(-infinite, none))
    return (b == 0).ifelse(end, a / b.nullif(_literal(ibis, 0.0)))


_GUARDED = {"log": _guarded_log, "div": _guarded_division}

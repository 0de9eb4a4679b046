"""Columns in columns: the fields of a structure, and the entries of a map, are columns
`outer.inner` of their own.

Vowpal Wabbit's dsjson of continuous actions is read so: `_label_ca.action`, `_label_ca.pdf_value`,
and `_label_ca.cost` with its negative `_label_ca.reward`.
"""

from typing import NamedTuple

import pyarrow as pa

from mopl_jax.io.arrow import kernels as pc
from mopl_jax.io.kinds import is_nested
from mopl_jax.io.source import Piece, Source

LABEL = {"action", "cost", "pdf_value"}  # the fields of a structure that is Vowpal Wabbit's label


class Inner(NamedTuple):
    """A column in another.

    `path`: the names from the outermost on.
    `type`: of its values.
    `key`: whether the last name is a key of a map.
    `minus`: whether values are negated.
    """

    path: tuple[str, ...]
    type: pa.DataType
    key: bool = False
    minus: bool = False


def flat(source: Source) -> Source:
    """The source with the columns that are in others after its own."""
    outer = [field for field in source.schema if is_nested(field.type)]
    if not outer:
        return source
    maps = {field.name: _keys(source, field) for field in outer if pa.types.is_map(field.type)}
    inner = [x for field in outer for x in _inner((field.name,), field.type, maps)]
    columns = {".".join(x.path): x for x in inner}
    columns = {name: x for name, x in columns.items() if name not in source.schema.names}
    fields = [*source.schema, *((name, x.type) for name, x in columns.items())]
    schema = pa.schema(fields, metadata=source.schema.metadata)

    def scan(names, text):
        roots = [columns[name].path[0] if name in columns else name for name in names]
        for piece in source.scan(list(dict.fromkeys(roots)), text):
            arrays = [_column(piece, name, columns, maps) for name in names]
            yield piece._replace(rows=pa.RecordBatch.from_arrays(arrays, names=list(names)))

    return source._replace(schema=schema, scan=scan)


def _keys(source, field) -> tuple[str, ...]:
    """The keys of the first row's map."""
    for piece in source.scan([field.name], ()):
        first = next((x for x in piece.rows.column(field.name).to_pylist() if x), None)
        if first is not None:
            return tuple(str(key) for key, _ in first)
    return ()


def _inner(path, kind, maps):
    if pa.types.is_map(kind):
        keys = maps.get(path[0], ()) if len(path) == 1 else ()
        yield from (Inner((*path, key), kind.item_type, key=True) for key in keys)
        return
    for field in kind:
        here = (*path, field.name)
        if is_nested(field.type):
            yield from _inner(here, field.type, maps)
        else:
            yield Inner(here, field.type)
    if {field.name for field in kind} >= LABEL:
        yield Inner((*path, "reward"), pa.float64(), minus=True)


def _column(piece: Piece, name, columns, maps):
    if name not in columns:
        return piece.rows.column(name)
    root, *rest = columns[name].path
    outer = piece.rows.column(root)
    if columns[name].key:
        return _entry(piece, outer, root, rest[0], len(maps[root]))
    if columns[name].minus:
        cost = pc.struct_field(outer, [*rest[:-1], "cost"])
        return pc.negate(cost.cast(pa.float64()))
    return pc.struct_field(outer, rest)


def _entry(piece, outer, root, key, entries):
    """What a map has at a key; ValueError where a row has more entries than the first."""
    most = pc.max(pc.list_value_length(outer.cast(_as_list(outer.type)))).as_py()
    if most is not None and most > entries:
        raise ValueError(
            f"{piece.place}: column {root!r}: expected {entries} entries in each row, as in the"
            f" first, got {most}; all actions have the same weights"
        )
    return pc.map_lookup(outer, pa.scalar(key, outer.type.key_type), "first")


def _as_list(kind):
    entry = pa.struct([pa.field("key", kind.key_type, False), pa.field("value", kind.item_type)])
    return pa.list_(pa.field("entries", entry, False))
